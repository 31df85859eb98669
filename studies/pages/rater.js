'use strict';
// One pair at a time: an answer is sent at once, and again until the server has it. Nothing is shown of a pair before
// both of its pictures are there, so the time that one takes to load tells nothing.
(function () {
  const $ = (id) => document.getElementById(id);
  const QUESTIONS = {overall: ['Which picture do you ', 'prefer overall'], alignment: ['Which picture ', 'follows the text better']};
  const KEYS = {1: 'left', ArrowLeft: 'left', 2: 'same', ArrowDown: 'same', 3: 'right', ArrowRight: 'right'};
  const buttons = [...document.querySelectorAll('#answers button')];
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  let state = null, shownAt = 0, askedAt = 0, ready = false, sending = false, screen = '', told = 0;

  function show(name) {
    screen = name;
    for (const each of ['welcome', 'rating', 'paused', 'finished']) $(each).hidden = each !== name;
  }

  function tell(text, forMs) {
    const mine = ++told;
    $('trouble').textContent = text;
    $('trouble').hidden = !text;
    if (text && forMs) setTimeout(() => { if (mine === told) tell(''); }, forMs);
  }

  async function ask(path, body) {
    // Ask until there is an answer that can be understood.
    const options = body ? {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)} : {};
    for (let wait = 500; ; wait = Math.min(2 * wait, 5000)) {
      let said = body ? 'The server cannot be reached. Your last answer is not kept yet; trying again…'
                      : 'The server cannot be reached; trying again…';
      try {
        const reply = await fetch(path, options);
        if (reply.status === 401) said = 'This page has lost its way: open your link again.';
        else {
          const found = await reply.json();
          if (reply.status < 500) { tell(''); return found; }
          said = found.error;
        }
      } catch (error) { /* away, or no JSON: try again */ }
      tell(said);
      await sleep(wait);
    }
  }

  function lock() { for (const each of buttons) each.disabled = !ready || sending; }

  async function loaded(image, name) {
    for (let wait = 300; ; wait = Math.min(2 * wait, 5000)) {
      image.src = 'pictures/' + name;
      try {
        await image.decode();
        image.classList.toggle('small', image.naturalWidth <= 160);
        return;
      } catch (error) {
        if (!state || !state.pictures || !state.pictures.includes(name)) return;
        tell('A picture could not be loaded; trying again…', 3000);
        image.removeAttribute('src');
        await sleep(wait);
      }
    }
  }

  async function render(next) {
    const another = !state || state.position !== next.position;
    state = next;
    if (next.error) tell(next.error, 6000);
    $('bar').max = next.of;
    $('bar').value = next.done;
    $('count').textContent = (Math.min(next.done + 1, next.of)) + ' of ' + next.of;
    if (next.finished) {
      $('thanks').textContent = 'All ' + next.of + ' pairs are answered.';
      show('finished');
      return;
    }
    const [before, what] = QUESTIONS[next.question], strong = document.createElement('strong');
    strong.textContent = what;
    $('question').replaceChildren(before, strong, '?');
    askedAt = performance.now();
    if (another) {
      ready = false;
      lock();
      $('pair').classList.add('waiting');
      $('prompt').textContent = next.prompt;
      $('prompt').scrollTop = 0;
      await Promise.all([loaded($('left'), next.pictures[0]), loaded($('right'), next.pictures[1])]);
      if (state !== next) return;
      $('pair').classList.remove('waiting');
      ready = true;
      shownAt = askedAt = performance.now();
      for (const name of next.next || []) new Image().src = 'pictures/' + name;
    }
    lock();
  }

  async function answer(value) {
    if (screen !== 'rating' || !ready || sending) return;
    sending = true;
    lock();
    const seconds = Math.round(performance.now() - (state.question === 'overall' ? shownAt : askedAt)) / 1000;
    const {rater, position, question, key} = state;
    const next = await ask('answer', {rater, position, question, key, answer: value, seconds});
    sending = false;
    await render(next);
  }

  function go() {
    show('rating');
    shownAt = askedAt = performance.now();
  }

  for (const each of buttons) {
    each.addEventListener('click', (event) => {
      // The second click of a double click is no answer to the next question.
      if (event.detail === 0 || performance.now() - askedAt > 250) answer(each.dataset.answer);
    });
  }
  document.addEventListener('keydown', (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Escape' && screen === 'rating') { $('pause').click(); return; }
    if (screen !== 'rating' || !(event.key in KEYS)) return;
    event.preventDefault();
    answer(KEYS[event.key]);
  });
  $('begin').addEventListener('click', go);
  $('resume').addEventListener('click', go);
  $('pause').addEventListener('click', () => { show('paused'); $('resume').focus(); });
  document.addEventListener('visibilitychange', async () => {
    // Another device may have gone on meanwhile.
    if (document.hidden || sending || screen === 'finished') return;
    const next = await ask('state');
    if (!sending) await render(next);
  });

  ask('state').then(async (first) => {
    if (first.error) { tell(first.error); return; }
    $('greeting').textContent = first.done
      ? 'Welcome back. ' + first.done + ' of ' + first.of + ' pairs are answered; it goes on with the next.'
      : 'There are ' + first.of + ' pairs of pictures.';
    $('begin').textContent = first.done ? 'Go on' : 'Begin';
    show('welcome');
    $('begin').focus();
    await render(first);
  });
})();

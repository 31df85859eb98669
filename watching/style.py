"""The live page's style sheet, which continues that of reports, and its script."""

from __future__ import annotations

from ..reports.style import CSS as REPORT

CSS = (
    REPORT
    + """
main { max-width:1080px; padding-top:22px; }
h1 { overflow-wrap:anywhere; margin:.1em 0 .4em; } h2 { margin:40px 0 6px; }
header { padding-bottom:18px; margin-bottom:8px; }
.bar { display:flex; flex-wrap:wrap; justify-content:space-between; gap:4px 18px; font-size:.84rem; color:var(--soft);
  margin-bottom:26px; }
.bar a { color:var(--accent); text-decoration:none; } .bar a:hover { text-decoration:underline; }
.bar > span:first-child { overflow-wrap:anywhere; min-width:0; }
#live::before { content:""; display:inline-block; width:.6em; height:.6em; border-radius:50%; margin-right:.5em;
  background:var(--accent); }
#live.lost::before { background:var(--warn); }
a { color:var(--accent); }
progress { width:100%; height:12px; appearance:none; border:0; border-radius:99px; background:var(--code);
  overflow:hidden; display:block; margin:18px 0 10px; }
progress::-webkit-progress-bar { background:var(--code); border-radius:99px; }
progress::-webkit-progress-value { background:var(--accent); border-radius:99px; transition:width .5s; }
progress::-moz-progress-bar { background:var(--accent); border-radius:99px; }
.pill.running::before { content:""; display:inline-block; width:.5em; height:.5em; border-radius:50%;
  background:currentColor; margin-right:.5em; vertical-align:.1em; animation:breathe 2s infinite; }
@keyframes breathe { 50% { opacity:.25; } }
@media (prefers-reduced-motion: reduce) { .pill.running::before { animation:none; }
  progress::-webkit-progress-value { transition:none; } }
.pill.unreported, .pill.damaged { color:var(--warn); }
.runs { display:grid; gap:12px; margin:14px 0; padding:0; list-style:none; }
.runs li { background:var(--card); border:1px solid var(--rule); border-radius:8px; padding:14px 18px; min-width:0; }
.runs h3 { margin:0; font-size:1.02rem; overflow-wrap:anywhere; } .runs h3 a { text-decoration:none; }
.runs h3 .pill { vertical-align:.1em; }
.runs p { margin:.3em 0 0; font-size:.9rem; color:var(--soft); max-width:none; }
.runs progress { margin:10px 0 2px; height:8px; }
.runs b.up { color:var(--accent); font-weight:600; } .runs b { color:var(--ink); font-weight:600; }
.plot { margin:12px 0; background:var(--card); border:1px solid var(--rule); border-radius:8px; padding:12px 14px 8px; }
.plot svg.wide, .plot svg.narrow { width:100%; height:auto; display:block; } .plot svg.narrow { display:none; }
.plot text { font:12px ui-sans-serif,system-ui,sans-serif; fill:var(--soft); font-variant-numeric:tabular-nums; }
.plot text.y { text-anchor:end; } .plot text.x { text-anchor:middle; }
.plot path { fill:none; stroke-width:2.2; stroke-linejoin:round; stroke-linecap:round; }
.plot path.grid { stroke:var(--rule); stroke-width:1; }
.plot path.level { stroke:#8b93a1; stroke-width:1.6; stroke-dasharray:6 5; }
.plot path.thin { stroke-width:1.3; stroke-dasharray:1.5 3.5; }
.legend { display:flex; flex-wrap:wrap; gap:2px 18px; list-style:none; margin:0 0 6px; padding:0; font-size:.82rem;
  color:var(--soft); } .legend li { min-width:0; overflow-wrap:anywhere; }
.legend svg.key { width:22px; height:8px; margin-right:6px; vertical-align:.1em; }
.two { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr)); gap:0 18px; }
.plots h3 { margin:14px 0 -6px; }
.members td, .members th { white-space:nowrap; }
"""
    + "".join(
        f".plot path.c{n} {{ stroke:{colour}; }} .plot circle.c{n} {{ fill:{colour}; }}\n"
        for n, colour in enumerate(
            ("#149c8c", "#4f83dd", "#b07cc6", "#e0823d", "#c9568c", "#8a9a2e", "#3aa0c9", "#d14b4b")
        )
    )
    + """
@media (max-width:620px) { .plot svg.wide { display:none; } .plot svg.narrow { display:block; }
  .plot { padding:10px 6px 6px; } .stats { gap:10px 22px; } main { padding-top:16px; } }
"""
)

SCRIPT = """
(function () {
  'use strict';
  const state = document.getElementById('live'), seen = new Map();
  let stream = null, skew = 0;
  function ago(seconds) {
    if (!(seconds >= 2)) return 'just now';
    for (const [size, name] of [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']]) {
      if (seconds >= 2 * size || size === 1) return Math.floor(seconds / size) + ' ' + name + ' ago';
    }
  }
  function clocks() {
    for (const each of document.querySelectorAll('time[data-at]')) {
      const text = ago((Date.now() + skew) / 1000 - Number(each.dataset.at));
      if (each.textContent !== text) each.textContent = text;
    }
  }
  function say(text, lost) {
    if (state.textContent !== text) state.textContent = text;
    state.classList.toggle('lost', lost);
  }
  function show(told) {
    skew = told.now * 1000 - Date.now();
    if (document.title !== told.title) document.title = told.title;
    for (const [name, html] of Object.entries(told.parts)) {
      const place = document.getElementById('part-' + name);
      if (!place || seen.get(name) === html) continue;
      const opened = new Set([...place.querySelectorAll('details[open]')].map((each) => each.id));
      place.innerHTML = html;  // the server has escaped it, and the policy lets no script run in it
      for (const each of place.querySelectorAll('details')) if (opened.has(each.id)) each.open = true;
      seen.set(name, html);
    }
    clocks();
  }
  function listen() {
    if (stream) return;
    stream = new EventSource(document.body.dataset.events);
    stream.onopen = function () { say('live', false); };
    stream.onmessage = function (event) { say('live', false); show(JSON.parse(event.data)); };
    stream.onerror = function () {
      const refused = stream && stream.readyState === EventSource.CLOSED;
      say(refused ? 'no longer told: open the link again' : 'not connected, trying again', true);
    };
  }
  function rest() { if (stream) { stream.close(); stream = null; say('resting', false); } }
  // A browser allows few connections to one server: a tab that nobody sees gives its one back.
  document.addEventListener('visibilitychange', function () { if (document.hidden) rest(); else listen(); });
  window.addEventListener('pagehide', rest);
  window.addEventListener('pageshow', listen);
  document.addEventListener('load', function (event) {  // of a picture: a small one is enlarged with sharp pixels
    const image = event.target;
    if (image.tagName === 'IMG' && image.naturalWidth <= 192) image.classList.add('small');
  }, true);
  setInterval(clocks, 1000);
  clocks();
  listen();
})();
"""

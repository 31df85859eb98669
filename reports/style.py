"""The style sheet of the page, and the script that recolours its figures for light, dark and print."""

CSS = """
:root { color-scheme: light dark; --paper:#fbfaf8; --card:#ffffff; --ink:#20242a; --soft:#646b76; --rule:#e4e1db;
  --accent:#0b7d70; --warn:#9a5b00; --warnback:#fff5e2; --code:#f3f1ec; }
@media screen and (prefers-color-scheme: dark) { :root { --paper:#14171b; --card:#1b1f25; --ink:#e5e7ea;
  --soft:#9aa2ae; --rule:#2d333c; --accent:#4cc7b7; --warn:#f0b860; --warnback:#2c2416; --code:#22272e; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin:0; background:var(--paper); color:var(--ink); overflow-wrap:break-word;
  font:16px/1.6 ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
main { max-width:1080px; margin:0 auto; padding:48px 28px 72px; }
header { border-bottom:1px solid var(--rule); padding-bottom:28px; margin-bottom:32px; }
.kicker { color:var(--soft); font-size:.82rem; letter-spacing:.02em; margin:0; }
h1 { font-size:1.65rem; line-height:1.25; margin:.1em 0 .7em; letter-spacing:-.01em; }
h2 { font-size:1.16rem; margin:56px 0 4px; letter-spacing:-.005em; }
h3 { font-size:.95rem; margin:28px 0 4px; }
p { margin:.4em 0 .9em; max-width:74ch; }
.note { color:var(--soft); font-size:.92rem; }
.lede { font-size:1.34rem; line-height:1.45; max-width:52ch; margin:.2em 0 .6em; letter-spacing:-.005em; }
.lede b.up { color:var(--accent); } .lede b { font-weight:650; white-space:nowrap; }
.verdict { background:var(--warnback); color:var(--warn); border-left:3px solid var(--warn); padding:10px 16px;
  border-radius:0 6px 6px 0; max-width:74ch; }
.pill { display:inline-block; font-size:.78rem; font-weight:600; padding:.1em .7em; border-radius:99px;
  border:1px solid currentColor; vertical-align:.28em; margin-left:.6em; color:var(--accent); letter-spacing:0; }
.pill.failed, .pill.interrupted { color:var(--warn); }
.stats { display:flex; flex-wrap:wrap; gap:10px 34px; margin:22px 0 0; padding:0; }
.stats div { min-width:86px; }
.stats dt { color:var(--soft); font-size:.8rem; } .stats dd { margin:0; font-weight:550; }
.gallery { display:grid; grid-template-columns:repeat(auto-fill,minmax(226px,1fr)); gap:18px; margin:16px 0; }
.gallery figure { margin:0; background:var(--card); border:1px solid var(--rule); border-radius:8px; padding:10px;
  break-inside:avoid; }
.pair { display:grid; grid-template-columns:1fr 1fr; gap:8px; }
.pair img { width:100%; height:auto; display:block; border-radius:4px; background:var(--code); }
.pair img.small { image-rendering:pixelated; }
.pair span { display:flex; justify-content:space-between; font-size:.76rem; color:var(--soft); padding-top:3px; }
.pair b { font-weight:600; color:var(--ink); font-variant-numeric:tabular-nums; } .pair b.up { color:var(--accent); }
figcaption { font-size:.86rem; line-height:1.4; margin-top:8px; }
.said { white-space:pre-wrap; overflow-wrap:anywhere; font-size:.92rem; line-height:1.45; }
.said summary { color:inherit; } .said summary b { color:var(--accent); font-weight:500; }
.said details[open] summary { opacity:.55; }
.answers figure { margin:0 0 18px; background:var(--card); border:1px solid var(--rule); border-radius:8px;
  padding:12px; }
.answers figcaption { margin:0 0 10px; color:var(--soft); } .answers .pair span { font-size:.8rem; padding-bottom:3px; }
.answers .pair > div { background:var(--code); border-radius:4px; padding:8px; min-width:0; }
.gallery figcaption { white-space:pre-wrap; overflow-wrap:anywhere; }
.chart { background:var(--card); border:1px solid var(--rule); border-radius:8px; margin:14px 0; padding:6px;
  break-inside:avoid; overflow:hidden; }
.chart .modebar { opacity:0; transition:opacity .2s; } .chart:hover .modebar { opacity:1; }
.side { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr)); gap:0 18px; }
.scroll { overflow-x:auto; margin:14px 0; }
table { border-collapse:collapse; font-variant-numeric:tabular-nums; font-size:.93rem; }
th, td { text-align:right; padding:7px 22px 7px 0; border-bottom:1px solid var(--rule); vertical-align:baseline; }
th { color:var(--soft); font-weight:500; } td { white-space:nowrap; }
tbody th, th:first-child, td:first-child { text-align:left; }
td small { color:var(--soft); display:block; font-size:.8rem; } td.main { font-weight:650; color:var(--accent); }
pre, code { font:.86rem/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; }
pre { background:var(--code); border-radius:8px; padding:14px 18px; overflow-x:auto; margin:10px 0 18px; }
details { margin:14px 0; } summary { cursor:pointer; color:var(--accent); }
footer { margin-top:56px; padding-top:16px; border-top:1px solid var(--rule); color:var(--soft); font-size:.85rem; }
@media (max-width:600px) { main { padding:26px 16px 48px; } .lede { font-size:1.16rem; } .gallery { gap:10px; }
  .answers .pair { grid-template-columns:1fr; } }
@media print { :root { --paper:#fff; } body { font-size:10.5pt; } td { white-space:normal; } table { font-size:.82rem; }
  tr, p { break-inside:avoid; } h2 + .note { break-after:avoid; } th, td { padding-right:12px; }
  main { max-width:none; padding:0; } h2 { break-after:avoid; }
  .chart, .gallery figure { border-color:#ddd; } pre { white-space:pre-wrap; } .modebar { display:none; } }
"""

SCRIPT = """
(function () {
  const dark = window.matchMedia('(prefers-color-scheme: dark)'), print = window.matchMedia('print');
  function colours() {
    const night = dark.matches && !print.matches;
    return night ? {ink: '#c9ced6', rule: '#2d333c', card: '#1b1f25'}
                 : {ink: '#4a515c', rule: '#e8e5df', card: '#ffffff'};
  }
  function dressed(layout) {
    const c = colours(), patch = {'font.color': c.ink, 'hoverlabel.bgcolor': c.card, 'hoverlabel.font.color': c.ink};
    for (const key of Object.keys(layout)) {
      if (!/^[xy]axis[0-9]*$/.test(key)) continue;
      patch[key + '.gridcolor'] = c.rule;
      patch[key + '.linecolor'] = c.rule;
      patch[key + '.zerolinecolor'] = c.rule;
    }
    return patch;
  }
  const charts = [];
  for (const box of document.querySelectorAll('.chart')) {
    const figure = JSON.parse(box.querySelector('script').textContent), target = box.querySelector('.plot');
    const options = {responsive: true, displaylogo: false, showSendToCloud: false, displayModeBar: true,
                     modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d']};
    if (box.clientWidth < 520 && figure.layout.showlegend !== false) {
      // narrow screens: the legend goes below, where it cannot cover the curves
      const below = {x: 0, xanchor: 'left', y: 0, yanchor: 'bottom', yref: 'container'};
      figure.layout.legend = Object.assign({}, figure.layout.legend, below);
      figure.layout.margin = Object.assign({}, figure.layout.margin, {b: 110, t: 28});
      figure.layout.height += 40;
    }
    Plotly.newPlot(target, figure.data, figure.layout, options).then(function () {
      Plotly.relayout(target, dressed(figure.layout));
    });
    charts.push([target, figure.layout]);
  }
  function repaint() { for (const [target, layout] of charts) Plotly.relayout(target, dressed(layout)); }
  dark.addEventListener('change', repaint);
  print.addEventListener('change', function () {
    repaint();
    for (const [target] of charts) Plotly.Plots.resize(target);
  });
})();
"""

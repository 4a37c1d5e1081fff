"""How a report looks: narrow and wide, light and dark, on paper."""

STYLE = """\
:root { color-scheme: light dark; --ink: #1c1f23; --paper: #fff; --faint: #5b6470;
  --line: #d5dae0; --stripe: #f5f7f9; --link: #0b57a4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --paper: #15181c; --faint: #a3acb8; --line: #3a424c;
    --stripe: #1e2329; --link: #7db7f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 1rem 1.25rem 3rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-top: .5rem;
  border-top: 1px solid var(--line); }
a { color: var(--link); }
code { font-size: .9em; }
nav ol { display: flex; flex-wrap: wrap; gap: .15rem 2.2rem; padding-left: 1.4rem; }
.facts { margin: .2rem 0; }
.facts, figcaption, caption, summary { color: var(--faint); font-size: .9rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.25rem; align-items: flex-start; }
figure { margin: 0; max-width: 100%; border: 1px solid var(--line); border-radius: 6px;
  padding: .5rem; width: min-content; }
/* Figures are drawn on white, and stay so in the dark. */
figure img { display: block; max-width: calc(min(100vw, 1200px) - 3.6rem); height: auto;
  background: #fff; border-radius: 3px; }
figcaption { padding: .4rem .25rem 0; }
.table { overflow-x: auto; margin: 1.25rem 0; }
table { border-collapse: collapse; font-size: .9rem; }
caption { text-align: left; padding-bottom: .35rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem .4rem;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; }
td { min-width: 4rem; max-width: 26rem; overflow-wrap: break-word; }
td:first-child { white-space: nowrap; }
header td:nth-child(2), header td:last-child { min-width: 13rem; overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--stripe); }
details { margin-top: .75rem; }
/* A wide figure scrolls on a narrow screen instead of shrinking to nothing. */
@media screen and (max-width: 760px) {
  figure { width: 100%; }
  figure.wide { overflow-x: auto; }
  figure img { max-width: 100%; }
  figure.wide img { max-width: 700px; }
}
@media print {
  body { max-width: none; font-size: 10pt; }
  figure, tr { break-inside: avoid; }
  figure img { max-width: 100%; }
  figure { width: auto; }
}
"""

// Charts as inline SVG, and the look of a summary page. Knows nothing of what is drawn.

export const STYLE = `
:root { color-scheme: light dark; --ink: #222; --soft: #8886; --one: #2563eb; --two: #d97706; --three: #9ca3af }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.2rem } h2 { font-size: 1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .15rem .8rem; text-align: right }
td:first-child, th:first-child { text-align: left } tr + tr { border-top: 1px solid var(--soft) }
svg { width: 100%; height: auto } svg text { font-size: 11px; fill: var(--ink) }
.good { color: #15803d } .bad { color: #dc2626; font-weight: bold }
`;

export const WIDTH = 800;
const HEIGHT = 240;
export const LEFT = 60;
const BOTTOM = 24;
const TOP = 16;

export const y = (value, top) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);

export function line(points, label, color) {
  const path = points.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(' ');
  return `<polyline points="${path}" fill="none" stroke="${color}" stroke-width="2"><title>${label}</title></polyline>`;
}

/** A frame with a scale from zero to `top` milliseconds, labels below, and a legend. */
export function chart(top, labels, lines, series) {
  const scale = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const height = y(top * share, top).toFixed(1);
    return `<line x1="${LEFT}" x2="${WIDTH - 20}" y1="${height}" y2="${height}" stroke="var(--soft)"/>` +
      `<text x="${LEFT - 6}" y="${height}" dy="4" text-anchor="end">${(top * share).toFixed(0)} ms</text>`;
  });
  const below = labels.map(([x, label]) =>
    `<text x="${x.toFixed(1)}" y="${HEIGHT - 6}" text-anchor="middle">${label}</text>`);
  const legend = series.map(([, label, color], index) =>
    `<text x="${LEFT + 20 + index * 80}" y="${TOP - 4}" style="fill: ${color}">${label}</text>`);
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">${[...scale, ...below, ...legend, ...lines].join('\n')}</svg>`;
}

const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
export const escaped = (raw) => String(raw).replace(/[&<>"]/g, (sign) => ENTITIES[sign]);

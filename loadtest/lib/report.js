// The result of a run as text for a terminal and as one HTML page with its charts inline.
// Reads what k6 hands to handleSummary; measures and decides nothing.

const POINTS = ['min', 'p(10)', 'p(25)', 'p(50)', 'p(75)', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'max'];
const SHOWN = ['p(50)', 'p(90)', 'p(95)', 'p(99)', 'max'];

const TRENDS = [
  ['delivery_ms', 'delivery: due until another member has it', 'ms'],
  ['send_ms', 'send: request until accepted', 'ms'],
  ['send_behind_schedule_ms', 'late: due until the request starts', 'ms'],
  ['initial_sync_ms', 'initial sync', 'ms'],
  ['sync_bytes', 'size of a sync answer', 'bytes'],
];

// What must not happen; the words a person reads, and k6's counter.
const WRONGS = [
  ['lost', 'messages_lost'],
  ['received twice', 'messages_duplicated'],
  ['out of order', 'messages_out_of_order'],
  ['never accepted', 'send_failures'],
  ['repeated transactions answered differently', 'transaction_repeats_wrong'],
  ['failed syncs', 'sync_failures'],
];

const count = (data, name) => (data.metrics[name] ? data.metrics[name].values.count : 0);
const at = (data, name, point) => (data.metrics[name] ? data.metrics[name].values[point] : 0) || 0;

function failed(data) {
  return Object.entries(data.metrics).flatMap(([name, metric]) =>
    Object.entries(metric.thresholds || {})
      .filter(([, threshold]) => !threshold.ok)
      .map(([condition]) => `${name}: ${condition}, but it is ${shown_value(metric)}`));
}

function shown_value(metric) {
  const { values } = metric;
  return values.count === undefined ? JSON.stringify(values) : values.count;
}

function heading({ profile, totals }) {
  return `chat ${profile.name}: ${profile.users} users, ${profile.rooms} rooms, ` +
    `${profile.rate} messages a second for ${profile.duration} s ` +
    `(${totals.sent} sent, to be received ${totals.received} times)`;
}

/** The result as text. */
export function text(run, data) {
  const lines = ['', heading(run), ''];
  lines.push(''.padEnd(44) + SHOWN.map((point) => point.padStart(9)).join(''));
  for (const [name, label, unit] of TRENDS) {
    const figures = SHOWN.map((point) => at(data, name, point).toFixed(0).padStart(9)).join('');
    lines.push(`${label.padEnd(44)}${figures} ${unit}`);
  }
  lines.push('');
  lines.push(`sent ${count(data, 'messages_sent')}, received ${count(data, 'messages_received')}, ` +
    `syncs ${count(data, 'syncs')}, timeline gaps read ${count(data, 'timeline_gaps')}, ` +
    `sends tried again ${count(data, 'send_retries')}`);
  lines.push(WRONGS.map(([label, name]) => `${label} ${count(data, name)}`).join(', '));
  const reasons = failed(data);
  lines.push('', reasons.length === 0 ? 'PASSED' : `FAILED\n  ${reasons.join('\n  ')}`, '');
  return lines.join('\n');
}

/** The result as a page. */
export function html(run, data) {
  const reasons = failed(data);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>${escaped(heading(run))}</title>
<style>${STYLE}</style>
<h1>${escaped(heading(run))}</h1>
<p class="${reasons.length ? 'bad' : 'good'}">${reasons.length ? 'Failed' : 'Passed'}</p>
${reasons.map((reason) => `<p class="bad">${escaped(reason)}</p>`).join('\n')}
<h2>How long</h2>
${table(data)}
<h2>Delivery and send by percentile</h2>
${percentiles(data)}
<h2>Delivery over the run</h2>
${over_time(run, data)}
<h2>What must not happen</h2>
<table>${WRONGS.map(([label, name]) => {
    const times = count(data, name);
    return `<tr><td>${label}<td class="${times ? 'bad' : 'good'}">${times}`;
  }).join('')}</table>
</html>
`;
}

const STYLE = `
:root { color-scheme: light dark; --ink: #222; --soft: #8886; --one: #2563eb; --two: #d97706; --three: #9ca3af }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.2rem } h2 { font-size: 1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .15rem .8rem; text-align: right }
td:first-child, th:first-child { text-align: left } tr + tr { border-top: 1px solid var(--soft) }
svg { width: 100%; height: auto } svg text { font-size: 11px; fill: var(--ink) }
.good { color: #15803d } .bad { color: #dc2626; font-weight: bold }
`;

function table(data) {
  const rows = TRENDS.map(([name, label, unit]) => {
    const cells = SHOWN.map((point) => `<td>${at(data, name, point).toFixed(0)}`).join('');
    return `<tr><td>${label} (${unit})${cells}`;
  });
  return `<table><tr><th>${SHOWN.map((point) => `<th>${point}`).join('')}${rows.join('')}</table>`;
}

// === Charts ===

const WIDTH = 800;
const HEIGHT = 240;
const LEFT = 60;
const BOTTOM = 24;
const TOP = 16;

function percentiles(data) {
  const x = (index) => LEFT + ((WIDTH - LEFT - 20) * index) / (POINTS.length - 1);
  const series = [['delivery_ms', 'delivery', 'var(--one)'], ['send_ms', 'send', 'var(--two)']];
  const top = Math.max(...series.map(([name]) => at(data, name, 'max')), 1);
  const lines = series.map(([name, label, color]) =>
    line(POINTS.map((point, index) => [x(index), y(at(data, name, point), top)]), label, color));
  return chart(top, POINTS.map((point, index) => [x(index), point]), lines, series);
}

function over_time({ profile, slices }, data) {
  const x = (slice) => LEFT + ((WIDTH - LEFT - 20) * (slice + 0.5)) / slices;
  const value = (slice, point) => at(data, `delivery_ms{slice:${slice}}`, point);
  const all = Array.from({ length: slices }, (_, slice) => slice);
  const series = [
    ['p(50)', 'p50', 'var(--one)'], ['p(99)', 'p99', 'var(--two)'], ['max', 'max', 'var(--three)'],
  ];
  const top = Math.max(...all.map((slice) => value(slice, 'max')), 1);
  const lines = series.map(([point, label, color]) =>
    line(all.map((slice) => [x(slice), y(value(slice, point), top)]), label, color));
  const labels = all.filter((slice) => slice % 4 === 0)
    .map((slice) => [x(slice), `${Math.round((slice * profile.duration) / slices)} s`]);
  return chart(top, labels, lines, series);
}

const y = (value, top) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);

function line(points, label, color) {
  const path = points.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(' ');
  return `<polyline points="${path}" fill="none" stroke="${color}" stroke-width="2"><title>${label}</title></polyline>`;
}

/** A frame with a scale from zero to `top` milliseconds, labels below, and a legend. */
function chart(top, labels, lines, series) {
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
const escaped = (raw) => String(raw).replace(/[&<>"]/g, (sign) => ENTITIES[sign]);

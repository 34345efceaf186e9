// The result of a run as text for a terminal and as one HTML page with its charts inline.
// Reads what k6 hands to handleSummary; measures and decides nothing.

import { LEFT, STYLE, WIDTH, chart, escaped, line, y } from './chart.js';

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

function table(data) {
  const rows = TRENDS.map(([name, label, unit]) => {
    const cells = SHOWN.map((point) => `<td>${at(data, name, point).toFixed(0)}`).join('');
    return `<tr><td>${label} (${unit})${cells}`;
  });
  return `<table><tr><th>${SHOWN.map((point) => `<th>${point}`).join('')}${rows.join('')}</table>`;
}

// === Charts ===

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

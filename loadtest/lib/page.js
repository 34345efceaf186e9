// The summary of an open-loop run: text for a terminal, one HTML page with its charts inline, and
// k6's figures as they are. Measures and decides nothing.

import { LEFT, STYLE, WIDTH, chart, escaped, line, y } from './chart.js';
import { SLICES } from './load.js';
import { OUT, SCALE } from './world.js';

const SHOWN = ['p(50)', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'max'];
const POINTS = ['min', 'p(10)', 'p(25)', 'p(50)', 'p(75)', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'max'];
const COLORS = ['var(--one)', 'var(--two)', 'var(--three)'];

// What is counted, and what must stay zero.
const COUNTS = [
  ['actions', 'actions'],
  ['messages received', 'messages_received'],
  ['syncs', 'syncs'],
  ['timeline gaps read', 'timeline_gaps'],
];
const WRONGS = [
  ['failed actions', 'actions_failed'],
  ['failed syncs', 'sync_failures'],
  ['messages missing', 'messages_missing'],
  ['messages received twice', 'messages_duplicated'],
  ['arrivals not begun: no virtual user was free', 'dropped_iterations'],
];

const values = (data, name) => (data.metrics[name] ? data.metrics[name].values : {});
const count = (data, name) => values(data, name).count || 0;
const at = (data, name, point) => values(data, name)[point] || 0;

/** The rows of the table of times: delivery, then each action, then initial syncs. */
function rows(data) {
  const names = Object.keys(data.metrics).filter((name) => /^action_ms\{/.test(name)).sort();
  const label = (name) => name.replace(/^action_ms\{action:(.*)\}$/, '$1').replace(/_/g, ' ');
  const all = [
    ['delivery: due until a member has it', 'delivery_ms'],
    ['reconnect: drop until in sync again', 'reconnect_ms'],
    ...names.map((name) => [`${label(name)}: due until answered`, name]),
    ['initial sync of who comes online', 'initial_sync_ms'],
  ];
  return all.filter(([, name]) => 'max' in values(data, name) && at(data, name, 'max') > 0);
}

function failed(data) {
  return Object.entries(data.metrics).flatMap(([name, { thresholds, values: figures }]) =>
    Object.entries(thresholds || {}).filter(([, { ok }]) => !ok).map(([condition]) => {
      const is = figures.count === undefined
        ? Object.entries(figures).map(([point, value]) => `${point} ${value.toFixed(0)}`).join(', ')
        : figures.count;
      return `${name}: ${condition}, but it is ${is}`;
    }));
}

const heading = (scenario, facts) =>
  `${scenario}, scale ${SCALE}: ${Object.entries(facts)
    .map(([name, value]) => `${name} ${Number(value.toFixed(2))}`).join(', ')}`;

function text(head, data) {
  const reasons = failed(data);
  const figures = (name) => SHOWN.map((point) => at(data, name, point).toFixed(0).padStart(9)).join('');
  const counts = (what) => what.map(([label, name]) => `${label} ${count(data, name)}`).join(', ');
  return [
    '', head, '', ''.padEnd(44) + SHOWN.map((point) => point.padStart(9)).join(''),
    ...rows(data).map(([label, name]) => `${label.padEnd(44)}${figures(name)} ms`),
    '', counts(COUNTS), counts(WRONGS), '',
    reasons.length === 0 ? 'PASSED' : `FAILED\n  ${reasons.join('\n  ')}`, '',
  ].join('\n');
}

function html(head, seconds, data) {
  const reasons = failed(data);
  const cells = (name) => SHOWN.map((point) => `<td>${at(data, name, point).toFixed(0)}`).join('');
  const counted = (what, is_wrong) => what.map(([label, name]) => {
    const times = count(data, name);
    return `<tr><td>${label}<td class="${is_wrong ? (times ? 'bad' : 'good') : ''}">${times}`;
  }).join('');
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>${escaped(head)}</title>
<style>${STYLE}</style>
<h1>${escaped(head)}</h1>
<p class="${reasons.length ? 'bad' : 'good'}">${reasons.length ? 'Failed' : 'Passed'}</p>
${reasons.map((reason) => `<p class="bad">${escaped(reason)}</p>`).join('\n')}
<h2>How long, in milliseconds</h2>
<table><tr><th>${SHOWN.map((point) => `<th>${point}`).join('')}
${rows(data).map(([label, name]) => `<tr><td>${escaped(label)}${cells(name)}`).join('\n')}</table>
<h2>By percentile</h2>
${percentiles(data)}
<h2>Delivery over the run</h2>
${over_time(seconds, data)}
<h2>How often</h2>
<table>${counted(COUNTS, false)}</table>
<h2>What must not happen</h2>
<table>${counted(WRONGS, true)}</table>
</html>
`;
}

/** The first three rows by percentile. */
function percentiles(data) {
  const x = (index) => LEFT + ((WIDTH - LEFT - 20) * index) / (POINTS.length - 1);
  const series = rows(data).slice(0, 3)
    .map(([label, name], index) => [name, label.split(':')[0], COLORS[index]]);
  const top = Math.max(...series.map(([name]) => at(data, name, 'max')), 1);
  const lines = series.map(([name, label, color]) =>
    line(POINTS.map((point, index) => [x(index), y(at(data, name, point), top)]), label, color));
  return chart(top, POINTS.map((point, index) => [x(index), point]), lines, series);
}

function over_time(seconds, data) {
  const x = (slice) => LEFT + ((WIDTH - LEFT - 20) * (slice + 0.5)) / SLICES;
  const value = (slice, point) => at(data, `delivery_ms{slice:${slice}}`, point);
  const slices = Array.from({ length: SLICES }, (_, slice) => slice);
  const series = [['p(50)', 'p50', COLORS[0]], ['p(99)', 'p99', COLORS[1]], ['max', 'max', COLORS[2]]];
  const top = Math.max(...slices.map((slice) => value(slice, 'max')), 1);
  const lines = series.map(([point, label, color]) =>
    line(slices.map((slice) => [x(slice), y(value(slice, point), top)]), label, color));
  const labels = slices.filter((slice) => slice % 4 === 0)
    .map((slice) => [x(slice), `${Math.round((slice * seconds) / SLICES)} s`]);
  return chart(top, labels, lines, series);
}

/** What handleSummary returns. `facts` are numbers for the heading; `seconds` is how long the charts are. */
export function summary(scenario, facts, seconds, data) {
  const head = heading(scenario, facts);
  const path = `${OUT}/${scenario}`;
  return {
    stdout: text(head, data),
    [`${path}.txt`]: text(head, data),
    [`${path}.html`]: html(head, seconds, data),
    [`${path}.json`]: JSON.stringify(data, null, 1),
  };
}

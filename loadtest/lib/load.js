// Open-loop load: scenarios whose arrivals do not wait for the server, and latency counted from when
// an action was due, so that a stalled server shows in every percentile.

import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';

import { number } from './world.js';

/** Parts of the run in the charts over time. */
export const SLICES = 20;
/** Where messages carry when they were due. */
export const FIELD = 'org.colonnade.loadtest';
/** The highest p99 a run may have, in milliseconds; P99_MS=off asks for none. */
const LIMITED = __ENV.P99_MS !== 'off';
const P99_MS = LIMITED ? number('P99_MS', 250) : 0;
/** Virtual users for each arrival of a second: so many requests can be under way at once. */
const VUS_PER_RATE = 4;
const VUS_MIN = 4;

const delivery = new Trend('delivery_ms', true);
const action = new Trend('action_ms', true);
const done = new Counter('actions');
const failed = new Counter('actions_failed');
const heard = new Counter('messages_received');
const missing = new Counter('messages_missing');

const rates = {};

/** Arrivals of a constant rate a second, beginning and lasting so many seconds. */
export function constant(name, run, rate, begin_s, last_s) {
  const minute = Math.max(1, Math.round(rate * 60));
  rates[name] = { from: minute / 60000, to: minute / 60000, last_ms: last_s * 1000 };
  return {
    executor: 'constant-arrival-rate',
    exec: run,
    rate: minute,
    timeUnit: '60s',
    startTime: `${begin_s}s`,
    duration: `${last_s}s`,
    preAllocatedVUs: Math.max(VUS_MIN, Math.ceil(rate)),
    maxVUs: Math.max(VUS_MIN, Math.ceil(rate * VUS_PER_RATE)),
    gracefulStop: '60s',
  };
}

/** Arrivals whose rate rises evenly from none, so that `total` have come after `last_s` seconds. */
export function ramp(name, run, total, begin_s, last_s) {
  const top = Math.max(1, Math.round((2 * total * 60) / last_s));
  rates[name] = { from: 0, to: top / 60000, last_ms: last_s * 1000 };
  const rate = top / 60;
  return {
    executor: 'ramping-arrival-rate',
    exec: run,
    startRate: 0,
    timeUnit: '60s',
    startTime: `${begin_s}s`,
    stages: [{ target: top, duration: `${last_s}s` }],
    preAllocatedVUs: Math.max(VUS_MIN, Math.ceil(rate)),
    maxVUs: Math.max(VUS_MIN, Math.ceil(rate * VUS_PER_RATE)),
    gracefulStop: '60s',
  };
}

/**
 * When this iteration of an open-loop scenario was due: the time by which its rate sums up to it, in
 * whole milliseconds, for events may carry no fractions.
 */
export function due() {
  const { name, startTime, iterationInTest } = exec.scenario;
  const { from, to, last_ms } = rates[name];
  // A constant rate begins with an arrival, a rising one when the rate has summed up to the first.
  const rise = (to - from) / last_ms;
  const after = rise === 0
    ? iterationInTest / from
    : (Math.sqrt(from * from + 2 * rise * (iterationInTest + 1)) - from) / rise;
  return Math.round(startTime + after);
}

/** Counts an action that was due then; returns its answer, or null if it failed. */
export function act(name, due_ms, answer) {
  action.add(Math.max(0, Date.now() - due_ms), { action: name });
  done.add(1, { action: name });
  if (answer.status === 200) {
    return answer;
  }
  failed.add(1, { action: name });
  console.warn(`${name}: ${answer.status} ${answer.error} ${`${answer.body}`.slice(0, 300)}`);
  return null;
}

/** Notes that so many clients have to receive a message that was accepted. */
export function expect(receivers) {
  missing.add(receivers);
}

/** Notes that a client has received one of our messages; `begin` and `end` bound the chart. */
export function received(mark, arrived, begin, end) {
  missing.add(-1);
  heard.add(1);
  const share = (mark.due - begin) / Math.max(1, end - begin);
  const slice = Math.min(SLICES - 1, Math.max(0, Math.floor(share * SLICES)));
  delivery.add(arrived - mark.due, { slice: `${slice}` });
}

/** The conditions of a run: nothing fails, is lost or comes twice; and, unless off, how fast. */
export function thresholds(actions, more = {}) {
  const conditions = {
    actions_failed: ['count==0'],
    sync_failures: ['count==0'],
    messages_duplicated: ['count==0'],
    messages_missing: ['count==0'],
    messages_received: ['count>0'],
    delivery_ms: LIMITED ? [`p(99)<${P99_MS}`] : ['max>=0'],
    ...more,
  };
  if (LIMITED) {
    conditions.dropped_iterations = ['count==0'];
  }
  // k6 keeps figures by tag only where a condition asks for them.
  for (const name of actions) {
    conditions[`action_ms{action:${name}}`] = ['max>=0'];
  }
  for (let slice = 0; slice < SLICES; slice += 1) {
    conditions[`delivery_ms{slice:${slice}}`] = ['max>=0'];
  }
  return conditions;
}

/** What every scenario's options have in common. */
export const COMMON = {
  // Idle connections a VU keeps: one for each client it carries.
  batch: 1000,
  batchPerHost: 1000,
  setupTimeout: '15m',
  systemTags: ['status', 'name', 'scenario'],
  summaryTrendStats: [
    'avg', 'min', 'p(10)', 'p(25)', 'p(50)', 'p(75)', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'max',
  ],
};

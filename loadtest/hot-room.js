// One room in which everybody is and many write at once: the announcement room on a bad day. Run it
// with loadtest/run.sh hot-room.

import exec from 'k6/execution';

import * as actions from './lib/actions.js';
import { COMMON, FIELD, act, constant, due, expect, thresholds } from './lib/load.js';
import { Crowd } from './lib/crowd.js';
import { CAMPUS, URL, number, seeded, whole } from './lib/world.js';
import { summary } from './lib/page.js';

const accounts = seeded('accounts');
const rooms = seeded('rooms');
const crowd = new Crowd(CAMPUS, number('ONLINE', 0.35));

const ramp_s = number('RAMP_S', 60);
const steady_s = number('STEADY_S', 120);
const grace_s = number('GRACE_S', 10);
const sends = number('SENDS', 20);

export const options = {
  ...COMMON,
  scenarios: {
    online: crowd.scenario('online', ramp_s + steady_s + grace_s),
    messages: constant('messages', 'write', sends, ramp_s, steady_s),
  },
  thresholds: thresholds(['send']),
};

export function setup() {
  whole(accounts, rooms);
  return { run: Date.now().toString(36), begin: Date.now() };
}

export async function online({ run, begin }) {
  const end = begin + (ramp_s + steady_s) * 1000;
  const times = { begin, ramp_ms: ramp_s * 1000, end, stop: end + grace_s * 1000, run };
  await crowd.listen(accounts, times);
}

export function write({ run }) {
  const due_ms = due();
  const number_of = exec.scenario.iterationInTest;
  const { token } = accounts[crowd.online[number_of % crowd.online.length]];
  const content = { msgtype: 'm.text', body: `message ${number_of}`, [FIELD]: { run, due: due_ms } };
  const transaction = `${run}-${number_of}`;
  const answer = actions.send(URL, token, rooms[0].id, 'm.room.message', transaction, content);
  if (act('send', due_ms, answer)) {
    expect(crowd.online.length);
  }
}

export const handleSummary = (data) => summary('hot-room', {
  accounts: CAMPUS.accounts, online: crowd.online.length, 'messages a second': sends,
  seconds: steady_s,
}, steady_s, data);

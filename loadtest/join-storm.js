// A new room that everybody joins within a short time, as when a link goes round in a lecture, while
// those who are in already hear somebody speak. Run it with loadtest/run.sh join-storm.

import exec from 'k6/execution';
import { fail } from 'k6';

import * as actions from './lib/actions.js';
import { COMMON, FIELD, act, constant, due, expect, ramp, received, thresholds } from './lib/load.js';
import { Listener, pause } from './lib/listener.js';
import { CAMPUS, URL, number, seeded, whole } from './lib/world.js';
import { summary } from './lib/page.js';

const accounts = seeded('accounts');
const rooms = seeded('rooms');

const storm_s = number('STEADY_S', 60);
const grace_s = number('GRACE_S', 10);
const sends = number('SENDS', 1);
/** Those who are in from the beginning and listen. */
const listeners = Math.min(number('LISTENERS', 20), CAMPUS.accounts - 1);
const joiners = Math.min(number('JOINS', CAMPUS.accounts), CAMPUS.accounts) - listeners;
/** Time for the listeners' first sync. */
const quiet_s = 5;

export const options = {
  ...COMMON,
  scenarios: {
    online: { executor: 'per-vu-iterations', exec: 'online', vus: 1, iterations: 1, maxDuration: '24h' },
    joins: ramp('joins', 'join', joiners, quiet_s, storm_s),
    messages: constant('messages', 'write', sends, quiet_s, storm_s),
  },
  thresholds: thresholds(['join', 'send']),
};

export function setup() {
  whole(accounts, rooms);
  const run = Date.now().toString(36);
  const made = actions.create_room(URL, accounts[0].token, `storm-${run}`, 'The link', false);
  if (made.status !== 200) {
    fail(`createRoom: ${made.status} ${made.error} ${made.body}`);
  }
  const room = made.json().room_id;
  for (const { token } of accounts.slice(1, listeners)) {
    const joined = actions.join(URL, token, room);
    if (joined.status !== 200) {
      fail(`join: ${joined.status} ${joined.error} ${joined.body}`);
    }
  }
  return { run, room, begin: Date.now() + quiet_s * 1000 };
}

export async function online({ run, begin }) {
  const end = begin + storm_s * 1000;
  await Promise.all(accounts.slice(0, listeners).map(async ({ token }, place) => {
    await pause(place * 20);
    await new Listener(URL, token, (room, event, arrived) => {
      const mark = (event.content || {})[FIELD];
      if (mark && mark.run === run) {
        received(mark, arrived, begin, end);
      }
    }).listen(end + grace_s * 1000);
  }));
}

export function join({ room }) {
  const due_ms = due();
  const joiner = listeners + exec.scenario.iterationInTest;
  if (joiner < CAMPUS.accounts) {
    act('join', due_ms, actions.join(URL, accounts[joiner].token, room));
  }
}

export function write({ run, room }) {
  const due_ms = due();
  const number_of = exec.scenario.iterationInTest;
  const content = { msgtype: 'm.text', body: `message ${number_of}`, [FIELD]: { run, due: due_ms } };
  const { token } = accounts[0];
  const answer = actions.send(URL, token, room, 'm.room.message', `${run}-${number_of}`, content);
  if (act('send', due_ms, answer)) {
    expect(listeners);
  }
}

export const handleSummary = (data) => summary('join-storm', {
  joins: joiners, listeners, 'messages a second': sends, seconds: storm_s,
}, storm_s, data);

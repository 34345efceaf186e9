// Every long poll drops at the same moment and everybody comes back at once, as after a restart of a
// proxy or a network, while somebody goes on writing. Run it with loadtest/run.sh reconnect.

import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';

import * as actions from './lib/actions.js';
import { COMMON, FIELD, act, constant, due, expect, thresholds } from './lib/load.js';
import { Crowd, listener } from './lib/crowd.js';
import { pause } from './lib/listener.js';
import { CAMPUS, URL, number, seeded, whole } from './lib/world.js';
import { summary } from './lib/page.js';

const accounts = seeded('accounts');
const rooms = seeded('rooms');
const crowd = new Crowd(CAMPUS, number('ONLINE', 0.35));

const ramp_s = number('RAMP_S', 60);
const drops = number('DROPS', 3);
/** From one drop to the next. */
const every_s = number('EVERY_S', 30);
const grace_s = number('GRACE_S', 10);
const sends = number('SENDS', 2);
const steady_s = drops * every_s;
/** The pause before a client that could not get in tries again, and how often it tries. */
const RETRY_MS = 500;
const ATTEMPTS_MAX = 120;

const reconnect = new Trend('reconnect_ms', true);
const back = new Counter('reconnects');
const tried_again = new Counter('reconnects_tried_again');
const failed = new Counter('reconnects_failed');

export const options = {
  ...COMMON,
  scenarios: {
    online: crowd.scenario('online', ramp_s + steady_s + grace_s),
    messages: constant('messages', 'write', sends, ramp_s, steady_s),
  },
  thresholds: thresholds(['send'], {
    reconnects: [`count==${crowd.online.length * drops}`],
    reconnects_failed: ['count==0'],
    reconnect_ms: __ENV.RECONNECT_P99_MS
      ? [`p(99)<${number('RECONNECT_P99_MS', 5000)}`] : ['max>=0'],
  }),
};

export function setup() {
  whole(accounts, rooms);
  return { run: Date.now().toString(36), begin: Date.now() };
}

export async function online({ run, begin }) {
  const steady = begin + ramp_s * 1000;
  const end = steady + steady_s * 1000;
  await Promise.all(crowd.mine().map(async ({ account, place }) => {
    await pause(begin + (ramp_s * 1000 * place) / crowd.online.length - Date.now());
    const client = listener(accounts[account].token, { run, begin: steady, end });
    while ((await client.once(0)) === null) {
      await pause(RETRY_MS);
    }
    for (let drop = 0; drop < drops; drop += 1) {
      await until_drop(client, steady + (drop + 0.5) * every_s * 1000);
    }
    await client.listen(end + grace_s * 1000);
  }));
}

/** Long polls that are all cut at `cut`, whatever they wait for, and the way back in. */
async function until_drop(client, cut) {
  while (Date.now() < cut) {
    const left = cut - Date.now();
    // The poll asks for longer than it is given: the client hangs up, and closes the connection.
    await client.once(left + 30000, -30000);
  }
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    if ((await client.once(0)) !== null) {
      reconnect.add(Date.now() - cut);
      back.add(1);
      return;
    }
    tried_again.add(1);
    await pause(RETRY_MS);
  }
  failed.add(1);
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

export const handleSummary = (data) => summary('reconnect', {
  accounts: CAMPUS.accounts, online: crowd.online.length, drops, 'messages a second': sends,
}, steady_s, data);

// Users who chat: everybody holds a /sync long poll, and messages are sent on a fixed schedule.
// Prints how long a message takes from when it was due until every other member has it, and
// counts messages that were lost, came twice, or came in the wrong order: there must be none.
//
// One k6 VU is one user's client: its long poll and its sending run beside each other. Run it with
// loadtest/run.sh; how to read the result is in loadtest/README.md.

import exec from 'k6/execution';
import { setTimeout } from 'k6/timers';
import { Counter, Trend } from 'k6/metrics';

import { Ledger } from './lib/ledger.js';
import { Plan } from './lib/plan.js';
import { profile } from './lib/profiles.js';
import { html, text } from './lib/report.js';
import * as matrix from './lib/matrix.js';

const PROFILE = profile(__ENV);
const PLAN = new Plan(PROFILE);
const TOTALS = PLAN.totals();
const URL = __ENV.URL || 'http://127.0.0.1:8008';
const OUT = __ENV.OUT || 'target/loadtest';

/** Between the end of the preparation and the first message: initial syncs happen here. */
const WARM_UP_MS = 2000 + 10 * PROFILE.users;
/** How long after the last message was due it may still arrive before it counts as lost. */
const GRACE_MS = 30000;
/** How long after the last message duplicates are still looked for. */
const AFTERMATH_MS = 1000;
/** The longest wait a client asks for in one /sync. */
const POLL_MS = 30000;
/** Faults are made on purpose: requests may fail, and are repeated; messages may not be lost. */
const IS_CHAOS = __ENV.CHAOS === 'yes';
/** Attempts to send one message, all with the same transaction id. */
const ATTEMPTS_MAX = IS_CHAOS ? 400 : 5;
/** The pause before the next attempt of anything that failed. */
const RETRY_MS = 250;
/** Every how many messages one is sent twice: the server must answer the same and keep one. */
const REPEAT_EVERY = 20;
/** Pages of history a client reads to close one gap. */
const PAGES_MAX = 200;
/** Parts of the run in the picture of latency over time. */
const SLICES = 20;
/** Where our messages carry what we measure. */
const FIELD = 'org.colonnade.loadtest';

const FILTER = JSON.stringify({
  presence: { types: [] },
  room: { timeline: { limit: 50 }, state: { lazy_load_members: true } },
});

const delivery = new Trend('delivery_ms', true);
const send_latency = new Trend('send_ms', true);
const behind = new Trend('send_behind_schedule_ms', true);
const sync_bytes = new Trend('sync_bytes');
const initial_sync = new Trend('initial_sync_ms', true);
const syncs = new Counter('syncs');
const sent = new Counter('messages_sent');
const received = new Counter('messages_received');
const lost = new Counter('messages_lost');
const duplicated = new Counter('messages_duplicated');
const disordered = new Counter('messages_out_of_order');
const retries = new Counter('send_retries');
const failures = new Counter('send_failures');
const repeats_wrong = new Counter('transaction_repeats_wrong');
const sync_failures = new Counter('sync_failures');
const gaps = new Counter('timeline_gaps');

const thresholds = {
  messages_sent: [`count==${TOTALS.sent}`],
  messages_received: [`count==${TOTALS.received}`],
  messages_lost: ['count==0'],
  messages_duplicated: ['count==0'],
  messages_out_of_order: ['count==0'],
  send_failures: ['count==0'],
  sync_failures: ['count==0'],
  transaction_repeats_wrong: ['count==0'],
};
if (IS_CHAOS) {
  delete thresholds.sync_failures;
}
// k6 keeps figures by tag only where a threshold asks for them.
for (let slice = 0; slice < SLICES; slice += 1) {
  thresholds[`delivery_ms{slice:${slice}}`] = ['max>=0'];
}

export const options = {
  scenarios: {
    chat: {
      executor: 'per-vu-iterations',
      vus: PROFILE.users,
      iterations: 1,
      maxDuration: `${Math.ceil((WARM_UP_MS + PLAN.end_ms + GRACE_MS) / 1000) + 60}s`,
    },
  },
  setupTimeout: '15m',
  summaryTrendStats: [
    'avg', 'min', 'p(10)', 'p(25)', 'p(50)', 'p(75)', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'max',
  ],
  systemTags: ['status', 'name'],
  thresholds,
};

/** Registers everybody, makes the rooms, and lets everybody in. */
export function setup() {
  const run = Date.now().toString(36);
  const names = Array.from({ length: PROFILE.users }, (_, user) => `load-${run}-${user}`);
  const users = matrix.register(URL, names);
  const wanted = PLAN.members.map(([owner, ...others], room) => ({
    token: users[owner].token,
    name: room === 0 ? 'The hall' : `Room ${room}`,
    invite: others.map((user) => users[user].id),
    is_encrypted: PLAN.is_encrypted(room),
  }));
  const rooms = matrix.create_rooms(URL, wanted);
  const joins = PLAN.members.flatMap(([, ...others], room) =>
    others.map((user) => ({ token: users[user].token, room: rooms[room] })));
  matrix.join(URL, joins);
  return { run, users, rooms, start: Date.now() + WARM_UP_MS };
}

/** One user's client. */
export default async function chat(world) {
  const user = exec.vu.idInTest - 1;
  await Promise.all([listen(world, user), talk(world, user)]);
}

const pause = (ms) => new Promise((done) => setTimeout(done, Math.max(0, ms)));

// === Sending ===

/** Sends what the plan says, each message when it is due or, if late, at once. */
async function talk(world, user) {
  for (const message of PLAN.messages_of(user)) {
    const due = world.start + PLAN.due_ms(user, message.k);
    await pause(due - Date.now());
    behind.add(Date.now() - due);
    const event_id = await deliver(world, user, message, due);
    if (event_id && message.k % REPEAT_EVERY === REPEAT_EVERY - 1) {
      const again = await put(world, user, message, due);
      // Of two answers: one that a fault swallowed says nothing.
      const is_wrong = again.status === 200 ? again.json().event_id !== event_id : !IS_CHAOS;
      if (is_wrong) {
        repeats_wrong.add(1);
      }
    }
  }
}

/** Sends one message until it is accepted; returns the event's id. */
async function deliver(world, user, message, due) {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    const before = Date.now();
    const answer = await put(world, user, message, due);
    if (answer.status === 200) {
      send_latency.add(Date.now() - before);
      sent.add(1);
      return answer.json().event_id;
    }
    console.warn(`send: ${answer.status} ${answer.error} ${answer.body}`);
    if (attempt < ATTEMPTS_MAX) {
      retries.add(1);
      await pause(RETRY_MS * attempt);
    }
  }
  failures.add(1);
  return null;
}

function put(world, user, { k, room, number }, due) {
  const { token } = world.users[user];
  const is_encrypted = PLAN.is_encrypted(room);
  const type = is_encrypted ? 'm.room.encrypted' : 'm.room.message';
  const content = is_encrypted ? ciphertext(world, room, k) : plaintext(number);
  content[FIELD] = { number, due };
  return matrix.send(URL, token, world.rooms[room], type, `${world.run}-${k}`, content);
}

function plaintext(number) {
  return { msgtype: 'm.text', body: `Message ${number}: the quick brown fox jumps over the lazy dog.` };
}

/** What an encrypted message looks like from outside: some hundred bytes of noise. */
function ciphertext(world, room, k) {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
  const noise = (length) =>
    Array.from({ length }, () => alphabet[Math.floor(Math.random() * 64)]).join('');
  return {
    algorithm: 'm.megolm.v1.aes-sha2',
    session_id: `session of room ${room} in run ${world.run}`,
    ciphertext: noise(300 + ((k * 97) % 900)),
  };
}

// === Receiving ===

/** Syncs until everything has arrived, or until it should have. */
async function listen(world, user) {
  const ledger = new Ledger(PLAN.expected_by(user));
  const end = world.start + PLAN.end_ms;
  let since = null;
  for (;;) {
    const now = Date.now();
    const stop = ledger.missing > 0 ? end + GRACE_MS : end + AFTERMATH_MS;
    if (now >= stop) {
      break;
    }
    const wait_ms = since === null ? 0 : Math.min(POLL_MS, stop - now);
    const answer = await matrix.sync(URL, world.users[user].token, since, wait_ms, FILTER);
    if (answer.status !== 200) {
      console.warn(`sync: ${answer.status} ${answer.error} ${answer.body}`);
      sync_failures.add(1);
      await pause(RETRY_MS);
      continue;
    }
    if (since === null) {
      initial_sync.add(Date.now() - now);
    }
    syncs.add(1);
    sync_bytes.add(answer.body.length);
    const body = JSON.parse(answer.body);
    await take(world, user, ledger, body);
    since = body.next_batch;
  }
  lost.add(Math.max(0, ledger.missing));
}

/** Enters all messages of one sync answer, reading history where the answer leaves a gap. */
async function take(world, user, ledger, body) {
  const arrived = Date.now();
  for (const [room_id, joined] of Object.entries((body.rooms || {}).join || {})) {
    const room = world.rooms.indexOf(room_id);
    const timeline = joined.timeline || {};
    const earlier = timeline.limited && room >= 0
      ? await history(world, user, ledger, room, timeline.prev_batch) : [];
    for (const event of [...earlier, ...(timeline.events || [])]) {
      enter(world, user, ledger, room, event, arrived);
    }
  }
}

/** Reads backwards until something known; returns what was missed, oldest first. */
async function history(world, user, ledger, room, from) {
  gaps.add(1);
  const missed = [];
  let token = from;
  for (let page = 0; page < PAGES_MAX && token; page += 1) {
    const answer = await matrix.messages(URL, world.users[user].token, world.rooms[room], token);
    if (answer.status !== 200) {
      console.warn(`messages: ${answer.status} ${answer.error} ${answer.body}`);
      sync_failures.add(1);
      if (IS_CHAOS) {
        await pause(RETRY_MS);
        continue;
      }
      break;
    }
    const { chunk, end } = answer.json();
    for (const event of chunk) {
      const mark = (event.content || {})[FIELD];
      if (mark && ledger.has(room, event.sender, mark.number)) {
        return missed.reverse();
      }
      missed.push(event);
    }
    token = end;
  }
  return missed.reverse();
}

function enter(world, user, ledger, room, event, arrived) {
  const mark = (event.content || {})[FIELD];
  if (!mark) {
    return;
  }
  const kind = ledger.enter(room, event.sender, mark.number);
  if (kind === 'duplicate') {
    duplicated.add(1);
    return;
  }
  if (kind === 'out_of_order') {
    disordered.add(1);
  }
  received.add(1);
  if (event.sender !== world.users[user].id) {
    const share = (mark.due - world.start) / Math.max(1, PLAN.end_ms);
    const slice = Math.min(SLICES - 1, Math.max(0, Math.floor(share * SLICES)));
    delivery.add(arrived - mark.due, { slice: `${slice}` });
  }
}

// === Result ===

export function handleSummary(data) {
  const run = { profile: PROFILE, totals: TOTALS, url: URL, slices: SLICES };
  const path = `${OUT}/chat-${PROFILE.name}`;
  return {
    stdout: text(run, data),
    [`${path}.txt`]: text(run, data),
    [`${path}.html`]: html(run, data),
    [`${path}.json`]: JSON.stringify(data, null, 1),
  };
}

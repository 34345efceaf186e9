// A university's day in small: people log in over the first minutes, stay online, write, read, type,
// exchange keys and files. SCALE 1 is 26,015 accounts. Run it with loadtest/run.sh campus.

import exec from 'k6/execution';

import * as actions from './lib/actions.js';
import { COMMON, FIELD, act, constant, due, expect, ramp, thresholds } from './lib/load.js';
import { Crowd, listener } from './lib/crowd.js';
import { CAMPUS, URL, number, password, seeded, whole } from './lib/world.js';
import { summary } from './lib/page.js';

const accounts = seeded('accounts');
const rooms = seeded('rooms');
const crowd = new Crowd(CAMPUS, number('ONLINE', 0.35));

const ramp_s = number('RAMP_S', 300);
const steady_s = number('STEADY_S', 600);
const grace_s = number('GRACE_S', 10);
/** Messages a second, of everybody together: each person online writes one in three minutes. */
const sends = number('SENDS', crowd.online.length / 180);
/** Other actions for each message. */
const PER_MESSAGE = { typing: 1, keys: 0.3, to_device: 0.3, media: 0.05 };
/** Members that read a message at once and say so. */
const READERS_MAX = 3;
/** The sizes of what goes to devices and of files, in characters and bytes. */
const TO_DEVICE_SIZE = 700;
const CIPHER_SIZE = 400;
const FILE_BYTES = number('FILE_BYTES', 100000);
/** Every how many messages one goes to the announcement room. */
const ANNOUNCE_EVERY = number('ANNOUNCE_EVERY', 500);

const FILE = new Uint8Array(FILE_BYTES).buffer;

export const options = {
  ...COMMON,
  scenarios: {
    online: crowd.scenario('online', ramp_s + steady_s + grace_s),
    logins: ramp('logins', 'log_in', number('LOGINS', crowd.online.length), 0, ramp_s),
    messages: constant('messages', 'write', sends, ramp_s, steady_s),
    typing: constant('typing', 'type', sends * PER_MESSAGE.typing, ramp_s, steady_s),
    keys: constant('keys', 'keys', sends * PER_MESSAGE.keys, ramp_s, steady_s),
    devices: constant('devices', 'devices', sends * PER_MESSAGE.to_device, ramp_s, steady_s),
    media: constant('media', 'media', sends * PER_MESSAGE.media, ramp_s, steady_s),
  },
  thresholds: thresholds([
    'login', 'initial_sync', 'send', 'receipt', 'typing', 'keys_upload', 'keys_query', 'to_device',
    'upload', 'download',
  ]),
};

export function setup() {
  whole(accounts, rooms);
  return { run: Date.now().toString(36), begin: Date.now() };
}

const any = (list) => list[Math.floor(Math.random() * list.length)];

/** A room with somebody online, and its members: large rooms are as likely as small ones. */
function conversation() {
  for (;;) {
    const room = 1 + Math.floor(Math.random() * (CAMPUS.rooms - 1));
    const members = CAMPUS.members(room);
    const present = members.filter((account) => crowd.is_online.has(account));
    if (present.length > 0) {
      return { room, members, present };
    }
  }
}

export async function online({ run, begin }) {
  const end = begin + (ramp_s + steady_s) * 1000;
  const times = { begin, ramp_ms: ramp_s * 1000, end, stop: end + grace_s * 1000, run };
  await crowd.listen(accounts, times);
}

export async function log_in({ run, begin }) {
  const due_ms = due();
  const { name } = accounts[crowd.online[exec.scenario.iterationInTest % crowd.online.length]];
  const answer = act('login', due_ms, actions.login(URL, name, password(name)));
  if (answer) {
    const client = listener(answer.json().access_token, { run: `not ${run}`, begin, end: begin });
    const begun = Date.now();
    const heard = await client.once(0);
    act('initial_sync', begun, { status: heard === null ? 0 : 200, error: 'sync failed' });
  }
}

export function write({ run }) {
  const due_ms = due();
  const number_of = exec.scenario.iterationInTest;
  const is_announcement = number_of % ANNOUNCE_EVERY === ANNOUNCE_EVERY - 1;
  const { room, members, present } = is_announcement
    ? { room: 0, members: CAMPUS.members(0), present: crowd.online } : conversation();
  const sender = any(present);
  const mark = { [FIELD]: { run, due: due_ms } };
  const content = CAMPUS.is_encrypted(room)
    ? { algorithm: 'm.megolm.v1.aes-sha2', ciphertext: actions.noise(CIPHER_SIZE), ...mark }
    : { msgtype: 'm.text', body: `message ${number_of}`, ...mark };
  const type = CAMPUS.is_encrypted(room) ? 'm.room.encrypted' : 'm.room.message';
  const { id } = rooms[room];
  const transaction = `${run}-${number_of}`;
  const sent = act('send', due_ms, actions.send(URL, accounts[sender].token, id, type, transaction, content));
  if (!sent) {
    return;
  }
  expect(crowd.receivers(members));
  const { event_id } = sent.json();
  for (const reader of present.slice(0, READERS_MAX)) {
    const begun = Date.now();
    act('receipt', begun, actions.receipt(URL, accounts[reader].token, id, event_id));
  }
}

export function type() {
  const due_ms = due();
  const { room, present } = conversation();
  const account = accounts[any(present)];
  act('typing', due_ms, actions.typing(URL, account, rooms[room].id, Math.random() < 0.7));
}

export function keys({ run }) {
  const due_ms = due();
  const { members, present } = conversation();
  const { token } = accounts[any(present)];
  const serial = `${run}x${exec.scenario.iterationInTest}`;
  act('keys_upload', due_ms, actions.upload_keys(URL, token, serial));
  const users = members.slice(0, 200).map((account) => accounts[account].id);
  const begun = Date.now();
  act('keys_query', begun, actions.query_keys(URL, token, users));
}

export function devices({ run }) {
  const due_ms = due();
  const { members, present } = conversation();
  const { token } = accounts[any(present)];
  const users = members.slice(0, 20).map((account) => accounts[account].id);
  const transaction = `${run}-${exec.scenario.iterationInTest}`;
  act('to_device', due_ms, actions.to_device(URL, token, transaction, users, TO_DEVICE_SIZE));
}

export function media() {
  const due_ms = due();
  const { token } = accounts[any(crowd.online)];
  const answer = act('upload', due_ms, actions.upload(URL, token, FILE));
  if (answer) {
    const begun = Date.now();
    const other = accounts[any(crowd.online)].token;
    act('download', begun, actions.download(URL, other, answer.json().content_uri));
  }
}

export const handleSummary = (data) => summary('campus', {
  accounts: CAMPUS.accounts, rooms: CAMPUS.rooms, online: crowd.online.length,
  'messages a second': sends, seconds: steady_s,
}, steady_s, data);

// What the seeding made, for the scenarios: accounts with tokens, rooms with members. Read once and
// shared by all virtual users.

import { SharedArray } from 'k6/data';

import { Campus } from './campus.js';

export const URL = __ENV.URL || 'http://127.0.0.1:8008';
export const OUT = __ENV.OUT || 'target/loadtest';
export const SCALE = Number(__ENV.SCALE || '0.001');
export const WORLD = __ENV.WORLD || `${OUT}/world`;
export const CAMPUS = new Campus(SCALE);

const lines = (text) => text.split('\n').filter((line) => line.startsWith('{')).map(JSON.parse);

/** What an earlier seeding wrote, ordered by number; numbers may be missing. */
export function seeded(what) {
  return new SharedArray(what, () => {
    const entries = [];
    for (const entry of lines(open(`${WORLD}/${what}.jsonl`))) {
      entries[entry.number] = entry;
    }
    return Array.from(entries, (entry) => entry || null);
  });
}

/** The environment's number of this name, or the one given. */
export function number(name, otherwise) {
  const value = __ENV[name] === undefined || __ENV[name] === '' ? otherwise : Number(__ENV[name]);
  if (!(value > 0)) {
    throw new Error(`${name} must be a number above zero`);
  }
  return value;
}

/** Everybody must be there before load is put on: a half seeded world measures something else. */
export function whole(accounts, rooms) {
  const short = accounts.length < CAMPUS.accounts || rooms.length < CAMPUS.rooms
    || accounts.some((entry) => !entry) || rooms.some((entry) => !entry);
  if (short) {
    throw new Error(`${WORLD} has not all accounts and rooms of scale ${SCALE}: run the seeding again`);
  }
}

/** The password of an account; the seeding and logins agree on it. */
export const password = (name) => `load password of ${name}`;

// The clients that are online: each VU carries many of them, all holding long polls.

import exec from 'k6/execution';

import { random } from './campus.js';
import { FIELD, received } from './load.js';
import { Listener, pause } from './listener.js';
import { URL, number } from './world.js';

/** Clients one VU carries. */
const CLIENTS_PER_VU = number('CLIENTS_PER_VU', 50);

export class Crowd {
  /** Who is online: this share of the accounts, at least two. */
  constructor(campus, share) {
    const everybody = Array.from({ length: campus.accounts }, (_, account) => account);
    const chosen = everybody.filter((account) => random(account + 1)() < share);
    this.online = chosen.length < 2 ? everybody.slice(0, 2) : chosen;
    this.is_online = new Set(this.online);
  }

  /** The scenario that carries them. */
  scenario(run, last_s) {
    return {
      executor: 'per-vu-iterations',
      exec: run,
      vus: Math.ceil(this.online.length / CLIENTS_PER_VU),
      iterations: 1,
      maxDuration: `${last_s + 300}s`,
    };
  }

  /** The clients of this VU, each with its place among all. */
  mine() {
    const from = exec.scenario.iterationInTest * CLIENTS_PER_VU;
    return this.online.slice(from, from + CLIENTS_PER_VU).map((account, place) => ({
      account, place: from + place,
    }));
  }

  /** How many of a room's members are online. */
  receivers(members) {
    return members.filter((account) => this.is_online.has(account)).length;
  }

  /** Holds this VU's long polls: clients come one after the other, evenly over `ramp_ms`. */
  async listen(accounts, { begin, ramp_ms, end, stop, run }) {
    await Promise.all(this.mine().map(async ({ account, place }) => {
      await pause(begin + (ramp_ms * place) / this.online.length - Date.now());
      await listener(accounts[account].token, { run, begin: begin + ramp_ms, end }).listen(stop);
    }));
  }
}

/** A client that counts the messages of a run. */
export function listener(token, { run, begin, end }) {
  return new Listener(URL, token, (room, event, arrived) => {
    const mark = (event.content || {})[FIELD];
    if (mark && mark.run === run) {
      received(mark, arrived, begin, end);
    }
  });
}

// One client's /sync loop: hears every event once, closes gaps of its timeline from /messages, and
// counts what comes twice. Its requests are asynchronous, so that one VU carries many clients.

import http from 'k6/http';
import { setTimeout } from 'k6/timers';
import { Counter, Trend } from 'k6/metrics';

/** Extra time a long poll may take beyond what it asked for. */
const PATIENCE_MS = 60000;
/** The pause after a failed sync. */
const RETRY_MS = 250;
/** Pages of history a client reads to close one gap. */
const PAGES_MAX = 200;
/** Syncs without news at the end, at most: somebody else may still be writing. */
const LAST_SYNCS_MAX = 50;

const FILTER = encodeURIComponent(JSON.stringify({
  presence: { types: [] },
  room: { timeline: { limit: 50 }, state: { lazy_load_members: true } },
}));

const syncs = new Counter('syncs');
const failures = new Counter('sync_failures');
const twice = new Counter('messages_duplicated');
const gaps = new Counter('timeline_gaps');
const initial = new Trend('initial_sync_ms', true);

export const pause = (ms) => new Promise((done) => setTimeout(done, Math.max(0, ms)));

export class Listener {
  /** `hear(room, event, arrived)` is called once for every timeline event. */
  constructor(url, token, hear) {
    this.url = url;
    this.token = token;
    this.hear = hear;
    this.since = null;
    this.known = new Set();
  }

  get(path, name, timeout_ms) {
    const headers = { Authorization: `Bearer ${this.token}` };
    const params = { headers, tags: { name }, timeout: Math.max(1, timeout_ms) };
    return http.asyncRequest('GET', this.url + path, null, params);
  }

  /** One /sync that waits up to `wait_ms`. Returns how many events it brought; null if it failed. */
  async once(wait_ms, patience_ms = PATIENCE_MS) {
    const begun = Date.now();
    const since = this.since ? `&since=${encodeURIComponent(this.since)}` : '';
    const wait = this.since ? Math.round(wait_ms) : 0;
    const path = `/_matrix/client/v3/sync?timeout=${wait}&filter=${FILTER}${since}`;
    const answer = await this.get(path, 'sync', wait + patience_ms);
    if (answer.status !== 200) {
      return null;
    }
    syncs.add(1);
    if (!this.since) {
      initial.add(Date.now() - begun);
    }
    const body = JSON.parse(answer.body);
    const heard = await this.take(body, Date.now());
    this.since = body.next_batch;
    return heard;
  }

  /** Long polls until `end` (milliseconds since 1970), then until a sync brings nothing. */
  async listen(end, poll_ms = 30000) {
    while (Date.now() < end) {
      const heard = await this.once(Math.min(poll_ms, Math.max(0, end - Date.now())));
      if (heard === null) {
        failures.add(1);
        await pause(RETRY_MS);
      }
    }
    for (let round = 0; round < LAST_SYNCS_MAX; round += 1) {
      if ((await this.once(0)) === 0) {
        return;
      }
    }
  }

  async take(body, arrived) {
    let heard = 0;
    for (const [room, joined] of Object.entries((body.rooms || {}).join || {})) {
      const timeline = joined.timeline || {};
      const earlier = timeline.limited && this.since
        ? await this.missed(room, timeline.prev_batch) : [];
      for (const event of [...earlier, ...(timeline.events || [])]) {
        heard += 1;
        if (this.known.has(event.event_id)) {
          twice.add(1);
        } else {
          this.known.add(event.event_id);
          this.hear(room, event, arrived);
        }
      }
    }
    return heard;
  }

  /** Reads a room backwards until something known; returns what was missed, oldest first. */
  async missed(room, from) {
    gaps.add(1);
    const events = [];
    let token = from;
    for (let page = 0; page < PAGES_MAX && token; page += 1) {
      const query = `?dir=b&limit=100&from=${encodeURIComponent(token)}`;
      const path = `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/messages${query}`;
      const answer = await this.get(path, 'messages', PATIENCE_MS);
      if (answer.status !== 200) {
        failures.add(1);
        break;
      }
      const { chunk, end } = answer.json();
      for (const event of chunk) {
        if (this.known.has(event.event_id)) {
          return events.reverse();
        }
        events.push(event);
      }
      token = end;
    }
    return events.reverse();
  }
}

// Makes the accounts, the rooms and the memberships of a campus, one PHASE each (accounts, rooms,
// joins), and writes what it made to standard output, a JSON object a line. What is in the files of
// an earlier seeding is left out, and what the server already has is taken as it is: it can be
// interrupted anywhere and said again. loadtest/run.sh calls it.

import exec from 'k6/execution';
import { sleep } from 'k6';
import { Counter } from 'k6/metrics';

import * as actions from './lib/actions.js';
import { CAMPUS, SCALE, URL, number, password, seeded } from './lib/world.js';

const PHASE = __ENV.PHASE;
const SECRET = __ENV.SECRET;
const RUN = __ENV.RUN || 'campus';
/** Attempts at one thing before the seeding gives up: the server may be restarted meanwhile. */
const ATTEMPTS_MAX = 60;
const RETRY_S = 0.5;

const done = seeded(PHASE);
const accounts = PHASE === 'accounts' ? [] : seeded('accounts');
const rooms = PHASE === 'joins' ? seeded('rooms') : [];
const failures = new Counter('seed_failures');

const TOTAL = PHASE === 'accounts' ? CAMPUS.accounts : CAMPUS.rooms;

export const options = {
  scenarios: {
    seed: {
      executor: 'shared-iterations',
      vus: Math.min(TOTAL, number('SEED_PARALLEL', 8)),
      iterations: TOTAL,
      maxDuration: '24h',
    },
  },
  thresholds: { seed_failures: ['count==0'] },
};

export default function seed() {
  const item = exec.scenario.iterationInTest;
  if (done[item]) {
    return;
  }
  const entry = { accounts: account, rooms: room, joins }[PHASE](item);
  if (entry) {
    console.log(JSON.stringify({ number: item, ...entry }));
  }
}

/** Tries until an answer is good; null when it never was. */
function insist(what, attempt) {
  let answer = null;
  for (let tries = 0; tries < ATTEMPTS_MAX; tries += 1) {
    answer = attempt();
    if (answer.status === 200) {
      return answer.json();
    }
    sleep(RETRY_S);
  }
  failures.add(1);
  console.error(`${what}: ${answer.status} ${answer.error} ${answer.body}`);
  return null;
}

function account(item) {
  const name = `${RUN}-${CAMPUS.name(item)}`;
  const made = insist(name, () => {
    const answer = actions.register(URL, SECRET, name, password(name));
    const is_there = `${answer.body}`.includes('M_USER_IN_USE');
    return is_there ? actions.login(URL, name, password(name)) : answer;
  });
  return made && { id: made.user_id, name, token: made.access_token };
}

function room(item) {
  const [owner] = CAMPUS.members(item);
  const { id, token } = accounts[owner];
  const alias = `${RUN}-${SCALE}-room-${item}`;
  const name = item === 0 ? 'Announcements' : `Room ${item}`;
  const made = insist(name, () => {
    const answer = actions.create_room(URL, token, alias, name, CAMPUS.is_encrypted(item));
    const is_there = `${answer.body}`.includes('M_ROOM_IN_USE');
    const server = id.slice(id.indexOf(':'));
    return is_there ? actions.resolve(URL, token, `#${alias}${server}`) : answer;
  });
  return made && { id: made.room_id };
}

function joins(item) {
  const [, ...others] = CAMPUS.members(item);
  for (const member of others) {
    const { token } = accounts[member];
    if (!insist(`join of room ${item}`, () => actions.join(URL, token, rooms[item].id))) {
      return null;
    }
  }
  return { members: others.length + 1 };
}

export function handleSummary() {
  return {};
}

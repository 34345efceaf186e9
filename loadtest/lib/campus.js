// The people of a campus and the rooms they are in: a pure function of the scale, so that the seeding
// and every later run agree without talking to each other. Sends nothing.

/** Accounts at scale 1: a university of this size. */
export const STUDENTS = 23817;
export const STAFF = 2198;
/** The largest room but for the announcement room, and the smallest. */
const MEMBERS_MAX = 5000;
const MEMBERS_MIN = 2;
/** The exponent of the power law: room sizes s occur in proportion to s^-EXPONENT. */
const EXPONENT = 2.1;
/** Accounts for each room. */
const ACCOUNTS_PER_ROOM = 4;
/** Every how many rooms one is not encrypted; the announcement room is not either. */
const PLAIN_EVERY = 4;
/** The fewest accounts of a run, however small the scale. */
const ACCOUNTS_MIN = 8;

/** A generator of numbers from 0 to 1, the same ones for the same seed (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** A whole number from a power law between `min` and `max`, by inversion. */
function power_law(share, min, max) {
  const power = 1 - EXPONENT;
  const low = min ** power;
  const high = (max + 1) ** power;
  return Math.min(max, Math.floor((low + share * (high - low)) ** (1 / power)));
}

export class Campus {
  constructor(scale) {
    if (!(scale > 0)) {
      throw new Error('SCALE must be a number above zero; 1 is 26,015 accounts');
    }
    this.scale = scale;
    this.accounts = Math.max(ACCOUNTS_MIN, Math.round((STUDENTS + STAFF) * scale));
    this.staff = Math.max(1, Math.round((this.accounts * STAFF) / (STUDENTS + STAFF)));
    this.rooms = 1 + Math.max(2, Math.round(this.accounts / ACCOUNTS_PER_ROOM));
  }

  /** The name of an account: staff come first. */
  name(account) {
    return account < this.staff ? `staff-${account}` : `student-${account - this.staff}`;
  }

  /** Is a room encrypted? */
  is_encrypted(room) {
    return room > 0 && room % PLAIN_EVERY !== 0;
  }

  /** Members of a room without an order; the first made it. Room 0 is the announcement room. */
  members(room) {
    if (room === 0) {
      return Array.from({ length: this.accounts }, (_, account) => account);
    }
    const next = random(room * 7919 + this.accounts);
    const max = Math.max(MEMBERS_MIN, Math.min(MEMBERS_MAX, Math.floor(this.accounts / 2)));
    const size = power_law(next(), MEMBERS_MIN, max);
    const members = new Set();
    while (members.size < size) {
      members.add(Math.floor(next() * this.accounts));
    }
    return Array.from(members);
  }
}

// How many users, rooms and messages a run has. Numbers can be replaced one by one:
// LOAD_RATE=50 in the environment keeps everything else of the profile.

// users         people, each with one device that syncs all the time
// rooms         rooms, the hall (everybody is in it) included; every other one is encrypted
// rooms_per_user rooms each user is in beside the hall
// hall_every    every how many messages a user writes to the hall instead of to a room
// rate          messages a second, of all users together
// duration      how many seconds messages are sent
const PROFILES = {
  small: { users: 10, rooms: 5, rooms_per_user: 2, hall_every: 5, rate: 20, duration: 10 },
  medium: { users: 100, rooms: 21, rooms_per_user: 4, hall_every: 10, rate: 50, duration: 60 },
  large: { users: 500, rooms: 101, rooms_per_user: 5, hall_every: 50, rate: 100, duration: 300 },
};

/** Returns the profile `env.PROFILE` with the replacements `env` has. */
export function profile(env) {
  const name = env.PROFILE || 'small';
  const chosen = PROFILES[name];
  if (!chosen) {
    throw new Error(`no profile ${name}; there are ${Object.keys(PROFILES).join(', ')}`);
  }
  const result = { name };
  for (const [key, value] of Object.entries(chosen)) {
    const variable = `LOAD_${key.toUpperCase()}`;
    result[key] = env[variable] === undefined ? value : Number(env[variable]);
    if (!(result[key] > 0)) {
      throw new Error(`${variable} must be a number above zero`);
    }
  }
  if (result.rooms_per_user > result.rooms - 1) {
    throw new Error('LOAD_ROOMS_PER_USER is more than there are rooms beside the hall');
  }
  return result;
}

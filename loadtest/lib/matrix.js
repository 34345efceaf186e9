// The few requests of the Matrix client-server API (v1.19) the load test makes. Knows paths and
// bodies; measures nothing.

import http from 'k6/http';
import { fail } from 'k6';

/** Requests under way at once while users and rooms are made. */
const SETUP_PARALLEL = 20;
/** How long a request that is not a long poll may take before it counts as failed. */
const TIMEOUT_MS = 60000;

const JSON_HEADERS = { 'Content-Type': 'application/json' };

/** Parameters of a request: the user's token, and the name under which k6 counts it. */
function params(name, token, timeout_ms = TIMEOUT_MS) {
  const headers = token ? { ...JSON_HEADERS, Authorization: `Bearer ${token}` } : JSON_HEADERS;
  return { headers, tags: { name }, timeout: timeout_ms };
}

/** Makes requests a few at a time; returns their JSON bodies, or ends the run at the first error. */
function all(requests) {
  const bodies = [];
  for (let from = 0; from < requests.length; from += SETUP_PARALLEL) {
    for (const answer of http.batch(requests.slice(from, from + SETUP_PARALLEL))) {
      if (answer.status !== 200) {
        fail(`${answer.request.method} ${answer.url}: ${answer.status} ${answer.error} ${answer.body}`);
      }
      bodies.push(answer.json());
    }
  }
  return bodies;
}

/** Registers users of these names; returns their ids and tokens. */
export function register(url, names) {
  const requests = names.map((username) => {
    const auth = { type: 'm.login.dummy' };
    const body = JSON.stringify({ username, password: `password of ${username}`, auth });
    return ['POST', `${url}/_matrix/client/v3/register`, body, params('register')];
  });
  return all(requests).map((body) => ({ id: body.user_id, token: body.access_token }));
}

/** Makes rooms; `wanted` has the owner's token, the name, who is invited and if it is encrypted. */
export function create_rooms(url, wanted) {
  const requests = wanted.map(({ token, name, invite, is_encrypted }) => {
    const content = { algorithm: 'm.megolm.v1.aes-sha2' };
    const encryption = { type: 'm.room.encryption', state_key: '', content };
    const body = {
      name,
      preset: is_encrypted ? 'private_chat' : 'public_chat',
      invite: is_encrypted ? invite : [],
      initial_state: is_encrypted ? [encryption] : [],
    };
    const path = `${url}/_matrix/client/v3/createRoom`;
    return ['POST', path, JSON.stringify(body), params('createRoom', token)];
  });
  return all(requests).map((body) => body.room_id);
}

/** Joins rooms; `wanted` has a token and a room id each. */
export function join(url, wanted) {
  all(wanted.map(({ token, room }) => {
    const path = `${url}/_matrix/client/v3/join/${encodeURIComponent(room)}`;
    return ['POST', path, '{}', params('join', token)];
  }));
}

/** Sends an event under a transaction id. */
export function send(url, token, room, type, transaction, content) {
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/send/${type}/${transaction}`;
  return http.asyncRequest('PUT', url + path, JSON.stringify(content), params('send', token));
}

/** Asks what is new since a token, waiting up to `wait_ms` for something to happen. */
export function sync(url, token, since, wait_ms, filter) {
  let path = `/_matrix/client/v3/sync?timeout=${wait_ms}&filter=${encodeURIComponent(filter)}`;
  if (since) {
    path += `&since=${encodeURIComponent(since)}`;
  }
  return http.asyncRequest('GET', url + path, null, params('sync', token, wait_ms + TIMEOUT_MS));
}

/** Reads a room backwards from a token. */
export function messages(url, token, room, from) {
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/messages`;
  const query = `?dir=b&limit=100&from=${encodeURIComponent(from)}`;
  return http.asyncRequest('GET', url + path + query, null, params('messages', token));
}

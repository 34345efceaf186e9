// What clients do beside syncing, as requests of the client-server API (Matrix v1.19). Each returns
// the answer and measures nothing.

import crypto from 'k6/crypto';
import http from 'k6/http';
import encoding from 'k6/encoding';

/** How long a request that is not a long poll may take before it counts as failed. */
const TIMEOUT_MS = 60000;

const client = '/_matrix/client/v3';
const part = encodeURIComponent;

function params(name, token, type = 'application/json') {
  const headers = { 'Content-Type': type };
  if (token) {
    headers.Authorization = `Bearer ${token}`;
  }
  return { headers, tags: { name }, timeout: TIMEOUT_MS };
}

function ask(method, url, path, body, name, token) {
  const text = body === null ? null : JSON.stringify(body);
  return http.request(method, url + path, text, params(name, token));
}

/** Registers a user with the shared secret (Synapse's admin API, "Shared-Secret Registration"). */
export function register(url, secret, username, password) {
  const path = '/_synapse/admin/v1/register';
  const first = ask('GET', url, path, null, 'nonce');
  if (first.status !== 200) {
    return first;
  }
  const { nonce } = first.json();
  const signed = [nonce, username, password, 'notadmin'].join('\0');
  const mac = crypto.hmac('sha1', secret, signed, 'hex');
  return ask('POST', url, path, { nonce, username, password, admin: false, mac }, 'register');
}

/** Logs a user in: a new device. */
export function login(url, username, password) {
  const identifier = { type: 'm.id.user', user: username };
  const body = { type: 'm.login.password', identifier, password };
  return ask('POST', url, `${client}/login`, body, 'login');
}

/** Makes a public room under an alias. */
export function create_room(url, token, alias, name, is_encrypted) {
  const content = { algorithm: 'm.megolm.v1.aes-sha2' };
  const encryption = { type: 'm.room.encryption', state_key: '', content };
  const initial_state = is_encrypted ? [encryption] : [];
  const body = { name, room_alias_name: alias, preset: 'public_chat', initial_state };
  return ask('POST', url, `${client}/createRoom`, body, 'createRoom', token);
}

/** Looks up which room has an alias. */
export function resolve(url, token, alias) {
  return ask('GET', url, `${client}/directory/room/${part(alias)}`, null, 'resolve', token);
}

/** Joins a room. */
export function join(url, token, room) {
  return ask('POST', url, `${client}/join/${part(room)}`, {}, 'join', token);
}

/** Sends an event; the transaction makes a repetition harmless. */
export function send(url, token, room, type, transaction, content) {
  const path = `${client}/rooms/${part(room)}/send/${type}/${transaction}`;
  return ask('PUT', url, path, content, 'send', token);
}

/** Says that an event has been read. */
export function receipt(url, token, room, event) {
  const path = `${client}/rooms/${part(room)}/receipt/m.read/${part(event)}`;
  return ask('POST', url, path, {}, 'receipt', token);
}

/** Says that somebody types. */
export function typing(url, { id, token }, room, is_typing) {
  const path = `${client}/rooms/${part(room)}/typing/${part(id)}`;
  const body = is_typing ? { typing: true, timeout: 10000 } : { typing: false };
  return ask('PUT', url, path, body, 'typing', token);
}

/** Uploads one-time keys that have the shape of real ones, but fit no cipher. */
export function upload_keys(url, token, serial) {
  const keys = {};
  for (let number = 0; number < 10; number += 1) {
    keys[`signed_curve25519:${serial}x${number}`] = {
      key: crypto.sha256(`${serial}/${number}`, 'base64'),
      signatures: {},
    };
  }
  return ask('POST', url, `${client}/keys/upload`, { one_time_keys: keys }, 'keys_upload', token);
}

/** Asks for the device keys of users. */
export function query_keys(url, token, users) {
  const device_keys = Object.fromEntries(users.map((user) => [user, []]));
  return ask('POST', url, `${client}/keys/query`, { device_keys }, 'keys_query', token);
}

/** Sends one message to every device of each of these users, as for sharing a room key. */
export function to_device(url, token, transaction, users, size) {
  const content = { algorithm: 'm.olm.v1.curve25519-aes-sha2', ciphertext: noise(size) };
  const messages = Object.fromEntries(users.map((user) => [user, { '*': content }]));
  const path = `${client}/sendToDevice/m.room.encrypted/${transaction}`;
  return ask('PUT', url, path, { messages }, 'to_device', token);
}

/** Uploads a file. */
export function upload(url, token, bytes) {
  const path = '/_matrix/media/v3/upload?filename=load.bin';
  return http.post(url + path, bytes, params('upload', token, 'application/octet-stream'));
}

/** Downloads a file by its mxc: address. */
export function download(url, token, mxc) {
  const path = `/_matrix/client/v1/media/download/${mxc.slice('mxc://'.length)}`;
  return http.get(url + path, { ...params('download', token), responseType: 'none' });
}

/** Text of a length that looks like base64 of a cipher. */
export function noise(length) {
  const bytes = new Uint8Array(Math.ceil((length * 3) / 4));
  for (let place = 0; place < bytes.length; place += 1) {
    bytes[place] = Math.floor(Math.random() * 256);
  }
  return encoding.b64encode(bytes.buffer, 'rawstd').slice(0, length);
}

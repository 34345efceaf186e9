// Who is in which room and who sends what when: a pure function of the profile, so that every
// client can work out by itself what it has to receive, without talking to the others.
//
// The plan is open-loop: message k of user u is due at a time that does not depend on how the
// server does. A user sends one message after the other, like a real client; one that is late
// because the one before it took long still counts from when it was due.

/** The room everybody is in. */
export const HALL = 0;

export class Plan {
  constructor(profile) {
    this.profile = profile;
    this.messages_per_user = Math.max(1, Math.floor((profile.rate * profile.duration) / profile.users));
    this.members = Array.from({ length: profile.rooms }, () => []);
    for (let user = 0; user < profile.users; user += 1) {
      for (const room of this.rooms_of(user)) {
        this.members[room].push(user);
      }
    }
  }

  /** The rooms of a user, the hall first. */
  rooms_of(user) {
    const { rooms, rooms_per_user } = this.profile;
    const step = Math.max(1, Math.floor((rooms - 1) / rooms_per_user));
    const own = Array.from({ length: rooms_per_user }, (_, i) => 1 + ((user + i * step) % (rooms - 1)));
    return [HALL, ...own];
  }

  /** Every other room is encrypted. */
  is_encrypted(room) {
    return room % 2 === 1;
  }

  /** What a user sends: the room and the number within that room, in order. */
  messages_of(user) {
    const [hall, ...own] = this.rooms_of(user);
    const sent = {};
    const messages = [];
    for (let k = 0; k < this.messages_per_user; k += 1) {
      const is_hall = k % this.profile.hall_every === this.profile.hall_every - 1;
      const room = is_hall ? hall : own[k % own.length];
      sent[room] = (sent[room] || 0) + 1;
      messages.push({ k, room, number: sent[room] });
    }
    return messages;
  }

  /** When message k of a user is due, in milliseconds after the start. */
  due_ms(user, k) {
    return Math.round(((k * this.profile.users + user) * 1000) / this.profile.rate);
  }

  /** When the last message is due. */
  get end_ms() {
    return this.due_ms(this.profile.users - 1, this.messages_per_user - 1);
  }

  /** How many messages a user is to receive, its own included. */
  expected_by(user) {
    const rooms = new Set(this.rooms_of(user));
    let expected = 0;
    for (let sender = 0; sender < this.profile.users; sender += 1) {
      expected += this.messages_of(sender).filter(({ room }) => rooms.has(room)).length;
    }
    return expected;
  }

  /** How many messages are sent, and how often one is received, by all together. */
  totals() {
    let sent = 0;
    let received = 0;
    for (let sender = 0; sender < this.profile.users; sender += 1) {
      for (const { room } of this.messages_of(sender)) {
        sent += 1;
        received += this.members[room].length;
      }
    }
    return { sent, received };
  }
}

// What one client has received, and what is wrong with it: twice the same, or a sender's messages
// in another order than they were sent. Pure.

export class Ledger {
  constructor(expected) {
    this.expected = expected;
    this.last = {};
    this.numbers = new Set();
  }

  /** Enters a message and says what it is: `new`, `duplicate` or `out_of_order`. */
  enter(room, sender, number) {
    const from = `${room}/${sender}`;
    const key = `${from}/${number}`;
    if (this.numbers.has(key)) {
      return 'duplicate';
    }
    this.numbers.add(key);
    const before = this.last[from] || 0;
    this.last[from] = Math.max(before, number);
    return number > before ? 'new' : 'out_of_order';
  }

  /** Says whether a message has been entered. */
  has(room, sender, number) {
    return this.numbers.has(`${room}/${sender}/${number}`);
  }

  /** Messages still missing. */
  get missing() {
    return this.expected - this.numbers.size;
  }
}

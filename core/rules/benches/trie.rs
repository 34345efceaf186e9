//! The state trie in a room of 10,000 members: a change, a lookup, a comparison, a listing.

use std::hint::black_box;

use colonnade_model::nid::{EventNid, StateKeyNid, StateNid};
use colonnade_rules::trie::{
    Diff, DigestKey, Entry, LoadedRows, State, StateChange, Walk, lookup, lookup_many,
};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const MEMBERS: i64 = 10_000;

struct Room {
    rows: LoadedRows,
    state: State,
    key: DigestKey,
    last: i64,
}

impl Room {
    fn new() -> Self {
        let entry =
            |i: i64| Entry { state_key_nid: StateKeyNid(i * 7), event: EventNid(1_000_000 + i) };
        let key = DigestKey::new([1; 32]);
        let mut last = 0;
        let mut next = || {
            last += 1;
            StateNid(last)
        };
        let built = State::build([], (0..MEMBERS).map(entry), &key, &mut next)
            .expect("ascending ids make a state");
        let mut rows = LoadedRows::default();
        built.rows.into_iter().for_each(|row| rows.insert(row.row));
        Self { rows, state: built.state, key, last }
    }

    /// Changes one member, and with `keep` goes on from there.
    fn change(&mut self, member: i64, keep: bool) -> State {
        let edit = (StateKeyNid(member * 7), Some(EventNid(2_000_000 + self.last)));
        let change = StateChange { core: Vec::new(), member: vec![edit] };
        let new = self
            .state
            .change(&self.rows, &change, StateNid(self.last + 1), &self.key)
            .expect("all rows are loaded");
        if keep {
            self.last += 1;
            self.state = new.state;
            new.rows.into_iter().for_each(|row| self.rows.insert(row.row));
        }
        new.state
    }
}

fn benches(c: &mut Criterion) {
    let mut room = Room::new();
    let old = room.state;
    for i in 0..1_000 {
        room.change(i * 37 % MEMBERS, true);
    }
    let mut member = 0;
    c.bench_function("trie/change one member of 10k", |b| {
        b.iter(|| {
            member = (member + 617) % MEMBERS;
            black_box(room.change(member, false))
        });
    });
    c.bench_function("trie/look up one member of 10k", |b| {
        b.iter(|| {
            member = (member + 617) % MEMBERS;
            black_box(lookup(&room.rows, room.state.member, StateKeyNid(member * 7)))
        });
    });
    let state_key_nids: Vec<StateKeyNid> = (0..100).map(|i| StateKeyNid(i * 700)).collect();
    c.bench_function("trie/look up 100 members of 10k", |b| {
        b.iter(|| black_box(lookup_many(&room.rows, room.state.member, &state_key_nids)));
    });
    let mut near = Room::new();
    let before = near.state;
    (0..10).for_each(|i| {
        near.change(i * 911, true);
    });
    c.bench_function("trie/compare states 10 changes apart", |b| {
        b.iter(|| {
            let mut diff = Diff::new(before.member, near.state.member);
            let _ = black_box(diff.step(&near.rows));
            diff.take()
        });
    });
    c.bench_function("trie/compare states 1000 changes apart", |b| {
        b.iter(|| {
            let mut diff = Diff::new(old.member, room.state.member);
            let _ = black_box(diff.step(&room.rows));
            diff.take()
        });
    });
    c.bench_function("trie/list 10k members", |b| {
        b.iter(|| {
            let mut walk = Walk::new(room.state.member);
            let _ = black_box(walk.step(&room.rows));
            walk.take()
        });
    });
    c.bench_function("trie/build 10k members", |b| {
        b.iter_batched(|| (), |()| Room::new(), BatchSize::LargeInput);
    });
}

criterion_group!(all, benches);
criterion_main!(all);

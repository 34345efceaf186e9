//! Properties of the trie against a `BTreeMap`, and the size of what it writes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use colonnade_model::nid::{EventNid, StateKeyNid, StateNid};
use proptest::prelude::*;

use super::{
    ChildKind, Corrupt, Delta, Diff, Digest, DigestKey, Entry, LEAF_MAX, LoadedRows, NewState,
    Node, NodeRef, Nodes, Progress, Row, State, StateChange, TrieError, Walk, lookup, lookup_many,
};

type Map = BTreeMap<i64, i64>;
type Edits = Vec<(i64, Option<i64>)>;

fn key() -> DigestKey {
    DigestKey::new([7; 32])
}

/// All rows ever stored, as bytes: every load goes through the encoding.
#[derive(Default)]
struct Store {
    rows: HashMap<StateNid, Vec<u8>>,
    loads: usize,
}

impl Store {
    fn keep(&mut self, new: &NewState) {
        for row in &new.rows {
            let decoded = Row::decode(row.row.state, &row.bytes).unwrap();
            assert_eq!(decoded, *row.row, "decoding gives what was encoded");
            assert!(self.rows.insert(row.row.state, row.bytes.clone()).is_none());
        }
    }

    fn load(&mut self, need: &[StateNid]) -> Vec<Arc<Row>> {
        assert!(need.is_sorted() && !need.is_empty());
        self.loads += 1;
        let row = |state: &StateNid| Arc::new(Row::decode(*state, &self.rows[state]).unwrap());
        need.iter().map(row).collect()
    }

    /// Runs an operation that restarts after each load.
    fn run<T>(&mut self, op: impl Fn(&LoadedRows) -> Result<T, TrieError>) -> T {
        let mut rows = LoadedRows::default();
        loop {
            match op(&rows) {
                Err(TrieError::Missing(need)) => {
                    let loaded = self.load(&need);
                    rows.add(&need, loaded).unwrap();
                }
                done => return done.unwrap(),
            }
        }
    }

    fn step(&mut self, mut step: impl FnMut(&LoadedRows) -> Result<Progress, Corrupt>) {
        let mut rows = LoadedRows::default();
        while let Progress::Need(need) = step(&rows).unwrap() {
            let loaded = self.load(&need);
            rows.add(&need, loaded).unwrap();
        }
    }

    fn list(&mut self, root: Option<NodeRef>) -> Map {
        let mut walk = Walk::new(root);
        self.step(|rows| walk.step(rows));
        let found = walk.take();
        let map: Map = found.iter().map(|e| (e.state_key_nid.0, e.event.0)).collect();
        assert_eq!(map.len(), found.len(), "each key is listed once");
        map
    }

    fn diff(&mut self, one: Option<NodeRef>, two: Option<NodeRef>) -> Vec<Delta> {
        let mut diff = Diff::new(one, two);
        self.step(|rows| diff.step(rows));
        let mut found = diff.take();
        found.sort();
        found
    }

    /// The shape below a node, without identities.
    fn shape(&mut self, at: NodeRef) -> String {
        let row = self.load(&[at.state]).remove(0);
        match &*row.nodes[at.index as usize] {
            Node::Leaf(entries) => format!("{entries:?}"),
            Node::Inner(inner) => {
                let child = |child: &super::Child| match child.kind {
                    ChildKind::Empty => format!("{}:-", child.slot),
                    ChildKind::Leaf { len, at } => {
                        format!("{}/{}:{len}{}", child.slot, child.bits, self.shape(at))
                    }
                    ChildKind::Inner { at } => format!("{}:({})", child.slot, self.shape(at)),
                };
                inner.children().iter().map(child).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

fn edits(edits: &Edits) -> Vec<(StateKeyNid, Option<EventNid>)> {
    edits
        .iter()
        .map(|&(state_key_nid, event)| (StateKeyNid(state_key_nid), event.map(EventNid)))
        .collect()
}

fn entries(map: &Map) -> Vec<Entry> {
    let entry = |(&state_key_nid, &event)| Entry {
        state_key_nid: StateKeyNid(state_key_nid),
        event: EventNid(event),
    };
    map.iter().map(entry).collect()
}

fn naive_diff(one: &Map, two: &Map) -> Vec<Delta> {
    let mut keys: Vec<i64> = one.keys().chain(two.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    let delta = |state_key_nid: i64| Delta {
        state_key_nid: StateKeyNid(state_key_nid),
        before: one.get(&state_key_nid).copied().map(EventNid),
        after: two.get(&state_key_nid).copied().map(EventNid),
    };
    let mut deltas: Vec<Delta> =
        keys.into_iter().map(delta).filter(|delta| delta.before != delta.after).collect();
    deltas.sort();
    deltas
}

fn apply(map: &mut Map, edits: &Edits) {
    for &(state_key_nid, event) in edits {
        match event {
            Some(event) => map.insert(state_key_nid, event),
            None => map.remove(&state_key_nid),
        };
    }
}

/// Few enough keys that leaves split and merge again and again, and some odd ones.
fn any_edits() -> impl Strategy<Value = Edits> {
    let state_key_nid = prop_oneof![12 => 0..120i64, 1 => any::<i64>()];
    let event = prop_oneof![2 => (0..1_000i64).prop_map(Some), 1 => Just(None),
        1 => any::<i64>().prop_map(Some)];
    prop::collection::vec((state_key_nid, event), 0..60)
}

proptest! {
    // One case is a hundred operations.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn behaves_like_a_map(
        start in prop::collection::btree_map(0..120i64, 0..1_000i64, 0..100),
        steps in prop::collection::vec((any_edits(), any_edits()), 1..12),
    ) {
        let mut store = Store::default();
        let (mut core, mut member) = (Map::new(), start);
        let mut last = 1;
        let mut next = || { last += 1; StateNid(last) };
        let built = State::build(entries(&core), entries(&member), &key(), &mut next).unwrap();
        store.keep(&built);
        let mut states = vec![(built.state, core.clone(), member.clone())];
        for (core_edits, member_edits) in &steps {
            let own = next();
            let base = states.last().unwrap().0;
            let change = StateChange { core: edits(core_edits), member: edits(member_edits) };
            let new = store.run(|rows| base.change(rows, &change, own, &key()));
            store.keep(&new);
            let before = (core.clone(), member.clone());
            apply(&mut core, core_edits);
            apply(&mut member, member_edits);

            let mut deltas = new.deltas.clone();
            deltas.sort();
            let mut expected = naive_diff(&before.0, &core);
            expected.extend(naive_diff(&before.1, &member));
            expected.sort();
            prop_assert_eq!(deltas, expected);
            if new.deltas.is_empty() {
                prop_assert_eq!(new.state, base);
                prop_assert!(new.rows[0].row.nodes.is_empty());
            }
            prop_assert_eq!(new.state.core_len, core.len() as u64);
            prop_assert_eq!(new.state.member_len, member.len() as u64);
            prop_assert_eq!(store.list(new.state.core), core.clone());
            prop_assert_eq!(store.list(new.state.member), member.clone());

            // Whatever the history, the shape and the digest are those of the entries.
            let again = State::build(
                entries(&core).into_iter().rev(), entries(&member), &key(), &mut next,
            ).unwrap();
            store.keep(&again);
            prop_assert_eq!(again.state.digest, new.state.digest);
            for (one, two) in [
                (new.state.core, again.state.core),
                (new.state.member, again.state.member),
            ] {
                prop_assert_eq!(one.is_some(), two.is_some());
                if let (Some(one), Some(two)) = (one, two) {
                    prop_assert_eq!(store.shape(one), store.shape(two));
                }
                prop_assert_eq!(store.diff(one, two), vec![]);
            }
            states.push((new.state, core.clone(), member.clone()));
        }
        let state_key_nids: Vec<StateKeyNid> = (-3..125).map(StateKeyNid).collect();
        for (state, core, member) in &states {
            let found = store.run(|rows| lookup_many(rows, state.member, &state_key_nids));
            for (state_key_nid, found) in state_key_nids.iter().zip(found) {
                prop_assert_eq!(found, member.get(&state_key_nid.0).copied().map(EventNid));
                let one = store.run(|rows| lookup(rows, state.core, *state_key_nid));
                prop_assert_eq!(one, core.get(&state_key_nid.0).copied().map(EventNid));
            }
            for (other, other_core, other_member) in &states {
                prop_assert_eq!(store.diff(state.core, other.core), naive_diff(core, other_core));
                let naive = naive_diff(member, other_member);
                prop_assert_eq!(store.diff(state.member, other.member), naive);
            }
        }
    }

}

proptest! {
    #[test]
    fn decoding_is_total(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        state in any::<i64>(),
    ) {
        if let Ok(row) = Row::decode(StateNid(state), &bytes) {
            exercise(&row);
        }
    }

    #[test]
    fn decoding_survives_damage(
        map in prop::collection::btree_map(0..1_000i64, 0..1_000i64, 1..200),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut last = 0;
        let mut next = || { last += 1; StateNid(last) };
        let built = State::build([], entries(&map), &key(), &mut next).unwrap();
        let mut bytes = built.rows[0].bytes.clone();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(row) = Row::decode(StateNid(1), &bytes) {
            exercise(&row);
        }
        prop_assert!(Row::decode(StateNid(1), &bytes[..place]).is_err());
    }

    #[test]
    fn a_root_round_trips(state in any::<i64>(), index in any::<u32>()) {
        let at = NodeRef { state: StateNid(state), index };
        prop_assert_eq!(NodeRef::from_bytes(&at.to_bytes()), Ok(at));
    }

    #[test]
    fn digest_ignores_order(mut all in prop::collection::vec((any::<i64>(), any::<i64>()), 0..20)) {
        let add = |d: Digest, &(k, e): &(i64, i64)| d.add(&key(), StateKeyNid(k), EventNid(e));
        let forth = all.iter().fold(Digest::EMPTY, add);
        all.reverse();
        prop_assert_eq!(all.iter().fold(Digest::EMPTY, add), forth);
        let remove = |d: Digest, &(k, e): &(i64, i64)| d.remove(&key(), StateKeyNid(k), EventNid(e));
        prop_assert_eq!(all.iter().fold(forth, remove), Digest::EMPTY);
    }
}

/// Uses every operation on a row that decoded, whatever it says.
fn exercise(row: &Row) {
    let mut rows = LoadedRows::default();
    rows.insert(Arc::new(row.clone()));
    let state = row.state;
    let last = (row.nodes.len() as u32).checked_sub(1).map(|index| NodeRef { state, index });
    let _ = lookup(&rows, last, StateKeyNid(1));
    let _ = Walk::new(last).step(&rows);
    let _ = Diff::new(last, None).step(&rows);
    if row.nodes.len() > 1 {
        let first = Some(NodeRef { state, index: 0 });
        let _ = Diff::new(last, first).step(&rows);
    }
    let base = State { member: last, ..State::EMPTY };
    let member =
        (0..40).map(|state_key_nid| (StateKeyNid(state_key_nid), Some(EventNid(1)))).collect();
    let change = StateChange { core: vec![], member };
    let own = StateNid(state.0.saturating_add(1));
    if let Ok(new) = base.change(&rows, &change, own, &key()) {
        let row = &new.rows[0];
        assert_eq!(Row::decode(own, &row.bytes).as_ref(), Ok(&*row.row));
    }
}

/// A small generator of even numbers; the figures below must not depend on a library's.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(x ^ x >> 31) * u128::from(below)) >> 64) as u64
    }
}

fn numbered() -> impl FnMut() -> StateNid {
    let mut last = 0;
    move || {
        last += 1;
        StateNid(last)
    }
}

#[test]
fn a_change_in_a_room_of_10k_members_is_small() {
    let mut dice = Dice(1);
    let mut next = numbered();
    // Ids as in a server with other rooms: keys of a room lie apart, and so do its events.
    let mut state_key_nids: Vec<i64> = (0..10_000).map(|i| 1_000 + i * 7).collect();
    let mut event = 1_000_000i64;
    let mut seed = Map::new();
    for &state_key_nid in &state_key_nids {
        event += 5;
        seed.insert(state_key_nid, event);
    }
    let core: Map = (0..20).map(|i| (i, 900_000 + i)).collect();
    let built = State::build(entries(&core), entries(&seed), &key(), &mut next).unwrap();
    let mut rows = LoadedRows::default();
    let sizes: Vec<usize> = built.rows.iter().map(|row| row.bytes.len()).collect();
    assert!(sizes.iter().all(|&size| size < 8_192), "{sizes:?}");
    assert!(sizes[..sizes.len() - 1].iter().all(|&size| size >= 4_096), "{sizes:?}");
    for row in built.rows {
        rows.insert(row.row);
    }
    let mut state = built.state;
    let (mut bytes, mut most) = (0, 0);
    const CHANGES: usize = 10_000;
    for _ in 0..CHANGES {
        event += 1 + dice.roll(9) as i64;
        let mut change = StateChange::default();
        let new_event = Some(EventNid(event));
        match dice.roll(20) {
            0 => change.core.push((StateKeyNid(3), new_event)),
            1..=4 => {
                let state_key_nid = state_key_nids.last().unwrap() + 7;
                state_key_nids.push(state_key_nid);
                change.member.push((StateKeyNid(state_key_nid), new_event));
            }
            _ => {
                let state_key_nid = state_key_nids[dice.roll(state_key_nids.len() as u64) as usize];
                change.member.push((StateKeyNid(state_key_nid), new_event));
            }
        }
        let mut new = state.change(&rows, &change, next(), &key()).unwrap();
        let row = new.rows.remove(0);
        bytes += row.bytes.len();
        most = most.max(row.bytes.len());
        rows.insert(row.row);
        state = new.state;
    }
    let mean = bytes / CHANGES;
    // 224 when written; the design allowed 310 with sparser ids.
    assert!(mean <= 240, "{mean} bytes per change");
    assert!(most <= 400, "{most} bytes in the largest change");
}

#[test]
fn a_listing_loads_a_level_at_a_time() {
    let mut store = Store::default();
    let map: Map = (0..5_000).map(|state_key_nid| (state_key_nid, state_key_nid)).collect();
    let built = State::build([], entries(&map), &key(), &mut numbered()).unwrap();
    store.keep(&built);
    assert_eq!(store.list(built.state.member), map);
    assert!(store.loads <= 5, "{} rounds", store.loads);
    let state_key_nids: Vec<StateKeyNid> = (0..5_000).map(StateKeyNid).collect();
    store.loads = 0;
    let found = store.run(|rows| lookup_many(rows, built.state.member, &state_key_nids));
    assert!(
        found.iter().zip(0..).all(|(found, state_key_nid)| *found == Some(EventNid(state_key_nid)))
    );
    assert!(store.loads <= 5, "{} rounds", store.loads);
    store.loads = 0;
    assert_eq!(store.diff(None, built.state.member).len(), 5_000);
    assert!(store.loads <= 5, "{} rounds", store.loads);
}

#[test]
fn a_diff_reads_only_what_differs() {
    struct Counting(LoadedRows, std::cell::Cell<usize>);
    impl Nodes for Counting {
        fn node(&self, at: NodeRef) -> Option<Arc<Node>> {
            self.1.set(self.1.get() + 1);
            self.0.node(at)
        }
    }
    let mut next = numbered();
    let map: Map = (0..20_000).map(|state_key_nid| (state_key_nid, state_key_nid)).collect();
    let built = State::build([], entries(&map), &key(), &mut next).unwrap();
    let mut rows = LoadedRows::default();
    built.rows.iter().for_each(|row| rows.insert(row.row.clone()));
    let change =
        StateChange { core: vec![], member: vec![(StateKeyNid(77), Some(EventNid(99_999)))] };
    let new = built.state.change(&rows, &change, next(), &key()).unwrap();
    rows.insert(new.rows[0].row.clone());
    let rows = Counting(rows, 0.into());
    let mut diff = Diff::new(built.state.member, new.state.member);
    assert_eq!(diff.step(&rows), Ok(Progress::Done));
    assert_eq!(diff.take(), new.deltas);
    assert!(rows.1.get() <= 12, "{} nodes read", rows.1.get());
}

#[test]
fn a_state_refuses_to_refer_to_a_later_one() {
    let map: Map = (0..200).map(|state_key_nid| (state_key_nid, state_key_nid)).collect();
    let mut next = numbered();
    let built = State::build([], entries(&map), &key(), &mut next).unwrap();
    let mut rows = LoadedRows::default();
    built.rows.iter().for_each(|row| rows.insert(row.row.clone()));
    let change = StateChange { core: vec![], member: vec![(StateKeyNid(7), None)] };
    let refused = built.state.change(&rows, &change, StateNid(0), &key());
    assert!(matches!(refused, Err(TrieError::Order { own: StateNid(0), .. })));
}

#[test]
fn a_dangling_reference_is_corrupt_not_a_loop() {
    let root = NodeRef { state: StateNid(9), index: 4 };
    let mut walk = Walk::new(Some(root));
    assert_eq!(walk.step(&LoadedRows::default()), Ok(Progress::Need(vec![StateNid(9)])));
    assert!(walk.step(&LoadedRows::default()).is_err());
    let mut rows = LoadedRows::default();
    let row = Arc::new(Row { state: StateNid(9), nodes: vec![] });
    rows.add(&[StateNid(9)], [row.clone()]).unwrap();
    assert_eq!(
        lookup(&rows, Some(root), StateKeyNid(1)),
        Err(TrieError::Missing(vec![StateNid(9)]))
    );
    assert!(rows.add(&[StateNid(9)], [row]).is_err());
    assert!(rows.add(&[StateNid(8)], []).is_err());
}

#[test]
fn leaves_fill_as_designed() {
    let map: Map =
        (0..LEAF_MAX as i64).map(|state_key_nid| (state_key_nid, state_key_nid)).collect();
    let built = State::build([], entries(&map), &key(), &mut numbered()).unwrap();
    assert_eq!(built.rows[0].row.nodes.len(), 1);
    assert_eq!(built.state.core, None);
}

#[test]
fn an_entry_outside_its_subtree_is_corrupt() {
    // Found by fuzzing: the next change would have written a leaf that holds a key twice.
    let bytes = [1, 3, 1, 5, 7, 0, 1, 5, 7, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1];
    let row = Row::decode(StateNid(1_000), &bytes).unwrap();
    let mut rows = LoadedRows::default();
    rows.insert(Arc::new(row));
    let base = State { member: Some(NodeRef { state: StateNid(1_000), index: 2 }), ..State::EMPTY };
    let member =
        (0..40).map(|state_key_nid| (StateKeyNid(state_key_nid), Some(EventNid(1)))).collect();
    let change = StateChange { core: vec![], member };
    let changed = base.change(&rows, &change, StateNid(1_001), &key());
    assert!(matches!(changed, Err(TrieError::Corrupt(_))));
}

//! Any bytes as a stored state row: refused, or safe to use in every operation.

#![no_main]

use std::sync::Arc;

use colonnade_model::nid::{EventNid, StateKeyNid, StateNid};
use colonnade_rules::trie::{
    Diff, DigestKey, LoadedRows, NodeRef, Row, State, StateChange, Walk, lookup,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = NodeRef::from_bytes(bytes);
    let state = StateNid(1_000);
    let Ok(row) = Row::decode(state, bytes) else { return };
    let Some(last) = row.nodes.len().checked_sub(1) else { return };
    let root = |index: usize| Some(NodeRef { state, index: index as u32 });
    let mut rows = LoadedRows::default();
    rows.insert(Arc::new(row));
    let _ = lookup(&rows, root(last), StateKeyNid(1));
    let _ = Walk::new(root(last)).step(&rows);
    let _ = Diff::new(root(last), root(0)).step(&rows);
    let base = State { member: root(last), ..State::EMPTY };
    let member = (0..40).map(|i| (StateKeyNid(i), (i % 3 != 0).then_some(EventNid(i)))).collect();
    let change = StateChange { core: Vec::new(), member };
    let key = DigestKey::new([0; 32]);
    if let Ok(new) = base.change(&rows, &change, StateNid(1_001), &key) {
        for row in new.rows {
            assert_eq!(Row::decode(StateNid(1_001), &row.bytes).as_ref(), Ok(&*row.row));
        }
    }
});

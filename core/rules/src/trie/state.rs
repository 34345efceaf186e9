//! Whole states: the two tries, their sizes and the digest, moved on together.

use std::collections::BTreeSet;

use super::{
    Delta, Digest, DigestKey, Entry, NewRow, NodeRef, Nodes, TrieError,
    build::{Tree, Writer},
    change::{Changed, change},
    mix,
};
use colonnade_model::nid::{EventNid, StateKeyNid, StateNid};

/// A room state as its row describes it. Small and `Copy`; the nodes are elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Root of everything but membership.
    pub core: Option<NodeRef>,
    /// Root of the `m.room.member` entries.
    pub member: Option<NodeRef>,
    /// Entries under `core`.
    pub core_len: u64,
    /// Entries under `member`.
    pub member_len: u64,
    /// The digest of all entries of both.
    pub digest: Digest,
}

/// A state that was made and must be stored, unless one with its digest exists in the room.
#[derive(Clone, Debug)]
pub struct NewState {
    /// The id of the state: that of the last row.
    pub nid: StateNid,
    /// What to store beside the rows, with the last of them.
    pub state: State,
    /// The rows. A change makes one. A bulk build may make several: those before the last hold
    /// nodes only and stand for no state of their own.
    pub rows: Vec<NewRow>,
    /// What differs from the state before, each key once, unordered. Empty for a bulk build.
    pub deltas: Vec<Delta>,
}

/// Edits that lead from one state to the next. An event sets a key, `None` removes it; of several
/// edits of one key the last counts.
#[derive(Clone, Debug, Default)]
pub struct StateChange {
    /// Edits of everything but membership.
    pub core: Vec<(StateKeyNid, Option<EventNid>)>,
    /// Edits of `m.room.member` entries.
    pub member: Vec<(StateKeyNid, Option<EventNid>)>,
}

impl State {
    /// The state without entries.
    pub const EMPTY: Self =
        Self { core: None, member: None, core_len: 0, member_len: 0, digest: Digest::EMPTY };

    /// Makes the state that the edits lead to, with the id `own`, in one row.
    ///
    /// Without an effective edit the result equals `self` and its row is empty; do not store it.
    /// If a state of the room has the same digest, use that one instead.
    ///
    /// # Errors
    /// [`TrieError::Missing`] for rows to load first, at most once per level of the tries;
    /// [`TrieError::Order`] when `own` is smaller than a state whose nodes would be shared.
    pub fn change(
        &self,
        nodes: &impl Nodes,
        edits: &StateChange,
        own: StateNid,
        key: &DigestKey,
    ) -> Result<NewState, TrieError> {
        let mut missing = BTreeSet::new();
        let core = change(nodes, self.core, &edits.core, &mut missing)?;
        let member = change(nodes, self.member, &edits.member, &mut missing)?;
        let (Some(core), Some(member)) = (core, member) else {
            return Err(TrieError::Missing(missing.into_iter().collect()));
        };
        let mut state = *self;
        state.core_len = moved(self.core_len, &core);
        state.member_len = moved(self.member_len, &member);
        let mut deltas = core.deltas;
        deltas.extend(member.deltas);
        for delta in &deltas {
            if let Some(event) = delta.before {
                state.digest = state.digest.remove(key, delta.state_key_nid, event);
            }
            if let Some(event) = delta.after {
                state.digest = state.digest.add(key, delta.state_key_nid, event);
            }
        }
        let mut writer = Writer::one_row(own);
        state.core = writer.write_root(core.tree)?;
        state.member = writer.write_root(member.tree)?;
        Ok(NewState { nid: own, state, rows: writer.finish(), deltas })
    }

    /// Makes a state from all its entries, in any order. Of several entries of one key the last
    /// counts.
    ///
    /// `next` gives ids of state rows, ascending; the last one taken is the id of the state.
    ///
    /// # Errors
    /// [`TrieError::Order`] when `next` does not ascend.
    pub fn build(
        core: impl IntoIterator<Item = Entry>,
        member: impl IntoIterator<Item = Entry>,
        key: &DigestKey,
        next: &mut dyn FnMut() -> StateNid,
    ) -> Result<NewState, TrieError> {
        let (core, member) = (distinct(core), distinct(member));
        let mut state =
            Self { core_len: core.len() as u64, member_len: member.len() as u64, ..Self::EMPTY };
        for entry in core.iter().chain(&member) {
            state.digest = state.digest.add(key, entry.state_key_nid, entry.event);
        }
        let mut writer = Writer::many_rows(next);
        state.core = writer.write_root(Tree::of(core, 0))?;
        state.member = writer.write_root(Tree::of(member, 0))?;
        let rows = writer.finish();
        let nid = rows.last().map_or(StateNid(0), |row| row.row.state);
        Ok(NewState { nid, state, rows, deltas: Vec::new() })
    }
}

fn moved(len: u64, changed: &Changed) -> u64 {
    let added = changed.deltas.iter().filter(|delta| delta.before.is_none()).count() as u64;
    let removed = changed.deltas.iter().filter(|delta| delta.after.is_none()).count() as u64;
    (len + added).saturating_sub(removed)
}

/// Keeps the last entry of each key.
fn distinct(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = entries.into_iter().collect();
    // In the order of the trie, so that building splits runs that lie together in memory. The
    // sort is stable: the last entry of a key stays last.
    entries.sort_by_key(|entry| mix(entry.state_key_nid));
    entries.reverse();
    entries.dedup_by_key(|entry| entry.state_key_nid);
    entries
}

//! Room states: the store under `rules::trie`. Loads the rows an operation asks for, keeps decoded
//! nodes in memory, and finds a state by its digest. States never change; one that was made and not
//! committed lives in a [`Pending`] that its maker passes along.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use colonnade_model::{
    nid::{EventNid, RoomNid, StateKeyNid, StateNid},
    stream::Position,
};
use colonnade_rules::trie::{
    self, Delta, Diff, DigestKey, Entry, LoadedRows, NewState, Node, NodeRef, Nodes, Progress, Row,
    State, StateChange, TrieError, Walk,
};
use quick_cache::{Weighter, sync::Cache};

mod pending;
mod roots;

pub use self::pending::Pending;
use self::roots::{encode_roots, read_state};
use crate::{
    Database, Tx,
    database::{int_list, metrics::CacheFigures, sql},
    error::{Result, StorageError},
};

/// Memory for decoded nodes: the hot part of thousands of rooms, since versions share nodes.
const NODES_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// About how many bytes a node takes, to size the cache's table.
const NODE_BYTES: usize = 400;
/// States whose roots are kept in memory; about 150 bytes each.
const STATES_MAX: usize = 20_000;
/// Rows read with one statement.
const ROWS_MAX: usize = 500;

/// Which of the two tries of a state: membership is kept apart from everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything but membership.
    Core,
    /// `m.room.member`.
    Member,
}

impl Part {
    /// Returns the part that state events of this type are kept in.
    pub fn of(event_type: &str) -> Self {
        if event_type == "m.room.member" { Self::Member } else { Self::Core }
    }

    fn root(self, state: &State) -> Option<NodeRef> {
        match self {
            Self::Core => state.core,
            Self::Member => state.member,
        }
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<NodeRef, Arc<Node>> for ByBytes {
    fn weight(&self, _: &NodeRef, node: &Arc<Node>) -> u64 {
        node.weight() as u64
    }
}

/// The room states of one database.
pub struct States {
    db: Database,
    nodes: Cache<NodeRef, Arc<Node>, ByBytes>,
    states: Cache<StateNid, State>,
    key: DigestKey,
}

/// Where nodes are looked for: what is not committed, then the cache.
#[derive(Clone, Copy)]
struct View<'a> {
    states: &'a States,
    pending: &'a Pending,
}

impl Nodes for View<'_> {
    fn node(&self, at: NodeRef) -> Option<Arc<Node>> {
        match self.pending.row(at.state) {
            Some(row) => row.nodes.get(at.index as usize).cloned(),
            None => self.states.nodes.get(&at),
        }
    }
}

impl States {
    /// Returns how well the caches do.
    pub fn figures(&self) -> Vec<CacheFigures> {
        vec![
            CacheFigures::of("state_nodes", &self.nodes),
            CacheFigures::of("room_states", &self.states),
        ]
    }

    /// Opens the store; `digest_key` is the deployment's secret for digests.
    pub fn new(db: Database, digest_key: [u8; 32]) -> Self {
        let nodes_max = NODES_BYTES_MAX as usize / NODE_BYTES;
        Self {
            db,
            nodes: Cache::with_weighter(nodes_max, NODES_BYTES_MAX, ByBytes),
            states: Cache::new(STATES_MAX),
            key: DigestKey::new(digest_key),
        }
    }

    /// Returns a state: its roots, sizes and digest.
    ///
    /// # Errors
    /// When the database fails or has no such state.
    pub async fn get(&self, nid: StateNid) -> Result<State> {
        self.get_with(nid, &Pending::default()).await
    }

    /// [`States::get`], also among uncommitted states.
    ///
    /// # Errors
    /// When the database fails or has no such state.
    pub async fn get_with(&self, nid: StateNid, pending: &Pending) -> Result<State> {
        const GET: &str = "SELECT digest, roots FROM room_states WHERE state_nid = $1";
        if let Some(state) = pending.state(nid).or_else(|| self.states.get(&nid)) {
            return Ok(state);
        }
        let row: Option<(Vec<u8>, Vec<u8>)> =
            read!(self.db, |c| sql::query_as(GET).bind(nid.0).fetch_optional(c))?;
        let missing = || StorageError::corrupt("room_states", "roots", nid, "no such row");
        let (digest, roots) = row.ok_or_else(missing)?;
        let state = read_state(nid, digest, &roots)?;
        self.states.insert(nid, state);
        Ok(state)
    }

    /// Returns the event that holds a key in a state.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn lookup(
        &self,
        nid: StateNid,
        part: Part,
        key: StateKeyNid,
    ) -> Result<Option<EventNid>> {
        let found = self.lookup_many(nid, part, &[key]).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// Returns the events that hold these keys in a state, in the order of the keys.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn lookup_many(
        &self,
        nid: StateNid,
        part: Part,
        keys: &[StateKeyNid],
    ) -> Result<Vec<Option<EventNid>>> {
        self.lookup_with(nid, part, keys, &Pending::default()).await
    }

    /// [`States::lookup_many`], also among uncommitted states.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn lookup_with(
        &self,
        nid: StateNid,
        part: Part,
        keys: &[StateKeyNid],
        pending: &Pending,
    ) -> Result<Vec<Option<EventNid>>> {
        let root = part.root(&self.get_with(nid, pending).await?);
        let mut rows = LoadedRows::over(View { states: self, pending });
        loop {
            match trie::lookup_many(&rows, root, keys) {
                Err(TrieError::Missing(need)) => self.load(&mut rows, &need).await?,
                found => return found.map_err(|error| damaged(nid, &error)),
            }
        }
    }

    /// Returns the event that holds a key in each of many states.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn lookup_across(
        &self,
        nids: &[StateNid],
        part: Part,
        key: StateKeyNid,
    ) -> Result<HashMap<StateNid, EventNid>> {
        let places: Vec<_> = nids.iter().map(|nid| (*nid, part, key)).collect();
        let found = self.lookup_each(&places).await?;
        Ok(nids.iter().copied().zip(found).filter_map(|(nid, event)| Some((nid, event?))).collect())
    }

    /// Returns the events that hold keys, each in a state of its own, in the order asked for. What is not in
    /// memory is read for all of them together, level by level; a state that does not exist has none.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn lookup_each(
        &self,
        places: &[(StateNid, Part, StateKeyNid)],
    ) -> Result<Vec<Option<EventNid>>> {
        let pending = Pending::default();
        let mut rows = LoadedRows::over(View { states: self, pending: &pending });
        let states = self.many(places.iter().map(|(nid, ..)| *nid)).await?;
        let mut found = vec![None; places.len()];
        let mut open: Vec<usize> = (0..places.len()).collect();
        loop {
            let (mut need, mut waiting) = (BTreeSet::new(), Vec::new());
            for at in open {
                let (nid, part, key) = places[at];
                let Some(state) = states.get(&nid) else { continue };
                match trie::lookup_many(&rows, part.root(state), &[key]) {
                    Ok(events) => found[at] = events.into_iter().next().flatten(),
                    Err(TrieError::Missing(more)) => {
                        need.extend(more);
                        waiting.push(at);
                    }
                    Err(error) => return Err(damaged(nid, &error)),
                }
            }
            if waiting.is_empty() {
                return Ok(found);
            }
            let need: Vec<StateNid> = need.into_iter().collect();
            self.load(&mut rows, &need).await?;
            open = waiting;
        }
    }

    /// Returns those of many states that exist.
    async fn many(
        &self,
        nids: impl IntoIterator<Item = StateNid>,
    ) -> Result<HashMap<StateNid, State>> {
        const STATES: &str =
            "SELECT state_nid, digest, roots FROM room_states WHERE state_nid IN {INTS 1}";
        let mut states = HashMap::new();
        let mut unknown = BTreeSet::new();
        for nid in nids {
            match self.states.get(&nid) {
                Some(state) => drop(states.insert(nid, state)),
                None => drop(unknown.insert(nid)),
            }
        }
        let unknown: Vec<StateNid> = unknown.into_iter().collect();
        for some in unknown.chunks(ROWS_MAX) {
            let list = int_list(some.iter().map(|nid| nid.0));
            let rows: Vec<(i64, Vec<u8>, Vec<u8>)> =
                read_list!(self.db, STATES, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
            for (nid, digest, bytes) in rows {
                let nid = StateNid(nid);
                let state = read_state(nid, digest, &bytes)?;
                self.states.insert(nid, state);
                states.insert(nid, state);
            }
        }
        Ok(states)
    }

    /// Returns all entries of a part of a state, in no particular order.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn list(&self, nid: StateNid, part: Part) -> Result<Vec<Entry>> {
        self.list_with(nid, part, &Pending::default()).await
    }

    /// [`States::list`], also among uncommitted states.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn list_with(
        &self,
        nid: StateNid,
        part: Part,
        pending: &Pending,
    ) -> Result<Vec<Entry>> {
        let root = part.root(&self.get_with(nid, pending).await?);
        let mut rows = LoadedRows::over(View { states: self, pending });
        let mut walk = Walk::new(root);
        loop {
            match walk.step(&rows).map_err(|error| damaged(nid, &error))? {
                Progress::Need(need) => self.load(&mut rows, &need).await?,
                Progress::Done => return Ok(walk.take()),
            }
        }
    }

    /// Returns what differs between two states in a part, in no particular order; cheap when they
    /// are few changes apart.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn diff(&self, before: StateNid, after: StateNid, part: Part) -> Result<Vec<Delta>> {
        self.diff_with(before, after, part, &Pending::default()).await
    }

    /// [`States::diff`], also among uncommitted states.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn diff_with(
        &self,
        before: StateNid,
        after: StateNid,
        part: Part,
        pending: &Pending,
    ) -> Result<Vec<Delta>> {
        if before == after {
            return Ok(Vec::new());
        }
        let one = part.root(&self.get_with(before, pending).await?);
        let two = part.root(&self.get_with(after, pending).await?);
        let mut rows = LoadedRows::over(View { states: self, pending });
        let mut diff = Diff::new(one, two);
        loop {
            match diff.step(&rows).map_err(|error| damaged(after, &error))? {
                Progress::Need(need) => self.load(&mut rows, &need).await?,
                Progress::Done => return Ok(diff.take()),
            }
        }
    }

    /// Makes the state that edits lead to; `before` is `None` for the empty state. Without an
    /// effective edit the result's `deltas` are empty: then keep the state before.
    ///
    /// # Errors
    /// When the database fails or a row is damaged.
    pub async fn change(
        &self,
        before: Option<StateNid>,
        edits: &StateChange,
        own: StateNid,
        pending: &Pending,
    ) -> Result<NewState> {
        let state = match before {
            Some(nid) => self.get_with(nid, pending).await?,
            None => State::EMPTY,
        };
        let mut rows = LoadedRows::over(View { states: self, pending });
        loop {
            match state.change(&rows, edits, own, &self.key) {
                Err(TrieError::Missing(need)) => self.load(&mut rows, &need).await?,
                made => return made.map_err(|error| damaged(own, &error)),
            }
        }
    }

    /// Makes a state from all its entries; `next` gives ascending new ids.
    ///
    /// # Errors
    /// When `next` does not ascend.
    pub fn build(
        &self,
        core: impl IntoIterator<Item = Entry>,
        member: impl IntoIterator<Item = Entry>,
        next: &mut dyn FnMut() -> StateNid,
    ) -> Result<NewState> {
        State::build(core, member, &self.key, next).map_err(|error| damaged(StateNid(0), &error))
    }

    /// Finds a committed state of a room that has exactly the same entries.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_equal(&self, room: RoomNid, state: &State) -> Result<Option<StateNid>> {
        const FIND: &str = "SELECT state_nid FROM room_states \
             WHERE room_nid = $1 AND digest = $2 ORDER BY state_nid LIMIT 1";
        let digest = state.digest.0.to_vec();
        let found: Option<i64> = read!(self.db, |c| sql::query_scalar(FIND)
            .bind(room.0)
            .bind(digest)
            .fetch_optional(c))?;
        Ok(found.map(StateNid))
    }

    /// Returns a room's current state as of a position; `None` before its first event.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn at(&self, room: RoomNid, pos: Position) -> Result<Option<StateNid>> {
        const AT: &str = "SELECT state_nid FROM room_state_log \
             WHERE room_nid = $1 AND pos <= $2 ORDER BY pos DESC LIMIT 1";
        let found: Option<i64> =
            read!(self.db, |c| sql::query_scalar(AT).bind(room.0).bind(pos).fetch_optional(c))?;
        Ok(found.map(StateNid))
    }

    /// Returns the states that became current above `after` and up to `upto`, with their positions, oldest
    /// first: the last `limit` of them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn log(
        &self,
        room: RoomNid,
        (after, upto): (Position, Position),
        limit: i64,
    ) -> Result<Vec<(Position, StateNid)>> {
        const LOG: &str = "SELECT pos, state_nid FROM room_state_log \
             WHERE room_nid = $1 AND pos > $2 AND pos <= $3 ORDER BY pos DESC LIMIT $4";
        let rows: Vec<(i64, i64)> = read!(self.db, |c| sql::query_as(LOG)
            .bind(room.0)
            .bind(after)
            .bind(upto)
            .bind(limit)
            .fetch_all(c))?;
        Ok(rows.into_iter().rev().map(|(pos, state)| (pos, StateNid(state))).collect())
    }

    /// Takes note of states that were committed, so that reading them needs no database.
    pub fn committed<'a>(&self, states: impl IntoIterator<Item = &'a NewState>) {
        for new in states {
            self.states.insert(new.nid, new.state);
            for row in &new.rows {
                self.remember(&row.row);
            }
        }
    }

    fn remember(&self, row: &Row) {
        for (index, node) in (0u32..).zip(&row.nodes) {
            self.nodes.insert(NodeRef { state: row.state, index }, Arc::clone(node));
        }
    }

    async fn load(&self, rows: &mut LoadedRows<View<'_>>, need: &[StateNid]) -> Result<()> {
        const LOAD: &str = "SELECT state_nid, nodes FROM room_states WHERE state_nid IN {INTS 1}";
        let mut loaded = Vec::with_capacity(need.len());
        for part in need.chunks(ROWS_MAX) {
            let list = int_list(part.iter().map(|nid| nid.0));
            let found: Vec<(i64, Vec<u8>)> =
                read_list!(self.db, LOAD, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
            for (nid, bytes) in found {
                let nid = StateNid(nid);
                let row = Row::decode(nid, &bytes).map_err(|error| damaged(nid, &error))?;
                self.remember(&row);
                loaded.push(Arc::new(row));
            }
        }
        let last = need.last().copied().unwrap_or(StateNid(0));
        rows.add(need, loaded).map_err(|error| damaged(last, &error))
    }
}

/// Stores new states of a room.
///
/// # Errors
/// When the database fails.
pub(crate) async fn insert(tx: &mut Tx, room: RoomNid, new: &NewState) -> Result<()> {
    const INSERT: &str = "INSERT INTO room_states \
         (state_nid, room_nid, digest, roots, nodes) VALUES ($1, $2, $3, $4, $5)";
    let last = new.rows.len().saturating_sub(1);
    for (place, row) in new.rows.iter().enumerate() {
        // Rows before the last of a bulk build hold nodes only: they are no state of their own.
        let (digest, roots) = if place == last {
            (new.state.digest.0.to_vec(), encode_roots(&new.state))
        } else {
            (Vec::new(), Vec::new())
        };
        execute!(
            tx,
            sql::query(INSERT)
                .bind(row.row.state.0)
                .bind(room.0)
                .bind(digest)
                .bind(roots)
                .bind(row.bytes.clone())
        )?;
    }
    Ok(())
}

fn damaged(nid: StateNid, error: &dyn std::fmt::Display) -> StorageError {
    StorageError::corrupt("room_states", "nodes", nid, error)
}

#[cfg(test)]
mod tests;

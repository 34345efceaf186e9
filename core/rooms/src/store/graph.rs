//! Reading the graph of a room as other servers ask for it: states and auth chains by their events, and the
//! events before others.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use colonnade_model::{
    MatrixError,
    nid::{EventNid, StateNid},
    ruma::{EventId, OwnedEventId, RoomId, ServerName},
};
use colonnade_storage::rooms::{
    events::{self, EventFlags},
    heads, servers,
    state::Part,
};

use super::{Room, RoomEvent, Store};
use crate::Result;

/// Events in an auth chain that are followed at most: a room with more of them is broken on purpose.
const CHAIN_MAX: usize = 500_000;
/// Events that are looked at on the way back through a room, for each that is returned.
const LOOKED_AT: usize = 4;

impl Store {
    /// Finds a room by its id, also one that is only being fetched from another server.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_row(&self, room_id: &RoomId) -> Result<Option<Arc<Room>>> {
        if let Some(room) = self.rooms.get(room_id) {
            return Ok(Some(room));
        }
        let row = heads::find_row(&self.context.db, room_id).await?;
        row.map(|row| self.parse_room(row)).transpose()
    }

    /// Returns those of the events that are known, whoever may see them and whatever was made of them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events_by_ids(&self, ids: &[OwnedEventId]) -> Result<Vec<Arc<RoomEvent>>> {
        let found = events::find_nids(&self.context.db, ids).await?;
        let nids: Vec<EventNid> = found.into_values().collect();
        self.events(&nids).await
    }

    /// Returns a room that another server may ask about: it has a member there.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if nobody here is in such a room, `M_FORBIDDEN` if nobody of that server is.
    pub async fn shared_room(&self, room_id: &RoomId, server: &ServerName) -> Result<Arc<Room>> {
        let unknown = || MatrixError::not_found("this server is in no such room");
        let room = self.find(room_id).await?.ok_or_else(unknown)?;
        match servers::is_in(&self.context.db, room.nid, server.as_str()).await? {
            true => Ok(room),
            false => Err(MatrixError::forbidden("your server is not in this room").into()),
        }
    }

    /// Returns an event of a room that is part of it here.
    ///
    /// # Errors
    /// `M_NOT_FOUND`.
    pub async fn part_of(&self, room: &Room, event_id: &EventId) -> Result<Arc<RoomEvent>> {
        let found = self.event_by_id(event_id).await?;
        let found = found.filter(|event| event.room == room.nid && event.state_after.is_some());
        Ok(found.ok_or_else(|| MatrixError::not_found("no such event in this room"))?)
    }

    /// Returns the local ids of the events of a state.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn state_nids(&self, state: StateNid) -> Result<Vec<EventNid>> {
        let mut nids = Vec::new();
        for part in [Part::Core, Part::Member] {
            nids.extend(self.states().list(state, part).await?.iter().map(|entry| entry.event));
        }
        Ok(nids)
    }

    /// Returns the auth chain of some events: those that allow them, those that allow these, and so on.
    /// The events themselves are in it only if they allow another one of them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn auth_chain(&self, of: &[EventNid]) -> Result<Vec<EventNid>> {
        let mut chain: BTreeSet<EventNid> = BTreeSet::new();
        let mut open: Vec<EventNid> = of.to_vec();
        while !open.is_empty() && chain.len() < CHAIN_MAX {
            let auths = events::auths_of(&self.context.db, &open).await?;
            open = auths.into_values().flatten().filter(|auth| chain.insert(*auth)).collect();
            open.sort_unstable();
            open.dedup();
        }
        Ok(chain.into_iter().collect())
    }

    /// Returns the ids of events, in the order asked for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ids_of(&self, nids: &[EventNid]) -> Result<Vec<OwnedEventId>> {
        let ids = events::ids(&self.context.db, nids).await?;
        Ok(nids.iter().filter_map(|nid| ids.get(nid).cloned()).collect())
    }

    /// Returns the events from these back through what they follow, breadth first: these too, but none
    /// of `known` and nothing before them, and none that clients do not see. At most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn before(
        &self,
        room: &Room,
        from: &[OwnedEventId],
        known: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Arc<RoomEvent>>> {
        let mut seen: HashSet<OwnedEventId> = known.iter().cloned().collect();
        let mut open: Vec<OwnedEventId> =
            from.iter().filter(|id| seen.insert((*id).clone())).cloned().collect();
        let mut found: Vec<Arc<RoomEvent>> = Vec::new();
        let mut looked_at = 0;
        while !open.is_empty() && found.len() < limit && looked_at < limit * LOOKED_AT {
            let mut level = self.events_by_ids(&open).await?;
            level.retain(|event| event.room == room.nid && event.state_after.is_some());
            level.sort_by_key(|event| std::cmp::Reverse((event.event.depth(), event.nid)));
            looked_at += level.len();
            open.clear();
            for event in level {
                let before = event.event.prev_events().iter();
                open.extend(before.filter(|id| seen.insert((*id).clone())).cloned());
                let hidden = EventFlags::REJECTED.0 | EventFlags::SOFT_FAILED.0;
                if event.flags.0 & hidden == 0 {
                    found.push(event);
                }
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

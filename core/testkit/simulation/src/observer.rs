//! Looks into the database of a run from outside, at once, and compares.

use std::{collections::HashMap, path::Path, sync::Arc};

use colonnade_model::{
    ManualClock,
    nid::RoomNid,
    ruma::OwnedEventId,
    stream::{Position, Positions, StreamAdvance},
};
use colonnade_storage::{
    CommitListener, Database, Stepwise,
    ownership::{
        coordinator::{self, SlotMap},
        pools::ROOMS,
    },
    rooms::events::{self, Piece, Range, StoredEvent},
    streams,
};
use parking_lot::Mutex;

use crate::{instantly::Instantly, template::Place, time::now};

/// Rows read at once: more than a run writes.
const ROWS_MAX: i64 = 1_000_000;

struct Deaf;

impl CommitListener for Deaf {
    fn committed(&self, _: StreamAdvance) {}
}

/// Sees what is committed.
pub(crate) struct Observer {
    db: Database,
    slots: HashMap<RoomNid, u16>,
    map: Mutex<Arc<SlotMap>>,
}

impl Observer {
    /// Opens the database. Call it in a runtime that lives as long.
    pub(crate) async fn open(file: &Path, rooms: &[Place]) -> Self {
        let fate = Arc::new(Instantly);
        let steps = Stepwise { fate, clock: Arc::new(ManualClock::new(0)) };
        let db = Database::open_stepwise(file, Arc::new(Deaf), steps).await;
        let slots = rooms.iter().map(|room| (room.nid, room.slot)).collect();
        Self { db: db.expect("the file opens"), slots, map: Mutex::default() }
    }

    /// Returns the map of slots as it is committed.
    pub(crate) fn map(&self) -> Arc<SlotMap> {
        let mut map = self.map.lock();
        if map.epoch != now(coordinator::epoch(&self.db)) {
            *map = Arc::new(now(coordinator::slot_map(&self.db)));
        }
        Arc::clone(&map)
    }

    /// Returns who owns a room; `None` for nobody.
    pub(crate) fn owner(&self, room: RoomNid) -> Option<i64> {
        let slot = *self.slots.get(&room)?;
        self.map().owner(ROOMS, slot).map(|owner| owner.incarnation)
    }

    /// Returns where the streams stand.
    pub(crate) fn horizons(&self) -> Positions {
        now(streams::horizons(&self.db))
    }

    /// Returns the events of a room in the order of their positions.
    pub(crate) fn events(&self, room: RoomNid) -> Vec<StoredEvent> {
        let read = |range| now(events::live(&self.db, room, range));
        whole(0, read, |event| event.pos)
    }

    /// Returns the ids of a room's events as a timeline shows them.
    pub(crate) fn timeline(&self, room: RoomNid) -> Vec<OwnedEventId> {
        let read = |range| now(events::timeline(&self.db, room, range));
        whole(i64::MIN, read, |event| event.timeline_key)
            .into_iter()
            .map(|event| event.event_id)
            .collect()
    }

    /// Returns the rooms of the events stream between two positions.
    pub(crate) fn stream(&self, after: Position, upto: Position) -> Vec<(Position, RoomNid)> {
        let rows = now(events::stream(&self.db, after, upto, ROWS_MAX));
        rows.into_iter().map(|row| (row.pos, row.room_nid)).collect()
    }
}

/// Reads all events there are after a place, piece by piece.
fn whole(
    mut after: i64,
    read: impl Fn(Range) -> Piece,
    place: impl Fn(&StoredEvent) -> Option<i64>,
) -> Vec<StoredEvent> {
    let mut found = Vec::new();
    loop {
        let range = Range { after, upto: i64::MAX, newest_first: false, limit: ROWS_MAX };
        let Piece { events, is_last } = read(range);
        after = events.last().and_then(&place).unwrap_or(after);
        found.extend(events);
        if is_last {
            return found;
        }
    }
}

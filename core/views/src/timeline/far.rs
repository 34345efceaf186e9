//! What of a room's past is not here yet: the event nearest to a time, and an event by its id, fetched from other
//! servers as far as that takes a bounded number of requests.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId},
};
use colonnade_rooms::{Result, Room};
use colonnade_storage::rooms::aggregations::{self, Direction};

use super::{Shown, Timeline, Viewer};

/// Events nearest to a time that are looked at: the database leaves out what the viewer may not see as
/// far as the room's order tells it, so that the first is nearly always the one.
const NEAREST_MAX: i64 = 20;
/// Pieces of history, of a hundred events each, that are fetched for one request.
const PIECES_MAX: usize = 10;

/// An event at a time.
type Dated = (OwnedEventId, MilliSecondsSinceUnixEpoch);

impl Timeline {
    /// Finds the event nearest to a time. Where history is missing other servers of the room are asked, and
    /// what they name is fetched, if that is not too far.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is none that way, `M_FORBIDDEN` outside the room.
    pub async fn at_time(
        &self,
        viewer: &Viewer,
        room_id: &RoomId,
        ts_ms: i64,
        direction: Direction,
    ) -> Result<Dated> {
        let room = self.open(viewer, room_id).await?;
        let when = (ts_ms, direction);
        let here = self.nearest(viewer, &room, when).await?;
        let found = match self.history.at_time(&room, ts_ms, direction).await? {
            Some(there) if is_nearer(when, &there, here.as_ref()) => {
                self.fetch_until(&room, &there.0).await?;
                let fetched = self.nearest(viewer, &room, when).await?;
                match is_nearer(when, &there, fetched.as_ref()) {
                    // Hidden here, or further back than is fetched at once.
                    true if self
                        .rooms
                        .unknown_among(&room, std::slice::from_ref(&there.0))
                        .await?
                        .is_empty() =>
                    {
                        fetched
                    }
                    true => Some(there),
                    false => fetched,
                }
            }
            _ => here,
        };
        Ok(found.ok_or_else(|| MatrixError::not_found("no event that way"))?)
    }

    /// Finds the event nearest to a time that is here and that the viewer sees.
    async fn nearest(
        &self,
        viewer: &Viewer,
        room: &Room,
        when: (i64, Direction),
    ) -> Result<Option<Dated>> {
        let lens = self.lens(viewer, room).await?;
        let db = &self.context.db;
        let nids = aggregations::at_time(db, room.nid, when, &lens, NEAREST_MAX).await?;
        let page = self.visible(viewer, self.read(&nids).await?).await?;
        let dated = |shown: &Shown| {
            (shown.row.event.event_id().to_owned(), shown.row.event.origin_server_ts())
        };
        Ok(page.first().map(dated))
    }

    /// Finds an event of a room that the viewer may see; one that is not here is looked for further back.
    pub(super) async fn find_far(
        &self,
        viewer: &Viewer,
        room: &Arc<Room>,
        event_id: &EventId,
    ) -> Result<Option<Shown>> {
        let found = self.find(viewer, room, event_id).await?;
        if found.is_some() {
            return Ok(found);
        }
        match self.fetch_until(room, event_id).await? {
            true => self.find(viewer, room, event_id).await,
            false => Ok(None),
        }
    }

    /// Fetches history until an event is part of it; tells whether any came.
    async fn fetch_until(&self, room: &Arc<Room>, event_id: &EventId) -> Result<bool> {
        let wanted = [event_id.to_owned()];
        let mut came = false;
        for _ in 0..PIECES_MAX {
            if self.rooms.unknown_among(room, &wanted).await?.is_empty()
                || !self.history.fetch_history(room).await?
            {
                break;
            }
            came = true;
        }
        Ok(came)
    }
}

/// Tells whether one event is nearer to a time than another, the way that is wanted.
fn is_nearer((ts_ms, direction): (i64, Direction), one: &Dated, other: Option<&Dated>) -> bool {
    let at = |dated: &Dated| i64::try_from(u64::from(dated.1.0)).unwrap_or(i64::MAX);
    let (one, other) = (at(one), other.map(at));
    match direction {
        Direction::Forward => one >= ts_ms && other.is_none_or(|other| one < other),
        Direction::Backward => one <= ts_ms && other.is_none_or(|other| one > other),
    }
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::{UInt, event_id};

    use super::*;

    #[test]
    fn nearer_is_nearer_on_the_right_side() {
        let at =
            |ts: u32| (event_id!("$a:b").to_owned(), MilliSecondsSinceUnixEpoch(UInt::from(ts)));
        let forward = |one, other: Option<u32>| {
            is_nearer((100, Direction::Forward), &at(one), other.map(at).as_ref())
        };
        let backward = |one, other: Option<u32>| {
            is_nearer((100, Direction::Backward), &at(one), other.map(at).as_ref())
        };
        assert!(forward(100, None) && forward(110, Some(120)));
        assert!(!forward(99, None) && !forward(120, Some(110)) && !forward(110, Some(110)));
        assert!(backward(100, None) && backward(90, Some(80)));
        assert!(!backward(101, None) && !backward(80, Some(90)) && !backward(90, Some(90)));
    }
}

//! Unread counts of a room: outside threads and per thread, or all together.
//!
//! Source: Matrix v1.19, client-server, "Receiving notifications", "Threaded read receipts".

use std::collections::BTreeMap;

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::{Position, Stream},
};
use colonnade_rooms::{Result, Room, Rooms};
use colonnade_storage::rooms::{
    receipts,
    unread::{self, Counts, Span},
};

use super::{
    response::UnreadCounts,
    service::{Sync, SyncContext},
};

/// Threads of a room that are counted; older ones than these have been quiet for longer.
const THREADS_MAX: i64 = 100;

impl From<Counts> for UnreadCounts {
    fn from(counts: Counts) -> Self {
        Self { notification_count: counts.notify, highlight_count: counts.highlight }
    }
}

/// What is unread of a room.
#[derive(Debug, Default)]
pub struct UnreadOfRoom {
    /// Outside threads.
    pub main: Counts,
    /// In each thread of which anything is, by its root.
    pub by_thread: BTreeMap<String, Counts>,
}

impl UnreadOfRoom {
    /// Returns all of it together.
    pub fn sum(&self) -> Counts {
        self.by_thread.values().fold(self.main, |sum, thread| Counts {
            notify: sum.notify + thread.notify,
            highlight: sum.highlight + thread.highlight,
        })
    }
}

/// Counts what is unread of a room for one who is in it, up to a position.
///
/// # Errors
/// When the database fails.
pub async fn unread_of(
    rooms: &Rooms,
    (user, room): (UserNid, RoomNid),
    upto: Position,
) -> Result<UnreadOfRoom> {
    let db = &rooms.context().db;
    let since = unread::member_since(db, room, user).await?;
    let read = receipts::read_upto(db, room, user).await?;
    let place = |thread: &str| {
        let found = read.iter().find(|(of, _)| of == thread);
        found.map_or(0, |(_, position)| *position)
    };
    let whole = place("").max(since);
    let span = |thread, after| Span { room, user, thread, after, upto };
    let main = unread::count(db, span(None, whole.max(place("main")))).await?;
    let mut by_thread = BTreeMap::new();
    for root in unread::threads_after(db, room, whole, THREADS_MAX).await? {
        let Some(event) = rooms.event(root).await? else { continue };
        let id = event.event.event_id().to_string();
        let counts = unread::count(db, span(Some(root), whole.max(place(&id)))).await?;
        if counts.notify != 0 || counts.highlight != 0 {
            by_thread.insert(id, counts);
        }
    }
    Ok(UnreadOfRoom { main, by_thread })
}

impl Sync {
    /// Counts what is unread: in the main timeline and per thread if the client wants them apart,
    /// else all in one.
    pub(super) async fn unread(
        &self,
        context: &SyncContext,
        room: &Room,
    ) -> Result<(UnreadCounts, BTreeMap<String, UnreadCounts>)> {
        let whose = (context.viewer.user, room.nid);
        let unread = unread_of(&self.from.rooms, whose, context.now(Stream::Events)).await?;
        if context.request.filter.room.timeline.unread_thread_notifications {
            let by_thread = unread.by_thread.into_iter();
            let by_thread = by_thread.map(|(root, counts)| (root, counts.into())).collect();
            Ok((unread.main.into(), by_thread))
        } else {
            Ok((unread.sum().into(), BTreeMap::new()))
        }
    }
}

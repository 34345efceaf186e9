//! Unread counts of a room: outside threads and per thread, or all together.
//!
//! Source: Matrix v1.19, client-server, "Receiving notifications", "Threaded read receipts".

use std::collections::BTreeMap;

use colonnade_model::stream::Stream;
use colonnade_rooms::{Result, Room};
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

impl Sync {
    /// Counts what is unread: in the main timeline and per thread if the client wants them apart,
    /// else all in one.
    pub(super) async fn unread(
        &self,
        context: &SyncContext,
        room: &Room,
    ) -> Result<(UnreadCounts, BTreeMap<String, UnreadCounts>)> {
        let db = &self.context.db;
        let user = context.viewer.user;
        let since = unread::member_since(db, room.nid, user).await?;
        let read = receipts::read_upto(db, room.nid, user).await?;
        let place = |thread: &str| {
            let found = read.iter().find(|(of, _)| of == thread);
            found.map_or(0, |(_, position)| *position)
        };
        let whole = place("").max(since);
        let upto = context.now(Stream::Events);
        let span = |thread, after| Span { room: room.nid, user, thread, after, upto };
        let main = unread::count(db, span(None, whole.max(place("main")))).await?;
        let mut by_thread = BTreeMap::new();
        let mut sum = main;
        for root in unread::threads_after(db, room.nid, whole, THREADS_MAX).await? {
            let Some(event) = self.from.rooms.event(root).await? else { continue };
            let id = event.event.event_id().to_string();
            let counts = unread::count(db, span(Some(root), whole.max(place(&id)))).await?;
            if counts.notify == 0 && counts.highlight == 0 {
                continue;
            }
            sum.notify += counts.notify;
            sum.highlight += counts.highlight;
            by_thread.insert(id, counts.into());
        }
        if context.request.filter.room.timeline.unread_thread_notifications {
            Ok((main.into(), by_thread))
        } else {
            Ok((sum.into(), BTreeMap::new()))
        }
    }
}

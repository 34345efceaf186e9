//! Unread counts of a room: outside threads and per thread, or all together.
//!
//! Source: Matrix v1.19, client-server, "Receiving notifications", "Threaded read receipts".

use std::collections::BTreeMap;

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::{Position, Stream},
};
use colonnade_rooms::{Result, Room, Rooms};
use colonnade_storage::rooms::unread::Counts;

use super::{
    at_hand::AtHand,
    notifier::UserHead,
    response::UnreadCounts,
    service::{Sync, SyncContext},
    tally::Tally,
};

pub use super::tally::UnreadOfRoom;

impl From<Counts> for UnreadCounts {
    fn from(counts: Counts) -> Self {
        Self { notification_count: counts.notify, highlight_count: counts.highlight }
    }
}

/// Counts what is unread of a room for one who is in it, up to a position.
///
/// # Errors
/// When the database fails.
pub async fn unread_of(
    rooms: &Rooms,
    whose: (UserNid, RoomNid),
    upto: Position,
) -> Result<UnreadOfRoom> {
    Ok(Tally::read(rooms, whose, UserHead::default(), upto).await?.unread())
}

impl Sync {
    /// Counts what is unread: in the main timeline and per thread if the client wants them apart,
    /// else all in one.
    pub(super) async fn unread(
        &self,
        context: &SyncContext,
        room: &Room,
        at_hand: &AtHand,
    ) -> Result<(UnreadCounts, BTreeMap<String, UnreadCounts>)> {
        let whose = (context.viewer.user, room.nid);
        // From before anything is read: what moves meanwhile is counted anew.
        let upto = (self.heads.user(context.viewer.user), context.now(Stream::Events));
        let unread = self.tallies.of(&self.from.rooms, whose, upto, at_hand).await?.unread();
        if context.request.filter.room.timeline.unread_thread_notifications {
            let by_thread = unread.by_thread.into_iter();
            let by_thread = by_thread.map(|(root, counts)| (root, counts.into())).collect();
            Ok((unread.main.into(), by_thread))
        } else {
            Ok((unread.sum().into(), BTreeMap::new()))
        }
    }
}

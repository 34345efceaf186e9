//! Read receipts that other servers send.
//!
//! Source: Matrix v1.19, server-server, "Receipts".

use colonnade_model::{nid::UserNid, ruma::EventId};
use colonnade_rooms::{Result, Room, no_event, quotas::signed};
use colonnade_storage::rooms::receipts::{self, Receipt};

use super::{Kind, Receipts};

/// A receipt as another server tells it.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedReceipt<'r> {
    /// Who has read, as he is known here.
    pub user: UserNid,
    /// Up to this event.
    pub event_id: &'r EventId,
    /// `None` for the whole room, `main`, or the id of a thread's root.
    pub thread: Option<&'r str>,
    /// When, in milliseconds since 1970, as that server says.
    pub ts: i64,
}

impl Receipts {
    /// Notes how far a user of another server has read. Going back is ignored. That the user is in the room is the
    /// caller's to know; threads are the other server's to check, whose events may not all be here.
    ///
    /// # Errors
    /// `M_NOT_FOUND` for an event that is not in the room's timeline here.
    pub async fn receive(&self, room: &Room, received: ReceivedReceipt<'_>) -> Result<()> {
        let ReceivedReceipt { user, event_id, thread, ts } = received;
        let event = self.store.part_of(room, event_id).await?;
        let receipt = Receipt {
            room: room.nid,
            user,
            kind: Kind::Public,
            thread: thread.unwrap_or_default().to_owned(),
            event_id: event_id.to_string(),
            event_pos: event.pos.ok_or_else(no_event)?,
            ts,
        };
        let threads_max = signed(self.context.settings.limits.receipt_threads_max);
        receipts::put(&self.context.db, receipt, threads_max).await?;
        Ok(())
    }
}

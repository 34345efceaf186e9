//! Reports: what users tell the administrators about rooms, events and other users.

use std::sync::Arc;

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    ruma::{EventId, RoomId, UserId},
};
use colonnade_rooms::{Context, Eye, Result, Rooms};
use colonnade_storage::rooms::{
    members::Membership,
    reports::{self, Report},
};

/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 10_000;

/// Reports for the administrators.
pub struct Reports {
    context: Arc<Context>,
    rooms: Rooms,
}

impl Reports {
    pub(crate) fn new(context: Arc<Context>, rooms: Rooms) -> Self {
        Self { context, rooms }
    }

    /// Reports a room. Whoever reports one that does not exist is not told so, since one need not be in
    /// a room to report it: the report is let fall.
    ///
    /// # Errors
    /// `M_TOO_LARGE` when the reason is too long.
    pub async fn room(&self, session: &Session, room_id: &RoomId, reason: &str) -> Result<()> {
        let mut report = self.report(session, reason)?;
        if self.rooms.find(room_id).await?.is_none() {
            return Ok(());
        }
        report.room_id = Some(room_id.to_string());
        self.store(report).await
    }

    /// Reports an event in a room the user is in.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when the user may see no such event, or is not in the room.
    pub async fn event(
        &self,
        session: &Session,
        room_id: &RoomId,
        event_id: &EventId,
        reason: &str,
    ) -> Result<()> {
        let unknown = || MatrixError::not_found("you are in no room with this event");
        let room = self.rooms.find(room_id).await?.ok_or_else(unknown)?;
        let membership = self.rooms.membership(room.nid, session.user).await?;
        membership.filter(|membership| *membership == Membership::Join).ok_or_else(unknown)?;
        self.rooms.seen(Eye::from(session), &room, event_id).await?.ok_or_else(unknown)?;
        let mut report = self.report(session, reason)?;
        report.room_id = Some(room_id.to_string());
        report.event_id = Some(event_id.to_string());
        self.store(report).await
    }

    /// Reports a user.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when nobody of this name was ever seen.
    pub async fn user(&self, session: &Session, user_id: &UserId, reason: &str) -> Result<()> {
        if self.context.interned.find_user(user_id).await?.is_none() {
            return Err(MatrixError::not_found("there is no such user").into());
        }
        let mut report = self.report(session, reason)?;
        report.user_id = Some(user_id.to_string());
        self.store(report).await
    }

    /// Returns the newest reports, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn newest(&self, limit: i64) -> Result<Vec<Report>> {
        Ok(reports::newest(&self.context.db, limit).await?)
    }

    fn report(&self, session: &Session, reason: &str) -> Result<Report, MatrixError> {
        if reason.len() > REASON_BYTES_MAX {
            let why = format!("the reason is longer than {REASON_BYTES_MAX} bytes");
            return Err(MatrixError::too_large(why).with_status(400));
        }
        Ok(Report {
            reporter: session.user,
            ts: self.context.now_ms(),
            room_id: None,
            event_id: None,
            user_id: None,
            reason: reason.replace('\0', ""),
        })
    }

    async fn store(&self, report: Report) -> Result<()> {
        tracing::info!(room = ?report.room_id, event = ?report.event_id, user = ?report.user_id,
            "a report came in");
        let quota = self.context.settings.limits.reports();
        let write = self.context.db.write(move |tx| Box::pin(reports::insert(tx, report, quota)));
        Ok(write.await?)
    }
}

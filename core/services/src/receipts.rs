//! Read receipts and read markers.
//!
//! Source: Matrix v1.19, client-server, "Receipts", "Private read receipts", "Threaded read
//! receipts", "Read and unread markers".

use std::{collections::BTreeMap, sync::Arc};

use colonnade_model::{
    MatrixError,
    nid::{RoomNid, UserNid},
    ruma::{EventId, RoomId},
    stream::Position,
};
use colonnade_storage::{
    account_data::{self, AccountData},
    receipts::{self, Receipt},
};
use serde_json::{Map, Value, json, value::to_raw_value};

pub use colonnade_storage::receipts::Kind;

use crate::{Context, Error, Result, accounts::Session, quotas::signed, rooms::Rooms};

/// Read receipts.
pub struct Receipts {
    context: Arc<Context>,
    store: Rooms,
}

impl Receipts {
    pub(crate) fn new(context: Arc<Context>, store: Rooms) -> Self {
        Self { context, store }
    }

    /// Notes that a user has read up to an event. `thread` is `None` for the whole room, `main`, or
    /// the id of a thread's root. Going back is ignored.
    ///
    /// # Errors
    /// `M_FORBIDDEN` outside the room, `M_NOT_FOUND` for an event that is not in it,
    /// `M_INVALID_PARAM` when the event is not in that thread.
    pub async fn put(
        &self,
        session: &Session,
        room_id: &RoomId,
        kind: Kind,
        event_id: &EventId,
        thread: Option<&str>,
    ) -> Result<()> {
        let room = self.store.joined_room(room_id, session.user).await?;
        let event = self.store.event_by_id(event_id).await?;
        let event = event.filter(|event| event.room == room.nid);
        let event = event.ok_or_else(|| MatrixError::not_found("no such event in this room"))?;
        let Some(event_pos) = event.pos else {
            return Err(MatrixError::not_found("this event is not in the timeline").into());
        };
        if thread == Some("main") && event.thread.is_some() {
            let why = "the event is in a thread, not in the main timeline";
            return Err(MatrixError::invalid_param(why).into());
        }
        if let Some(root) = thread.filter(|thread| *thread != "main") {
            let root = match EventId::parse(root) {
                Ok(root) => self.store.event_by_id(&root).await?,
                Err(_) => None,
            };
            let is_in =
                root.is_some_and(|root| event.thread == Some(root.nid) || event.nid == root.nid);
            if !is_in {
                let why = "thread_id must be `main` or the root of the thread the event is in";
                return Err(MatrixError::invalid_param(why).into());
            }
        }
        let receipt = Receipt {
            room: room.nid,
            user: session.user,
            kind,
            thread: thread.unwrap_or_default().to_owned(),
            event_id: event_id.to_string(),
            event_pos,
            ts: self.context.now_ms(),
        };
        let threads_max = signed(self.context.settings.limits.receipt_threads_max);
        receipts::put(&self.context.db, receipt, threads_max).await?;
        Ok(())
    }

    /// Moves the user's read marker: `m.fully_read` in the room's account data. Going back is
    /// ignored.
    ///
    /// # Errors
    /// `M_FORBIDDEN` outside the room, `M_NOT_FOUND` for an event that is not in it.
    pub async fn mark_read(
        &self,
        session: &Session,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Marker {
            event_id: colonnade_model::ruma::OwnedEventId,
        }
        const TYPE: &str = "m.fully_read";
        let room = self.store.joined_room(room_id, session.user).await?;
        let position = self.timeline_place(room.nid, event_id).await?;
        let not_found = || MatrixError::not_found("no such event in this room");
        let position = position.ok_or_else(not_found)?;
        let (db, user) = (&self.context.db, session.user);
        let stands = account_data::get(db, user, Some(room.nid), TYPE).await?;
        let stands = stands.and_then(|body| serde_json::from_str::<Marker>(body.get()).ok());
        if let Some(stands) = stands
            && let Some(stands) = self.timeline_place(room.nid, &stands.event_id).await?
            && stands >= position
        {
            return Ok(());
        }
        let body = to_raw_value(&json!({ "event_id": event_id }))
            .map_err(|error| Error::internal("render a read marker", error))?;
        let data = AccountData { room: Some(room.nid), event_type: TYPE.to_owned(), body };
        let quota = self.context.settings.limits.account_data();
        db.write(move |tx| {
            Box::pin(async move { account_data::put(tx, user, data, &quota).await })
        })
        .await?;
        Ok(())
    }

    /// Returns where an event stands in the timeline of this room.
    async fn timeline_place(&self, room: RoomNid, event_id: &EventId) -> Result<Option<i64>> {
        let event = self.store.event_by_id(event_id).await?;
        Ok(event.filter(|event| event.room == room).and_then(|event| event.tl))
    }

    /// Returns the content of `m.receipt` with what changed after `after` up to `upto`, as a user
    /// may see it; `None` if nothing did.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn content(
        &self,
        room: RoomNid,
        viewer: UserNid,
        after: Position,
        upto: Position,
    ) -> Result<Option<Value>> {
        let changes = receipts::changes(&self.context.db, room, viewer, after, upto).await?;
        if changes.is_empty() {
            return Ok(None);
        }
        let users: Vec<UserNid> = changes.iter().map(|receipt| receipt.user).collect();
        let users = self.context.interned.user_ids(&users).await?;
        let mut content: BTreeMap<String, BTreeMap<&str, Map<String, Value>>> = BTreeMap::new();
        for (receipt, user) in changes.into_iter().zip(users) {
            let kind = match receipt.kind {
                Kind::Public => "m.read",
                Kind::Private => "m.read.private",
            };
            let mut body = json!({ "ts": receipt.ts });
            if !receipt.thread.is_empty() {
                body["thread_id"] = receipt.thread.into();
            }
            let by_kind = content.entry(receipt.event_id).or_default().entry(kind).or_default();
            by_kind.insert(user.to_string(), body);
        }
        Ok(Some(json!(content)))
    }
}

//! Read receipts and read markers.
//!
//! Source: Matrix v1.19, client-server, "Receipts", "Private read receipts", "Threaded read
//! receipts", "Read and unread markers".

mod receive;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{RoomNid, UserNid},
    ruma::{EventId, OwnedEventId, RoomId},
    stream::Position,
};
use colonnade_rooms::{
    Context, Error, Eye, Result, Room, RoomEvent, Rooms, no_event, quotas::signed,
};
use colonnade_rules::event::relation::RelatesTo;
use colonnade_storage::{
    rooms::receipts::{self, Receipt},
    users::account_data::{self, AccountData},
};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

use crate::recent::Recent;

pub use colonnade_storage::rooms::receipts::Kind;
pub use receive::ReceivedReceipt;

/// The thread of what is in no thread.
const MAIN: &str = "main";
/// Relations followed from an event to the root of its thread, as the specification recommends.
const HOPS_MAX: usize = 3;
/// How often a read marker is compared anew because another request moved it meanwhile.
const MARKER_TRIES_MAX: usize = 8;
/// Receipts of one event at most, of which a sync sends several: about 150 kB.
const RECEIPTS_MAX: i64 = 1_000;
/// The type of the read marker.
const MARKER: &str = "m.fully_read";

/// Read receipts.
pub struct Receipts {
    context: Arc<Context>,
    store: Rooms,
    recent: Arc<Recent>,
}

impl Receipts {
    /// Works on the database of `context`; receipts are for events of `store`.
    pub fn new(context: Arc<Context>, store: Rooms, recent: Arc<Recent>) -> Self {
        Self { context, store, recent }
    }

    /// Notes that a user has read up to an event. `thread` is `None` for the whole room, `main`, or
    /// the id of a thread's root. Going back is ignored.
    ///
    /// # Errors
    /// `M_FORBIDDEN` outside the room, `M_NOT_FOUND` for an event that is not in it or not to be seen,
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
        let eye = Eye::from(session);
        let (event, _) = self.store.seen(eye, &room, event_id).await?.ok_or_else(no_event)?;
        let event_pos = event.pos.ok_or_else(no_event)?;
        match thread {
            Some(MAIN) if self.shows_thread(eye, &room, &event).await? => {
                let why = "the event is in a thread, not in the main timeline";
                return Err(MatrixError::invalid_param(why).into());
            }
            Some(root) if root != MAIN && !self.belongs_to(eye, &room, &event, root).await? => {
                let why = "thread_id must be `main` or the root of the thread the event is in";
                return Err(MatrixError::invalid_param(why).into());
            }
            _ => {}
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

    /// Tells whether an event is in a thread whose root the viewer may see: by its relations, followed over
    /// what the viewer may see, and not as it is stored, for then the answer would tell of the rest.
    async fn shows_thread(&self, eye: Eye<'_>, room: &Room, event: &RoomEvent) -> Result<bool> {
        let mut relates_to = RelatesTo::of(&event.event);
        for _ in 0..HOPS_MAX {
            let Some(relation) = relates_to else { return Ok(false) };
            let parent = self.store.seen(eye, room, &relation.event_id).await?;
            let Some((parent, _)) = parent else { return Ok(false) };
            relates_to = RelatesTo::of(&parent.event);
            if relation.rel_type == "m.thread" {
                // No thread starts at what relates to another event.
                return Ok(relates_to.is_none());
            }
        }
        Ok(false)
    }

    /// Tells whether a thread's root is that of the thread an event is in. The root itself counts, and
    /// so does what relates to it in another way: it is in the main timeline, but clients show it with
    /// the thread. Of what the viewer may not see, or that is not there, counts what the events say
    /// that he may see.
    ///
    /// Source: Matrix v1.19, client-server, "Threaded read receipts".
    async fn belongs_to(
        &self,
        eye: Eye<'_>,
        room: &Room,
        event: &RoomEvent,
        root: &str,
    ) -> Result<bool> {
        let Ok(root_id) = EventId::parse(root) else { return Ok(false) };
        let root = self.store.seen(eye, room, &root_id).await?;
        if let Some((root, _)) = &root {
            // No thread starts at what relates to another event.
            if RelatesTo::of(&root.event).is_some() {
                return Ok(false);
            }
            if event.nid == root.nid {
                return Ok(true);
            }
        }
        let mut relates_to = RelatesTo::of(&event.event);
        for _ in 0..HOPS_MAX {
            let Some(relation) = relates_to else { return Ok(false) };
            if relation.event_id == root_id {
                return Ok(root.is_some() || relation.rel_type == "m.thread");
            }
            let parent = self.store.seen(eye, room, &relation.event_id).await?;
            relates_to = parent.and_then(|(parent, _)| RelatesTo::of(&parent.event));
        }
        Ok(false)
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
        let room = self.store.joined_room(room_id, session.user).await?;
        let eye = Eye::from(session);
        let position = self.timeline_place(eye, &room, event_id).await?.ok_or_else(no_event)?;
        let body = to_raw_value(&json!({ "event_id": event_id }))
            .map_err(|error| Error::internal("render a read marker", error))?;
        let (db, user) = (&self.context.db, session.user);
        for _ in 0..MARKER_TRIES_MAX {
            let stands = account_data::get(db, user, Some(room.nid), MARKER).await?;
            if let Some(stands) = stands.as_deref().and_then(marked)
                && let Some(stands) = self.timeline_place(eye, &room, &stands).await?
                && stands >= position
            {
                return Ok(());
            }
            if self.move_marker(user, room.nid, stands, body.clone()).await? {
                return Ok(());
            }
        }
        let why = "the read marker is being moved by other requests; try again";
        Err(MatrixError::new(409, "M_UNKNOWN", why).into())
    }

    /// Writes a read marker unless it is another one by now than that which was compared.
    async fn move_marker(
        &self,
        user: UserNid,
        room: RoomNid,
        compared: Option<Box<RawValue>>,
        body: Box<RawValue>,
    ) -> Result<bool> {
        let quota = self.context.settings.limits.account_data();
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                let stands = account_data::get_in(tx, user, Some(room), MARKER).await?;
                if stands.as_deref().map(RawValue::get) != compared.as_deref().map(RawValue::get) {
                    return Ok(false);
                }
                let data = AccountData { room: Some(room), event_type: MARKER.to_owned(), body };
                account_data::put(tx, user, data, &quota).await?;
                Ok(true)
            })
        });
        Ok(write.await?)
    }

    /// Returns where an event that the viewer may see stands in the timeline of this room.
    async fn timeline_place(
        &self,
        eye: Eye<'_>,
        room: &Room,
        event_id: &EventId,
    ) -> Result<Option<i64>> {
        let seen = self.store.seen(eye, room, event_id).await?;
        Ok(seen.and_then(|(event, _)| event.timeline_key))
    }

    /// Returns the content of `m.receipt` with what changed after `after` up to `upto`, as a user
    /// may see it: a thousand receipts at most, and after which position there may be more. `None` if
    /// nothing changed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn content(
        &self,
        room: RoomNid,
        viewer: UserNid,
        after: Position,
        upto: Position,
    ) -> Result<Option<(Value, Option<Position>)>> {
        let (db, range) = (&self.context.db, (after, upto));
        // Who has none of them yet wants older ones than those in memory.
        let recent = match after {
            0 => None,
            _ => self.recent.read(room, upto).await?.between(range, viewer),
        };
        let (changes, next) = match recent {
            Some(changes) => (changes, None),
            None => receipts::changes_page(db, room, viewer, range, RECEIPTS_MAX).await?,
        };
        let content = self.contents(changes).await?.remove(&room);
        Ok(content.map(|content| (content, next)))
    }

    /// Returns the content of `m.receipt` with what was read last, up to `upto`: receipts at some events, and the
    /// user's own. `None` if there are none.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn newest(
        &self,
        room: RoomNid,
        viewer: UserNid,
        upto: Position,
        events: &HashSet<&str>,
    ) -> Result<Option<Value>> {
        let recent = self.recent.read(room, upto).await?;
        let mut found = recent.newest(upto, viewer);
        found.retain(|one| one.user == viewer || events.contains(one.event_id.as_str()));
        if !found.iter().any(|one| one.user == viewer) {
            found.extend(receipts::of_user(&self.context.db, room, viewer).await?);
        }
        Ok(self.contents(found).await?.remove(&room))
    }

    /// Returns the same of several rooms, a thousand receipts of all of them together at most.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn contents_across(
        &self,
        rooms: &[RoomNid],
        viewer: UserNid,
        (after, upto): (Position, Position),
    ) -> Result<(BTreeMap<RoomNid, Value>, Option<Position>)> {
        let (db, range) = (&self.context.db, (after, upto));
        let read = receipts::changes_across(db, rooms, viewer, range, RECEIPTS_MAX);
        let (changes, next) = read.await?;
        Ok((self.contents(changes).await?, next))
    }

    /// Makes the content of `m.receipt` for each room that has one of these receipts.
    async fn contents(&self, changes: Vec<Receipt>) -> Result<BTreeMap<RoomNid, Value>> {
        type Content<'a> = BTreeMap<String, BTreeMap<&'a str, Map<String, Value>>>;
        let users: Vec<UserNid> = changes.iter().map(|receipt| receipt.user).collect();
        let users = self.context.interned.user_ids(&users).await?;
        let mut contents: BTreeMap<RoomNid, Content<'_>> = BTreeMap::new();
        for (receipt, user) in changes.into_iter().zip(users) {
            let kind = match receipt.kind {
                Kind::Public => "m.read",
                Kind::Private => "m.read.private",
            };
            let mut body = json!({ "ts": receipt.ts });
            let is_threaded = !receipt.thread.is_empty();
            if is_threaded {
                body["thread_id"] = receipt.thread.into();
            }
            let content = contents.entry(receipt.room).or_default();
            let by_kind = content.entry(receipt.event_id).or_default().entry(kind).or_default();
            // There is place for one: that of the whole room, which reads the thread, too (MSC4102).
            if !is_threaded || !by_kind.contains_key(user.as_str()) {
                by_kind.insert(user.to_string(), body);
            }
        }
        Ok(contents.into_iter().map(|(room, content)| (room, json!(content))).collect())
    }
}

/// Returns the event a read marker stands at.
fn marked(body: &RawValue) -> Option<OwnedEventId> {
    #[derive(serde::Deserialize)]
    struct Marker {
        event_id: OwnedEventId,
    }
    Some(serde_json::from_str::<Marker>(body.get()).ok()?.event_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_stands_at_an_event_or_nowhere() {
        let stands = |text: &str| marked(&RawValue::from_string(text.to_owned()).unwrap());
        assert_eq!(stands(r#"{ "event_id": "$a", "x": 1 }"#).unwrap(), "$a");
        for wrong in ["{}", r#"{ "event_id": 5 }"#, r#"{ "event_id": "a" }"#, "[]", "null"] {
            assert_eq!(stands(wrong), None, "{wrong}");
        }
    }
}

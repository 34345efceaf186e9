//! `/events`, the stream from before there was `/sync`: one flat list of what is new in all of a user's rooms,
//! or in one that he need not be in, made of the same parts.
//!
//! Invariants:
//! 1. A page ends where its token says, in every stream, and the next one goes on there.
//! 2. The token does not cover what is not told here, messages to the device and changes of keys: whoever goes
//!    over to `/sync` with it misses nothing.
//!
//! Source: Matrix v1.19, client-server, "GET /events", "Room previews".

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::RoomNid,
    ruma::{OwnedRoomId, RoomId, UserId, presence::PresenceState},
    stream::{Positions, Stream},
};
use colonnade_rooms::{Error, Result, Room};
use colonnade_storage::rooms::members::Membership;
use colonnade_users::{
    account_data::{Changes, Scope},
    answers::{Need, Reserved},
    bodies::Payer,
};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    notifier::RoomHead,
    service::{Memberships, Sync, SyncContext, SyncRequest},
    waiting::{Look, Outcome, Wait, Waited},
};

/// Events of rooms in one answer if the client does not say.
const EVENTS_DEFAULT: u64 = 100;
/// Events of rooms in one answer at most.
const EVENTS_MAX: u64 = 1_000;
/// What is not told here.
const UNTOLD: [Stream; 2] = [Stream::ToDevice, Stream::DeviceLists];

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub struct EventsRequest {
    /// Where the client stands; `None` for what comes from now on.
    pub from: Option<String>,
    /// How long to wait for something to happen, in milliseconds.
    pub timeout_ms: u64,
    /// How many events of rooms at most. Not in the specification; clients from before it send it.
    pub limit: Option<u64>,
    /// Only this room.
    pub room_id: Option<OwnedRoomId>,
}

/// A page of the stream.
pub struct EventsAnswer {
    /// Where it begins.
    pub start: String,
    /// Where the next one begins.
    pub end: String,
    /// Events of rooms, oldest first, and after them whatever else is new.
    pub chunk: Vec<Box<RawValue>>,
    /// What was set aside to make it, if anything had to be read.
    pub reserved: Option<Reserved>,
}

/// What is told by one look.
struct News {
    chunk: Vec<Box<RawValue>>,
    end: Positions,
    reserved: Option<Reserved>,
}

/// What is listened to.
struct Listened {
    room: Option<Arc<Room>>,
    limit: usize,
    request: Arc<SyncRequest>,
}

impl Sync {
    /// Answers with what is new, waiting for something to happen if nothing has.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when `from` is not a token of ours; `M_FORBIDDEN` for a room that the user is not in
    /// and not everybody may read; `M_LIMIT_EXCEEDED` when there is no room for the answer for long.
    pub async fn events(
        self: &Arc<Self>,
        session: &Session,
        request: EventsRequest,
    ) -> Result<EventsAnswer> {
        let from = match &request.from {
            Some(text) => Some(Box::pin(self.clamp_token(self.token(text)?)).await?),
            None => None,
        };
        let room = match &request.room_id {
            Some(room_id) => Some(Box::pin(self.listened(session, room_id)).await?),
            None => None,
        };
        let set_presence = PresenceState::Online;
        let of_sync =
            SyncRequest { timeout_ms: request.timeout_ms, set_presence, ..SyncRequest::default() };
        self.arrive(session, from, &of_sync).await;
        let limit = request.limit.unwrap_or(EVENTS_DEFAULT).min(EVENTS_MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let listened = Listened { room, limit, request: Arc::new(of_sync) };
        let now = self.heads.applied();
        let start = from.unwrap_or(now);
        let mut since = start;
        UNTOLD.into_iter().for_each(|stream| since.set(stream, now.get(stream)));
        let room = listened.room.as_ref().map(|room| room.nid);
        let wait = Wait { session, request: &listened.request, room };
        let waited =
            self.wait(wait, Some(since), |look| self.look_for_news(session, look, &listened));
        let (chunk, mut end, reserved) = match waited.await? {
            Waited::News(News { chunk, end, reserved }) => (chunk, end, reserved),
            Waited::Nothing(now) => (Vec::new(), now, None),
        };
        UNTOLD.into_iter().for_each(|stream| end.set(stream, start.get(stream)));
        // Where the client says it stands, though what lives in memory is told from the beginning to who comes
        // from another process.
        let start = request.from.unwrap_or_else(|| self.encode(start));
        Ok(EventsAnswer { start, end: self.encode(end), chunk, reserved })
    }

    /// Finds a room that a user may listen to: one he is in, or that everybody may read now.
    async fn listened(&self, session: &Session, room_id: &RoomId) -> Result<Arc<Room>> {
        let forbidden = || MatrixError::forbidden("you are not in this room");
        let rooms = &self.from.rooms;
        let room = rooms.find(room_id).await?.ok_or_else(forbidden)?;
        let membership = rooms.membership(room.nid, session.user).await?;
        if membership != Some(Membership::Join)
            && !self.from.timeline.is_world_readable(&room).await?
        {
            return Err(forbidden().into());
        }
        Ok(room)
    }

    async fn look_for_news(
        &self,
        session: &Session,
        look: Look,
        listened: &Listened,
    ) -> Result<Outcome<News>> {
        let Look { since, now, memberships, .. } = look;
        let reserved = self.from.answers.reserve(Payer::User(session.user), Need::Page).await?;
        let request = Arc::clone(&listened.request);
        let mut context = self.context_of(session, (since, now), request).await?;
        let joined: Vec<RoomNid> = memberships.rooms.iter().map(|member| member.room).collect();
        let heads = self.heads.rooms(joined.into_iter());
        let said = self.said_across(&context, &memberships, &heads, listened.limit).await?;
        let is_cut = said.upto < context.now(Stream::Events);
        // Whatever else is told goes with these events.
        context.now.set(Stream::Events, said.upto);
        let mut chunk = said.chunk;
        let moved = self.moved_rooms(&context, &memberships, &heads).await?;
        chunk.extend(self.news_of_typing(&context, &moved)?);
        chunk.extend(self.news_of_receipts(&mut context, &moved).await?);
        chunk.extend(self.news_of_presence(&mut context, &memberships, &heads, listened).await?);
        chunk.extend(self.news_of_data(&mut context, listened).await?);
        if chunk.is_empty() && !is_cut {
            return Ok(Outcome::Nothing);
        }
        Ok(Outcome::News(News { chunk, end: context.now, reserved }))
    }

    /// Returns the rooms in which somebody typed or read, and since when that is news.
    async fn moved_rooms(
        &self,
        context: &SyncContext,
        memberships: &Memberships,
        heads: &[RoomHead],
    ) -> Result<Vec<(Arc<Room>, RoomHead)>> {
        let moved = memberships.rooms.iter().zip(heads).filter(|(member, head)| {
            member.membership == Membership::Join
                && (head.typing > context.since(Stream::Typing)
                    || head.receipts > context.since(Stream::Receipts))
        });
        let moved: Vec<(RoomNid, RoomHead)> =
            moved.map(|(member, head)| (member.room, *head)).collect();
        let rooms = self.named(moved.iter().map(|(room, _)| *room)).await?;
        let named = moved.iter().filter_map(|(room, head)| Some((rooms.get(room)?, head)));
        Ok(named.map(|(room, head)| (Arc::clone(room), *head)).collect())
    }

    /// Reads rooms, asked for once each.
    pub(super) async fn named(
        &self,
        rooms: impl Iterator<Item = RoomNid>,
    ) -> Result<HashMap<RoomNid, Arc<Room>>> {
        let nids: BTreeSet<RoomNid> = rooms.collect();
        let nids: Vec<RoomNid> = nids.into_iter().collect();
        let rooms = self.from.rooms.rooms(&nids).await?;
        Ok(rooms.into_iter().map(|room| (room.nid, room)).collect())
    }

    fn news_of_typing(
        &self,
        context: &SyncContext,
        moved: &[(Arc<Room>, RoomHead)],
    ) -> Result<Vec<Box<RawValue>>> {
        let since = context.since(Stream::Typing);
        let typing = moved.iter().filter_map(|(room, _)| {
            let users = self.from.typing.changed(room.nid, since)?;
            Some(of_room("m.typing", &room.room_id, &json!({ "user_ids": users })))
        });
        typing.collect()
    }

    async fn news_of_receipts(
        &self,
        context: &mut SyncContext,
        moved: &[(Arc<Room>, RoomHead)],
    ) -> Result<Vec<Box<RawValue>>> {
        let range = (context.since(Stream::Receipts), context.now(Stream::Receipts));
        let moved = moved.iter().filter(|(_, head)| head.receipts > range.0);
        let names: HashMap<RoomNid, &RoomId> =
            moved.map(|(room, _)| (room.nid, &*room.room_id)).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let rooms: Vec<RoomNid> = names.keys().copied().collect();
        let viewer = context.viewer.user;
        let read = self.from.receipts.contents_across(&rooms, viewer, range);
        let (contents, next) = read.await?;
        if let Some(next) = next {
            context.now.set(Stream::Receipts, next);
        }
        let named = contents.iter().filter_map(|(room, content)| Some((names.get(room)?, content)));
        named.map(|(room_id, content)| of_room("m.receipt", room_id, content)).collect()
    }

    async fn news_of_presence(
        &self,
        context: &mut SyncContext,
        memberships: &Memberships,
        heads: &[RoomHead],
        listened: &Listened,
    ) -> Result<Vec<Box<RawValue>>> {
        // Who newly shares a room with the user does so in all of his rooms, and not in the one.
        let newcomers = match listened.room {
            Some(_) => Vec::new(),
            None => self.device_lists(context, memberships, heads).await?.changed,
        };
        let (events, told) = self.presence(context, memberships, &newcomers).await?;
        context.now.set(Stream::Presence, told);
        // Nor is he himself news of the one.
        let own = listened.room.as_ref().map(|_| context.viewer.user_id.as_str());
        let shown =
            events.iter().filter(|event| own.is_none() || sender_of(event).as_deref() != own);
        shown.map(|event| with_user_id(event)).collect()
    }

    async fn news_of_data(
        &self,
        context: &mut SyncContext,
        listened: &Listened,
    ) -> Result<Vec<Box<RawValue>>> {
        let (after, upto) = (context.since(Stream::AccountData), context.now(Stream::AccountData));
        let user = context.viewer.user;
        if after >= upto || self.heads.user(user).account_data <= after {
            return Ok(Vec::new());
        }
        let scope = listened.room.as_ref().map_or(Scope::All, |room| Scope::Room(room.nid));
        let changes = Changes { scope, after, upto, is_first: false };
        let page = self.from.account_data.page(user, changes).await?;
        if let Some(next) = page.next {
            context.now.set(Stream::AccountData, next);
        }
        let rooms = self.named(page.data.iter().filter_map(|data| data.room)).await?;
        let data = page.data.iter().map(|data| match data.room.and_then(|nid| rooms.get(&nid)) {
            Some(room) => of_room(&data.event_type, &room.room_id, &data.body),
            None => rendered(&json!({ "type": data.event_type, "content": data.body })),
        });
        data.collect()
    }
}

/// Renders an event that is not of a room's history, but about the room.
pub(super) fn of_room<T: serde::Serialize>(
    event_type: &str,
    room_id: &RoomId,
    content: &T,
) -> Result<Box<RawValue>> {
    rendered(&json!({ "type": event_type, "room_id": room_id, "content": content }))
}

fn sender_of(event: &RawValue) -> Option<String> {
    let event: Value = serde_json::from_str(event.get()).ok()?;
    event["sender"].as_str().map(str::to_owned)
}

/// Says whose presence it is in its content, too, where clients from before the specification look.
pub(super) fn with_user_id(event: &RawValue) -> Result<Box<RawValue>> {
    let mut event: Value = serde_json::from_str(event.get())
        .map_err(|error| Error::internal("read a presence event", error))?;
    if let Some(user_id) = event["sender"].as_str().and_then(|id| <&UserId>::try_from(id).ok()) {
        event["content"]["user_id"] = user_id.as_str().into();
    }
    rendered(&event)
}

pub(super) fn rendered(event: &Value) -> Result<Box<RawValue>> {
    to_raw_value(event).map_err(|error| Error::internal("render an event of the stream", error))
}

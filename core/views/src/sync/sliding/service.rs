//! Answers a request: finds the connection, waits for news, and puts the answer together.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use colonnade_model::{
    MatrixError,
    ruma::{
        UInt,
        api::client::filter::{Filter, FilterDefinition},
    },
    session::Session,
    stream::{Position, Positions, Stream},
    token::{PLACE, SyncToken},
};
use colonnade_rooms::Result;
use colonnade_storage::rooms::{heads, members::Membership};
use colonnade_users::{answers::Need, bodies::Payer};
use futures_util::future::BoxFuture;

use super::{
    answer::{Count, RoomAnswer, Whole},
    connection::unknown,
    connection_state::{ConnectionState, SentRoom},
    extensions::{Looked, to_device_since},
    request::SlidingRequest,
    room::Slide,
    room_list::{Listed, MatchedRoom},
};
use crate::sync::{
    SyncAnswer, SyncRequest,
    service::Sync,
    waiting::{Look, Outcome, Wait, Waited},
    writer::text,
};

/// What an answer says of rooms.
struct RoomsPart {
    counts: BTreeMap<String, Count>,
    rooms: Vec<(colonnade_model::ruma::OwnedRoomId, RoomAnswer)>,
    looked: Vec<Looked>,
}

impl Sync {
    /// Answers a request of sliding sync, waiting for something to happen if nothing has.
    ///
    /// # Errors
    /// `M_UNKNOWN_POS` for a position that is not known any more; `M_INVALID_PARAM`; `M_LIMIT_EXCEEDED` when there
    /// is no room for the answer for long.
    pub async fn slide(
        self: &Arc<Self>,
        session: &Session,
        mut request: SlidingRequest,
    ) -> Result<SyncAnswer> {
        let told = self.told_before(session, &request)?;
        let asked = sync_request(&request);
        if let Some(to_device) = &mut request.extensions.to_device {
            let since = to_device_since(to_device)?;
            // One that was told more than the database has gets what comes next all the same.
            let since = self.clamp_token(to_device_only(since)).await?.get(Stream::ToDevice);
            to_device.since = Some(since.to_string());
            self.from.to_device.acknowledge(session.device, since).await?;
        }
        self.arrive(session, told.upto, &asked).await;
        let wait = Wait { session, request: &asked, room: None };
        // The first look is at what the request asks for that it did not before, whatever moved.
        let waited = self.wait(wait, None, |look| -> BoxFuture<'_, _> {
            Box::pin(self.slide_from(session, look, (&request, &told)))
        });
        if let Waited::News(answer) = waited.await? {
            return Ok(answer);
        }
        // The answer says where to go on, though it says nothing else.
        let (memberships, now) = self.sample(session.user).await?;
        let look = Look { since: None, now, memberships, is_last: true };
        match Box::pin(self.slide_from(session, look, (&request, &told))).await? {
            Outcome::News(answer) => Ok(answer),
            Outcome::Nothing => Err(unknown().into()),
        }
    }

    /// Returns what was told on the connection up to where the client stands on it.
    fn told_before(
        &self,
        session: &Session,
        request: &SlidingRequest,
    ) -> Result<Arc<ConnectionState>, MatrixError> {
        let Some(pos) = &request.pos else {
            let mut number = [0; 8];
            self.context.random.fill(&mut number);
            let number = u64::from_le_bytes(number);
            self.connections.begin(session.device, &request.connection, number);
            return Ok(Arc::default());
        };
        let (token, place) = pos.split_once(PLACE).ok_or_else(unknown)?;
        SyncToken::decode(token, &self.context.token_key).map_err(|_| unknown())?;
        self.connections.told(session.device, &request.connection, place)
    }

    /// Looks, once there is room for the answer, and answers if there is anything to tell or it has to be.
    async fn slide_from(
        self: &Arc<Self>,
        session: &Session,
        look: Look,
        (request, before): (&SlidingRequest, &Arc<ConnectionState>),
    ) -> Result<Outcome<SyncAnswer>> {
        let Look { now, memberships, is_last, .. } = look;
        let need = if before.upto.is_none() { Need::Pieces } else { Need::Page };
        let reserved = self.from.answers.reserve(Payer::User(session.user), need).await?;
        let asked = Arc::new(sync_request(request));
        let context = self.context_of(session, (before.upto, now), asked).await?;
        let user = self.user_facts(session.user).await?;
        let mut slide = Slide { context, told: before, user, counts: HashMap::new() };
        let heads = self.heads.rooms(memberships.rooms.iter().map(|member| member.room));
        let list = self.room_list(&slide.context, (&memberships, &heads), before).await?;
        let mut told = ConnectionState { upto: Some(now), ..ConnectionState::clone(before) };
        left_behind(&mut told, before, &list);
        let part = self.rooms_part(&mut slide, request, &list, &mut told).await?;
        let sources = (&*memberships, &*heads);
        let extensions = &request.extensions;
        let beside = self.beside(&mut slide, extensions, sources, &part.looked, &mut told).await?;
        let is_due = before.upto.is_none() || is_last;
        if !is_due && part.rooms.is_empty() && !beside.says_something {
            return Ok(Outcome::Nothing);
        }
        let mut rooms = BTreeMap::new();
        for (room_id, answer) in part.rooms {
            rooms.insert(room_id, answer.rendered(request.dialect)?);
        }
        let place = self.connections.note(session.device, &request.connection, told);
        let place = place.ok_or_else(unknown)?;
        let whole = Whole {
            pos: format!("{}{PLACE}{place}", self.encode(now)),
            txn_id: request.txn_id.as_deref(),
            lists: part.counts,
            rooms,
            extensions: beside.parts,
        };
        let answer = SyncAnswer { first: text(&whole)?, rest: None, reserved };
        Ok(Outcome::News(answer))
    }

    /// Tells of the rooms that a request looks at, and notes what was told.
    async fn rooms_part(
        &self,
        slide: &mut Slide<'_>,
        request: &SlidingRequest,
        list: &[Listed<'_>],
        told: &mut ConnectionState,
    ) -> Result<RoomsPart> {
        let windows = self.windows(&slide.context, request, list).await?;
        let counts = windows.counts.into_iter().map(|(name, count)| (name, Count { count }));
        let mut part =
            RoomsPart { counts: counts.collect(), rooms: Vec::new(), looked: Vec::new() };
        let is_new =
            |wanted: &&MatchedRoom<'_>| !slide.told.rooms.contains_key(&wanted.listed.member.room);
        let new: Vec<_> =
            windows.rooms.iter().filter(is_new).map(|wanted| wanted.listed.member.room).collect();
        if !new.is_empty() {
            let found = heads::counts(&self.context.db, &new).await?;
            slide.counts = found
                .into_iter()
                .map(|(room, joined, invited)| (room, (joined, invited)))
                .collect();
        }
        let named =
            self.named(windows.rooms.iter().map(|wanted| wanted.listed.member.room)).await?;
        let mut requests: HashMap<usize, Arc<SyncRequest>> = HashMap::new();
        for wanted in &windows.rooms {
            let nid = wanted.listed.member.room;
            let Some(room) = named.get(&nid) else { continue };
            let limit = wanted.config.timeline_limit;
            let asked =
                requests.entry(limit).or_insert_with(|| Arc::new(with_limit(request, limit)));
            slide.context.request = Arc::clone(asked);
            let (answer, told_room) = self.slide_room(slide, wanted, room).await?;
            let before = slide.told.rooms.get(&nid);
            let timeline = answer.as_ref().and_then(|answer| answer.timeline.as_ref());
            part.looked.push(Looked {
                room: nid,
                room_id: room.room_id.clone(),
                head: wanted.listed.head,
                lists: wanted.lists.clone(),
                is_subscribed: wanted.is_subscribed,
                is_joined: wanted.listed.member.membership == Membership::Join,
                is_new: before.is_none_or(|before| {
                    before.upto.is_some() || before.membership != told_room.membership
                }),
                events: timeline.map(|said| said.ids.clone()).unwrap_or_default(),
            });
            told.rooms.insert(nid, told_room);
            part.rooms.extend(answer.map(|answer| (room.room_id.clone(), answer)));
        }
        Ok(part)
    }
}

/// Notes of each room that was told of, and in which something happened since, how far it was told: it may not
/// be looked at now.
fn left_behind(told: &mut ConnectionState, before: &ConnectionState, list: &[Listed<'_>]) {
    let moved: HashMap<_, Position> =
        list.iter().map(|listed| (listed.member.room, listed.pos)).collect();
    let had = |room: &SentRoom| before.room_upto(room);
    for (nid, room) in &mut told.rooms {
        if room.upto.is_none() && moved.get(nid).is_none_or(|pos| *pos > had(room)) {
            room.upto = Some(had(room));
        }
    }
}

/// Returns a place in the stream of messages to devices, and before all others.
fn to_device_only(since: Position) -> Positions {
    let mut positions = Positions::default();
    positions.set(Stream::ToDevice, since);
    positions
}

/// Says what is waited for: nothing of presence, which no extension tells.
fn sync_request(request: &SlidingRequest) -> SyncRequest {
    with_limit(request, 0)
}

/// Says how a room is read of which so many events are wanted.
fn with_limit(request: &SlidingRequest, limit: usize) -> SyncRequest {
    let mut filter = FilterDefinition { presence: Filter::ignore_all(), ..Default::default() };
    filter.room.timeline.limit = UInt::try_from(limit).ok();
    filter.room.timeline.unread_thread_notifications = true;
    let timeout_ms = match request.pos {
        Some(_) => request.timeout_ms,
        None => 0,
    };
    SyncRequest {
        since: None,
        timeout_ms,
        full_state: false,
        filter: Arc::new(filter),
        set_presence: request.set_presence.clone(),
        use_state_after: false,
    }
}

#[cfg(test)]
mod tests {
    use colonnade_model::nid::{EventNid, RoomNid, UserNid};
    use colonnade_storage::rooms::members::Member;

    use super::*;
    use crate::sync::notifier::RoomHead;

    fn told(upto: Position, rooms: &[(i64, Option<Position>)]) -> ConnectionState {
        let mut positions = Positions::default();
        positions.set(Stream::Events, upto);
        let room = |upto| SentRoom {
            upto,
            config: Arc::default(),
            membership: Membership::Join,
            is_dm: false,
            unread: None,
            members: Arc::default(),
        };
        let rooms = rooms.iter().map(|(nid, upto)| (RoomNid(*nid), room(*upto))).collect();
        ConnectionState { upto: Some(positions), rooms, ..ConnectionState::default() }
    }

    #[test]
    fn a_room_that_moved_stays_where_it_was_told_until_it_is_told_again() {
        let member = |room| Member {
            room: RoomNid(room),
            user: UserNid(1),
            membership: Membership::Join,
            event: EventNid(1),
            sender: UserNid(1),
            pos: 1,
            forgotten: false,
            display_name: None,
            avatar_url: None,
        };
        let members = [member(1), member(2), member(3)];
        let listed =
            |at: usize, pos| Listed { member: &members[at], head: RoomHead::default(), pos };
        let before = told(10, &[(1, None), (2, None), (3, Some(4))]);
        let mut now = told(20, &[(1, None), (2, None), (3, Some(4))]);
        left_behind(&mut now, &before, &[listed(0, 10), listed(1, 11), listed(2, 19)]);
        let upto = |room| now.rooms[&RoomNid(room)].upto;
        assert_eq!((upto(1), upto(2), upto(3)), (None, Some(10), Some(4)));
    }
}

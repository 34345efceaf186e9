//! `/initialSync`, the first sync from before there was `/sync`, of all rooms or of one: what a room is now to
//! those in it, and what it was when they left to those who left. Made of the parts of a first `/sync`, and
//! written as they are read.
//!
//! Source: Matrix v1.19, client-server, "GET /initialSync", "GET /rooms/{roomId}/initialSync".

use std::{collections::HashMap, sync::Arc};

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{EventNid, RoomNid, UserNid},
    ruma::{
        OwnedUserId, RoomId, UInt, api::client::filter::FilterDefinition, presence::PresenceState,
    },
    stream::{Position, Stream},
};
use colonnade_rooms::{Result, Room, Standing, Viewpoint};
use colonnade_storage::rooms::{
    directory,
    members::{self, Member, Membership},
};
use colonnade_users::{answers::Need, bodies::Payer};
use futures_util::stream::try_unfold;
use serde_json::{json, value::RawValue};

use super::{
    answer::{Rest, SyncAnswer},
    at_hand::AtHand,
    chunk::SyncRange,
    event_stream::{of_room, rendered, with_user_id},
    response::TimelinePart,
    service::{Memberships, Sync, SyncContext, SyncRequest},
    writer::{Elements, Writer, all, elements},
};
use crate::timeline::{Invitations, Shown};

/// Rooms of which what can be asked together is asked together.
const ROOMS_AT_ONCE: usize = 100;
/// Members of one room of whom is told whether they are there or not.
const MEMBERS_MAX: i64 = 50;

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub struct InitialRequest {
    /// How many events of a room at most.
    pub limit: Option<u64>,
    /// Rooms that the user left, too.
    pub archived: bool,
}

/// A room as it is shown to who is or was in it, or looks in.
struct ShownRoom<'a> {
    room: &'a Room,
    /// `None` for who only looks in.
    membership: Option<Membership>,
    /// Up to here events are shown.
    upto: Position,
    /// Up to here he may know the state.
    known_upto: Position,
    is_published: bool,
}

/// Some rooms, with what was asked of all of them together.
struct Batch<'a> {
    members: &'a [&'a Member],
    rooms: HashMap<RoomNid, Arc<Room>>,
    published: Vec<RoomNid>,
    points: HashMap<RoomNid, Viewpoint>,
    /// The events by which the user is invited, rendered.
    invites: HashMap<EventNid, Box<RawValue>>,
}

impl Sync {
    /// Answers with all of a user's rooms.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when there is no room for the answer for long.
    pub async fn initial(
        self: &Arc<Self>,
        session: &Session,
        request: InitialRequest,
    ) -> Result<SyncAnswer> {
        let mut context = self.at_first(session, &request).await?;
        let (memberships, now) = Box::pin(self.sample(session.user)).await?;
        context.now = now;
        let (sync, session) = (Arc::clone(self), session.clone());
        let reserved = self.from.answers.reserve(Payer::User(session.user), Need::Pieces).await?;
        let rest = Rest::written(&self.from.answers, true, move |mut out| async move {
            sync.write_rooms(&context, &memberships, request.archived, &mut out).await?;
            sync.write_passing(&context, &session, Some((&memberships, &[])), &mut out).await?;
            out.elements_of("account_data", sync.account_data(&context).await?).await?;
            out.field("end", &sync.encode(context.now))?;
            Ok(out)
        });
        Ok(SyncAnswer::begun(rest, reserved).await?.0)
    }

    /// Answers with one room, which the user need not be in if everybody may read it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` for a room that he may not look into; `M_LIMIT_EXCEEDED` when there is no room for the
    /// answer for long.
    pub async fn initial_of_room(
        self: &Arc<Self>,
        session: &Session,
        room_id: &RoomId,
        request: InitialRequest,
    ) -> Result<SyncAnswer> {
        let context = self.at_first(session, &request).await?;
        let forbidden = || MatrixError::forbidden("you are not in this room");
        let room = self.from.rooms.find(room_id).await?.ok_or_else(forbidden)?;
        let point = self.from.rooms.viewpoint(session.user, room.nid).await?;
        let member = point.member.as_ref();
        let is_open = point.standing == Standing::Joined
            || self.from.timeline.is_world_readable(&room).await?;
        let (upto, known_upto) = match point.standing {
            _ if is_open => (context.now(Stream::Events), Position::MAX),
            Standing::Left(ended) if point.remembers() => {
                (member.map_or(ended, |member| member.pos), ended)
            }
            Standing::Joined | Standing::Left(_) | Standing::Never => {
                return Err(forbidden().into());
            }
        };
        let membership = member.map(|member| member.membership);
        // The specification has no word for who knocks here.
        let membership = membership.filter(|membership| *membership != Membership::Knock);
        let heard = match is_open {
            true => Some(self.memberships(session.user).await?.only(session.user, room.nid)),
            false => None,
        };
        let (sync, session) = (Arc::clone(self), session.clone());
        let reserved = self.from.answers.reserve(Payer::User(session.user), Need::Pieces).await?;
        let rest = Rest::written(&self.from.answers, true, move |mut out| async move {
            let published = directory::published_among(&sync.context.db, &[room.nid]).await?;
            let is_published = !published.is_empty();
            let shown = ShownRoom { room: &room, membership, upto, known_upto, is_published };
            sync.write_room(&context, &shown, &mut out).await?;
            let members = sync.first_members(room.nid).await?;
            let heard = heard.as_ref().map(|heard| (heard, &*members));
            sync.write_passing(&context, &session, heard, &mut out).await?;
            Ok(out)
        });
        Ok(SyncAnswer::begun(rest, reserved).await?.0)
    }

    /// Notes that the user is there, and says what he asks for as of now.
    async fn at_first(&self, session: &Session, request: &InitialRequest) -> Result<SyncContext> {
        let mut filter = FilterDefinition::default();
        filter.room.timeline.limit =
            request.limit.map(|limit| UInt::try_from(limit).unwrap_or(UInt::MAX));
        let of_sync = SyncRequest {
            filter: Arc::new(filter),
            set_presence: PresenceState::Online,
            use_state_after: true,
            ..SyncRequest::default()
        };
        self.arrive(session, None, &of_sync).await;
        let now = self.heads.applied();
        let mut context = self.context_of(session, (None, now), Arc::new(of_sync)).await?;
        context.names_rooms = true;
        Ok(context)
    }

    /// Writes the list of a user's rooms.
    async fn write_rooms(
        &self,
        context: &SyncContext,
        memberships: &Memberships,
        archived: bool,
        out: &mut Writer,
    ) -> Result<()> {
        let invites = self.invites(context, memberships, false).await?;
        let members = memberships.rooms.iter().filter(|member| match member.membership {
            Membership::Join => true,
            Membership::Invite => invites.shows(member, true),
            Membership::Leave | Membership::Ban => archived,
            // The specification has no word for it here.
            Membership::Knock => false,
        });
        let members: Vec<&Member> = members.collect();
        let mut strangers = self.context.settings.limits.invite_states_bytes_max as usize;
        out.open("rooms", '[');
        for members in members.chunks(ROOMS_AT_ONCE) {
            let batch = self.batch(context, members, &mut strangers).await?;
            for member in batch.members {
                self.write_one(context, &batch, member, out).await?;
            }
        }
        out.close(']');
        Ok(())
    }

    /// Asks of some rooms what can be asked of all of them together.
    async fn batch<'a>(
        &self,
        context: &SyncContext,
        members: &'a [&'a Member],
        strangers: &mut usize,
    ) -> Result<Batch<'a>> {
        let nids: Vec<RoomNid> = members.iter().map(|member| member.room).collect();
        let rooms = self.named(nids.iter().copied()).await?;
        let published = directory::published_among(&self.context.db, &nids).await?;
        let left = members
            .iter()
            .filter(|member| [Membership::Leave, Membership::Ban].contains(&member.membership));
        let left: Vec<RoomNid> = left.map(|member| member.room).collect();
        let points = self.from.rooms.viewpoints(context.viewer.user, &left).await?;
        let mut shown = Invitations::new();
        for member in members.iter().filter(|member| member.membership == Membership::Invite) {
            let sender = self.context.interned.user_id(member.sender).await?;
            if !context.ignored.contains(&sender) {
                shown.insert(member.event, self.stripped(member, strangers).await?);
            }
        }
        let nids: Vec<EventNid> = shown.keys().copied().collect();
        let events: Vec<Shown> = self.from.timeline.read(&nids).await?;
        let written = self.from.timeline.render_across(&context.viewer, &events, &shown).await?;
        let invites = nids.into_iter().zip(written).collect();
        Ok(Batch { members, rooms, published, points, invites })
    }

    /// Writes one of the list.
    async fn write_one(
        &self,
        context: &SyncContext,
        batch: &Batch<'_>,
        member: &Member,
        out: &mut Writer,
    ) -> Result<()> {
        let Some(room) = batch.rooms.get(&member.room) else { return Ok(()) };
        let is_published = batch.published.contains(&member.room);
        let (upto, known_upto) = match member.membership {
            Membership::Invite => return self.write_invite(batch, room, member, out).await,
            Membership::Leave | Membership::Ban => match batch.points.get(&member.room) {
                Some(point) if point.remembers() => (member.pos, point.state_upto()),
                _ => return Ok(()),
            },
            Membership::Join | Membership::Knock => (context.now(Stream::Events), Position::MAX),
        };
        let membership = Some(member.membership);
        let shown = ShownRoom { room, membership, upto, known_upto, is_published };
        out.open_element('{');
        self.write_room(context, &shown, out).await?;
        out.close('}');
        Ok(())
    }

    /// Writes a room that the user is invited to, unless by somebody he ignores.
    async fn write_invite(
        &self,
        batch: &Batch<'_>,
        room: &Room,
        member: &Member,
        out: &mut Writer,
    ) -> Result<()> {
        let Some(invite) = batch.invites.get(&member.event) else { return Ok(()) };
        let inviter = self.context.interned.user_id(member.sender).await?;
        out.open_element('{');
        out.field("room_id", &room.room_id)?;
        out.field("membership", &Membership::Invite.state())?;
        out.field("visibility", &visibility(batch.published.contains(&room.nid)))?;
        out.field("inviter", &inviter)?;
        out.field("invite", invite)?;
        out.close('}');
        Ok(())
    }

    /// Writes the fields of a room.
    async fn write_room(
        &self,
        context: &SyncContext,
        shown: &ShownRoom<'_>,
        out: &mut Writer,
    ) -> Result<()> {
        let ShownRoom { room, upto, known_upto, .. } = *shown;
        let at_hand = AtHand::default();
        let chunk = self.timeline_chunk(context, room, (0, upto), &at_hand).await?;
        let gap = SyncRange { after: 0, upto, whole: true, known_upto };
        let missing = self.missing_state(context, room, &chunk, (gap, &at_hand)).await?;
        let state = self.state(context, room, &chunk, missing, &[]).await?;
        out.field("room_id", &room.room_id)?;
        if let Some(membership) = shown.membership {
            out.field("membership", &membership.state())?;
        }
        out.field("visibility", &visibility(shown.is_published))?;
        let TimelinePart { events, prev_batch, .. } = chunk.into();
        out.open("messages", '{');
        if let Some(start) = prev_batch {
            out.field("start", &start)?;
        }
        out.field("end", &self.encode(context.now))?;
        out.elements_of("chunk", all(events)).await?;
        out.close('}');
        out.elements_of("account_data", self.room_data(context, room, 0).await?).await?;
        out.elements_of("state", state).await
    }

    /// Writes what is no part of a room's history: who of the rooms the user is in, or looks into, is there,
    /// the user himself, and what they read; of those `shown` he is told that they are offline, too. Of none if
    /// there are no such rooms.
    async fn write_passing(
        &self,
        context: &SyncContext,
        session: &Session,
        memberships: Option<(&Memberships, &[(OwnedUserId, UserNid)])>,
        out: &mut Writer,
    ) -> Result<()> {
        let Some((memberships, shown)) = memberships else {
            out.elements_of("presence", all(Vec::new())).await?;
            return out.elements_of("receipts", all(Vec::new())).await;
        };
        let (mut presence, _) = self.presence(context, memberships, shown).await?;
        if !self.from.presence.knows(session.user) {
            let own = self.from.presence.get(session, &session.user_id).await?;
            let user_id = &session.user_id;
            let own = json!({ "type": "m.presence", "sender": user_id, "content": own });
            presence.push(rendered(&own)?);
        }
        let presence = presence.iter().map(|event| with_user_id(event));
        out.elements_of("presence", all(presence.collect::<Result<_>>()?)).await?;
        let rooms: Vec<RoomNid> = memberships.joined().collect();
        out.elements_of("receipts", self.all_receipts(context, &rooms)).await
    }

    /// Returns those of a room who are told of though they are offline.
    async fn first_members(&self, room: RoomNid) -> Result<Vec<(OwnedUserId, UserNid)>> {
        let (db, kinds) = (&self.context.db, [Membership::Join]);
        let members = members::first_members(db, room, &kinds, MEMBERS_MAX).await?;
        let users: Vec<UserNid> = members.iter().map(|member| member.user).collect();
        let names = self.context.interned.user_ids(&users).await?;
        Ok(names.into_iter().zip(users).collect())
    }

    /// Reads what was read in some rooms as it is told.
    fn all_receipts<'a>(&'a self, context: &'a SyncContext, rooms: &'a [RoomNid]) -> Elements<'a> {
        let (viewer, upto) = (context.viewer.user, context.now(Stream::Receipts));
        elements(try_unfold(Some(0), move |after| async move {
            let Some(after) = after else { return Ok(None) };
            let read = self.from.receipts.contents_across(rooms, viewer, (after, upto));
            let (contents, next) = read.await?;
            let names = self.named(contents.keys().copied()).await?;
            let named = contents.iter().filter_map(|(nid, content)| {
                let room = names.get(nid)?;
                Some(of_room("m.receipt", &room.room_id, content))
            });
            Ok(Some((named.collect::<Result<_>>()?, next)))
        }))
    }
}

/// Says whether the list of public rooms shows a room.
fn visibility(is_published: bool) -> &'static str {
    if is_published { "public" } else { "private" }
}

//! Users of other servers who come into a room over this one, or knock at it.
//!
//! Source: Matrix v1.19, server-server, "Joining Rooms", "Knocking upon a room".

use std::{collections::HashSet, sync::Arc};

use colonnade_model::{
    MatrixError,
    nid::{EventNid, StateNid},
    ruma::{
        CanonicalJsonObject, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName,
        UserId, events::room::member::MembershipState,
    },
};
use colonnade_rooms::{
    Result, Room, RoomEvent,
    incoming::{Incoming, StateBefore},
    proposal::{content, draft_error, member},
    remote::Outcome,
};
use colonnade_rules::event::{Event, complete};
use colonnade_storage::rooms::{servers, state::Part};
use colonnade_views::sync::heroes_of;
use serde_json::{Value, json, value::RawValue};

use super::{FederationService, require_own};

/// Bytes of state that whoever knocks is shown of the room.
const SHOWN_BYTES_MAX: usize = 128 * 1024;

/// Which members a server is told whose user joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembersTold {
    /// All of them.
    All,
    /// Those alone that a room without a name is named after: it asks for the others later.
    Heroes,
}

/// What a server is answered whose user joined.
pub struct Joined {
    /// The join, as it was taken: with this server's signature where that lets the user in.
    pub event: Arc<RoomEvent>,
    /// The room's state before it.
    pub state: Vec<Arc<RoomEvent>>,
    /// Which members are in that.
    pub members: MembersTold,
    /// The events that allow the join and those of the state. Where members are left out, without those that are
    /// in the state.
    pub auth_chain: Vec<Arc<RoomEvent>>,
    /// Servers that were in the room before.
    pub servers: Vec<OwnedServerName>,
}

impl FederationService {
    /// Fills in the event by which a user of another server joins, or knocks.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_INCOMPATIBLE_ROOM_VERSION`, `M_FORBIDDEN`, `M_UNABLE_TO_AUTHORISE_JOIN`,
    /// `M_UNABLE_TO_GRANT_JOIN`.
    pub async fn make_entry(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        membership: MembershipState,
        versions: &[RoomVersionId],
    ) -> Result<(RoomVersionId, CanonicalJsonObject)> {
        require_own(user, origin)?;
        let room = self.open_room(room_id, origin).await?;
        if !versions.contains(&room.version) {
            let why =
                format!("the room is of version {}, which your server does not know", room.version);
            return Err(MatrixError::new(400, "M_INCOMPATIBLE_ROOM_VERSION", why)
                .with("room_version", room.version.to_string())
                .into());
        }
        let mut shown = content(json!({ "membership": membership }))?;
        if membership == MembershipState::Join {
            self.membership.authorise_join(&room, user, &mut shown).await?;
        }
        let event = self.rooms.template(&room, member(user, user, shown)).await?;
        Ok((room.version.clone(), event))
    }

    /// Takes the join of a user of another server.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when the room does not let the user in, `M_BAD_JSON`, `M_INVALID_PARAM`.
    pub async fn take_join(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &str,
        pdu: Box<RawValue>,
        members: MembersTold,
    ) -> Result<Joined> {
        let room = self.open_room(room_id, origin).await?;
        let (pdu, is_co_signed) = self.co_signed(&room, pdu)?;
        let (join, user) = self.own_member(origin, &room, pdu, &MembershipState::Join).await?;
        require_same(&join, event_id)?;
        if is_co_signed {
            // What was true when the event was filled in may be so no more.
            self.membership.authorise_join(&room, &user, &mut CanonicalJsonObject::new()).await?;
        }
        let servers = self.servers_in(&room).await?;
        let event = self.take(&room, join).await?;
        let state = match (event.state_before, members) {
            (Some(state), MembersTold::All) => self.rooms.state_nids(state).await?,
            (Some(state), MembersTold::Heroes) => {
                self.state_with_heroes(&room, state, &user).await?
            }
            (None, _) => Vec::new(),
        };
        let told: Vec<EventNid> = state.iter().copied().chain([event.nid]).collect();
        let mut chain = self.rooms.auth_chain(&told).await?;
        if members == MembersTold::Heroes {
            let state: HashSet<EventNid> = state.iter().copied().collect();
            chain.retain(|event| !state.contains(event));
        }
        Ok(Joined {
            event,
            state: self.rooms.events(&state).await?,
            members,
            auth_chain: self.rooms.events(&chain).await?,
            servers,
        })
    }

    /// Returns a state without its members but those that the room is named after, should it have neither a
    /// name nor an alias.
    async fn state_with_heroes(
        &self,
        room: &Room,
        state: StateNid,
        viewer: &UserId,
    ) -> Result<Vec<EventNid>> {
        let rooms = &self.rooms;
        let core = rooms.states().list(state, Part::Core).await?;
        let mut nids: Vec<EventNid> = core.iter().map(|entry| entry.event).collect();
        for named in ["m.room.name", "m.room.canonical_alias"] {
            if rooms.state_event_at(state, named, "").await?.is_some() {
                return Ok(nids);
            }
        }
        let nid = self.context.interned.user(viewer).await?;
        for hero in heroes_of(&self.context, room.nid, (viewer, nid)).await? {
            let member = rooms.state_event_at(state, "m.room.member", hero.as_str()).await?;
            nids.extend(member.map(|member| member.nid));
        }
        Ok(nids)
    }

    /// Returns the servers with members in a room, this one included.
    async fn servers_in(&self, room: &Room) -> Result<Vec<OwnedServerName>> {
        let others = servers::of_rooms(&self.context.db, &[room.nid]).await?;
        let present = others.into_iter().filter(|other| other.joined > 0);
        let ours = self.context.server_name.clone();
        Ok(present.map(|other| other.server).chain([ours]).collect())
    }

    /// Takes the knock of a user of another server; returns what is shown of the room.
    ///
    /// # Errors
    /// As [`FederationService::take_join`].
    pub async fn take_knock(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &str,
        pdu: Box<RawValue>,
    ) -> Result<Vec<Box<RawValue>>> {
        let room = self.open_room(room_id, origin).await?;
        let (knock, user) = self.own_member(origin, &room, pdu, &MembershipState::Knock).await?;
        require_same(&knock, event_id)?;
        self.take(&room, knock).await?;
        self.rooms.shown_to_invited(&room, &user, SHOWN_BYTES_MAX).await
    }

    /// Checks a member event of a user of another server about himself.
    pub(super) async fn own_member(
        &self,
        origin: &ServerName,
        room: &Room,
        pdu: Box<RawValue>,
        membership: &MembershipState,
    ) -> Result<(Event, OwnedUserId)> {
        let event = self.messaging.checked(room, pdu).await?;
        require_own(event.sender(), origin)?;
        let is_right = event.membership().as_ref() == Some(membership)
            && event.state_key() == Some(event.sender().as_str());
        match is_right {
            true => {
                let user = event.sender().to_owned();
                Ok((event, user))
            }
            false => {
                Err(MatrixError::invalid_param(format!("not a {membership} of a user")).into())
            }
        }
    }

    /// Puts an event into a room whose server handed it over.
    pub(super) async fn take(&self, room: &Arc<Room>, event: Event) -> Result<Arc<RoomEvent>> {
        let handed_over = Incoming::with(event, StateBefore::HandedOver);
        let (sent, outcome) = self.rooms.receive(room, handed_over).await?;
        let gone = || MatrixError::internal("an event vanished");
        match outcome {
            Outcome::Accepted => Ok(self.rooms.event(sent.nid).await?.ok_or_else(gone)?),
            _ => Err(MatrixError::forbidden("the room does not allow this").into()),
        }
    }

    /// Signs a join that a user of this server lets somebody in with, and tells whether it is one.
    fn co_signed(&self, room: &Room, pdu: Box<RawValue>) -> Result<(Box<RawValue>, bool)> {
        let bad = |error: serde_json::Error| MatrixError::bad_json(error.to_string());
        let join: Value = serde_json::from_str(pdu.get()).map_err(bad)?;
        let by = join["content"]["join_authorised_via_users_server"].as_str();
        let by = by.and_then(|user| UserId::parse(user).ok());
        if by.is_none_or(|user| !self.rooms.is_local(&user)) {
            return Ok((pdu, false));
        }
        let object = serde_json::from_str(pdu.get()).map_err(bad)?;
        let key = self.context.signing_key.current();
        let (name, random) = (&self.context.server_name, &*self.context.random);
        let signed = complete(object, name, &*key, &room.rules, random).map_err(draft_error)?;
        Ok((RawValue::from_string(signed.json().to_owned()).map_err(bad)?, true))
    }
}

/// Makes sure that the path names the event.
pub(super) fn require_same(event: &Event, event_id: &str) -> Result<(), MatrixError> {
    match event.event_id().as_str() == event_id {
        true => Ok(()),
        false => Err(MatrixError::invalid_param("the path names another event")),
    }
}

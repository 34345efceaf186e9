//! Rooms that live on other servers too: taking what others made, and what others may ask for before they
//! make something.

mod policy;
pub mod policy_servers;

use std::{collections::HashSet, sync::Arc};

use colonnade_model::{
    MatrixError,
    nid::EventNid,
    ruma::{
        CanonicalJsonObject, EventId, OwnedEventId, RoomId, RoomVersionId, UserId,
        events::room::member::MembershipState,
    },
    slot::slot_of,
};
use colonnade_rules::event::Event;
use colonnade_storage::rooms::{
    events::EventFlags,
    heads::{self, RoomRow},
    members::Membership,
    servers,
};

use crate::{
    Context, Result,
    actor::request::RoomRequest,
    founding::rules_of,
    incoming::{Incoming, StateBefore},
    pending_room::PendingRoom,
    proposal::{Proposal, Sent},
    service::Rooms,
    store::Room,
};

/// Bytes of outliers that go to a room's owner together: well below what a call may carry.
const OUTLIERS_BYTES: usize = 512 * 1024;

/// What became of an event that another server made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is part of the room.
    Accepted,
    /// It is stored, and the current state does not allow it: clients do not see it.
    SoftFailed,
    /// It is stored, and was never allowed.
    Rejected,
}

impl Rooms {
    /// Takes an event that another server made, whose form, hash and signatures were checked.
    ///
    /// Returns once it is stored; one that is rejected or soft-failed is stored and shown to nobody.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when an event that allows it is not known, or one that it follows is not and the
    /// state before it is not given.
    pub async fn receive(
        &self,
        room: &Arc<Room>,
        incoming: impl Into<Incoming>,
    ) -> Result<(Sent, Outcome)> {
        let mut sent = self.add_received(room, incoming.into()).await?;
        let none = || MatrixError::internal("no answer for an event");
        let sent = sent.pop().ok_or_else(none)?;
        let stored = self.event(sent.nid).await?.ok_or_else(none)?;
        let outcome = match stored.flags {
            flags if flags.has(EventFlags::REJECTED) => Outcome::Rejected,
            flags if flags.has(EventFlags::SOFT_FAILED) => Outcome::SoftFailed,
            _ => Outcome::Accepted,
        };
        Ok((sent, outcome))
    }

    /// Stores events that allow others or make up a state, each after those that allow it. Those that
    /// are known stay as they are.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when an auth event is neither known nor among them.
    pub async fn add_outliers(&self, room: &Arc<Room>, events: Vec<Event>) -> Result<Vec<Sent>> {
        let mut stored = Vec::with_capacity(events.len());
        let (mut piece, mut bytes) = (Vec::new(), 0);
        for event in events {
            bytes += event.json().len();
            piece.push(event);
            if bytes >= OUTLIERS_BYTES {
                bytes = 0;
                let request = RoomRequest::Outliers(std::mem::take(&mut piece));
                stored.extend(self.actors.ask(room, request).await?);
            }
        }
        if !piece.is_empty() {
            stored.extend(self.actors.ask(room, RoomRequest::Outliers(piece)).await?);
        }
        Ok(stored)
    }

    /// Adds events of the past, oldest first, with the state before the first of them.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when an auth event is not known.
    pub async fn add_history(
        &self,
        room: &Arc<Room>,
        events: Vec<Event>,
        state: Vec<EventNid>,
    ) -> Result<Vec<Sent>> {
        self.actors.ask(room, RoomRequest::History(events, state)).await
    }

    /// Returns a room of another server, noting its id and version if it is not known here yet.
    ///
    /// # Errors
    /// `M_UNSUPPORTED_ROOM_VERSION`; `M_INCOMPATIBLE_ROOM_VERSION` is the caller's to say.
    pub async fn elsewhere(&self, room_id: &RoomId, version: &RoomVersionId) -> Result<Arc<Room>> {
        rules_of(version)?;
        if let Some(room) = self.find_row(room_id).await? {
            return Ok(room);
        }
        let context = &self.context;
        let row = RoomRow {
            nid: context.nids.room(&context.db).await?,
            room_id: room_id.to_owned(),
            version: version.clone(),
            created_ts: context.now_ms(),
        };
        heads::make_row(&context.db, row, slot_of(room_id.as_str())).await?;
        let vanished = || MatrixError::internal("a room's row vanished");
        Ok(self.find_row(room_id).await?.ok_or_else(vanished)?)
    }

    /// Tells whether a user of this server is in a room.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_resident(&self, room: &Room) -> Result<bool> {
        let Some(head) = heads::head(&self.context.db, room.nid).await? else { return Ok(false) };
        let others = servers::of_rooms(&self.context.db, &[room.nid]).await?;
        Ok(head.joined > others.iter().map(|server| server.joined.max(0)).sum())
    }

    /// Tells whether what happens in a room is to be asked of other servers: nobody of this one is in it,
    /// and others are, or were, or nothing is known of it but that somebody knocked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_elsewhere(&self, room: &Room) -> Result<bool> {
        if self.is_resident(room).await? {
            return Ok(false);
        }
        let others = servers::of_rooms(&self.context.db, &[room.nid]).await?;
        Ok(!others.is_empty() || self.state_event(room.nid, "m.room.create", "").await?.is_none())
    }

    /// Makes the event that a user of another server would send now, without hash and signatures, for
    /// that server to complete.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when it would not be allowed.
    pub async fn template(
        &self,
        room: &Arc<Room>,
        proposal: Proposal,
    ) -> Result<CanonicalJsonObject> {
        let mut pending = PendingRoom::load(&self.store, Arc::clone(room), 0).await?;
        pending.template(&self.store, proposal).await
    }

    /// Returns which of the events are not part of a room as it is known here.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unknown_among(
        &self,
        room: &Room,
        ids: &[OwnedEventId],
    ) -> Result<Vec<OwnedEventId>> {
        let known = self.store.events_by_ids(ids).await?;
        let is_part = |id: &OwnedEventId| {
            known.iter().any(|event| {
                event.event.event_id() == id
                    && event.room == room.nid
                    && event.state_after.is_some()
            })
        };
        Ok(ids.iter().filter(|id| !is_part(id)).cloned().collect())
    }
}

impl Rooms {
    /// Returns what everything stands on.
    pub fn context(&self) -> &Arc<Context> {
        &self.store.context
    }

    /// Returns which of the events are not known at all, not as outliers either.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn never_seen(&self, ids: &[OwnedEventId]) -> Result<Vec<OwnedEventId>> {
        let known = self.store.events_by_ids(ids).await?;
        let known: HashSet<&EventId> = known.iter().map(|event| event.event.event_id()).collect();
        Ok(ids.iter().filter(|id| !known.contains(&***id)).cloned().collect())
    }

    /// Returns the local ids of those of the events that are known in a room.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn nids_of(&self, room: &Room, ids: &[OwnedEventId]) -> Result<Vec<EventNid>> {
        let known = self.store.events_by_ids(ids).await?;
        Ok(known.iter().filter(|event| event.room == room.nid).map(|event| event.nid).collect())
    }

    /// Takes an event of a room that nobody of this server is in, if it ends an invitation or a knock of a
    /// user of this server. Nothing of it can be checked but who signed it: only the server that the
    /// invitation came from may take it back, and a knock those that the room was shown to be of.
    ///
    /// # Errors
    /// `M_FORBIDDEN` for any other event.
    pub async fn receive_outside(&self, room: &Arc<Room>, event: Event) -> Result<Outcome> {
        let forbidden = || MatrixError::forbidden("nobody of this server is in this room");
        let is_end = matches!(
            event.membership(),
            Some(MembershipState::Leave | MembershipState::Ban | MembershipState::Invite)
        );
        let user = event.state_key().filter(|_| is_end).and_then(|user| UserId::parse(user).ok());
        let user = user.filter(|user| self.is_local(user)).ok_or_else(forbidden)?;
        let nid = self.context().interned.user(&user).await?;
        let member = self.member(room.nid, nid).await?.ok_or_else(forbidden)?;
        let waits = matches!(member.membership, Membership::Invite | Membership::Knock);
        let before = self.event(member.event).await?.ok_or_else(forbidden)?;
        let by = event.sender().server_name();
        let is_theirs = before.event.sender().server_name() == by
            || room.room_id.server_name() == Some(by)
            || (member.membership == Membership::Knock
                && self.store.was_shown_of(&before, by).await?);
        // An answered knock is shown by the invitation itself.
        if !waits || !is_theirs || event.membership() == Some(MembershipState::Invite) {
            return Err(forbidden().into());
        }
        let before = StateBefore::OutOfBand(String::new());
        Ok(self.receive(room, Incoming::with(event, before)).await?.1)
    }
}

impl From<Event> for Incoming {
    fn from(event: Event) -> Self {
        Self::following(event)
    }
}

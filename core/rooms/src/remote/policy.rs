//! A room's policy server: what it says of events of this server's users before they are sent, and of those that
//! others sent without its word. It is asked outside of the room's actor, which goes on meanwhile: the actor refuses
//! what lacks a signature with [`POLICY_WANTED`], whoever asked gets one, and asks the actor again.
//!
//! Source: Matrix v1.19, server-server, "Policy Servers".

use std::sync::Arc;

use colonnade_model::MatrixError;
use colonnade_rules::{
    event::{Event, complete},
    policy::{ROOM_POLICY, RoomPolicy, is_asked_about},
};

use super::policy_servers::{Asker, POLICY_WANTED, in_use};
use crate::{
    Error, Result,
    actor::request::RoomRequest,
    incoming::{Incoming, PolicyCheck},
    proposal::{Proposal, Sent, draft_error},
    service::Rooms,
    store::Room,
};

impl Rooms {
    /// Returns an event of a user of this server as it may be sent: with the signature of the room's policy server,
    /// if it has one.
    ///
    /// # Errors
    /// What that server says, or `M_FORBIDDEN` when it does not sign.
    pub async fn recommended(&self, room: &Room, event: Event) -> Result<Event> {
        match self.policy(room).await? {
            Some(policy) if is_asked_about(event.event_type(), event.state_key()) => {
                self.signed(&policy, room, &event, Asker::Person).await
            }
            _ => Ok(event),
        }
    }

    /// Adds an event that somebody here proposes, with the word of the room's policy server where that is wanted.
    pub(crate) async fn add_recommended(
        &self,
        room: &Arc<Room>,
        proposal: Proposal,
    ) -> Result<Vec<Sent>> {
        let first = self.actors.ask(room, RoomRequest::Send(vec![proposal.clone()])).await;
        match first {
            Err(Error::Client(error)) if error.status == POLICY_WANTED => {}
            answered => return answered,
        }
        let template = self.template(room, proposal.clone()).await?;
        let context = &self.context;
        let key = context.signing_key.current();
        let (name, random) = (&context.server_name, &*context.random);
        let event = complete(template, name, &*key, &room.rules, random).map_err(draft_error)?;
        let event = self.recommended(room, event).await?;
        let signed = Some((event.event_id().to_owned(), event.json().to_owned()));
        self.actors.ask(room, RoomRequest::Send(vec![Proposal { signed, ..proposal }])).await
    }

    /// Adds an event that somebody else made, after the room's policy server was asked where its word is wanted.
    pub(crate) async fn add_received(
        &self,
        room: &Arc<Room>,
        incoming: Incoming,
    ) -> Result<Vec<Sent>> {
        let request = RoomRequest::Receive(Box::new(incoming.clone()));
        match self.actors.ask(room, request).await {
            Err(Error::Client(error)) if error.status == POLICY_WANTED => {}
            answered => return answered,
        }
        let mut asked = Incoming { policy: PolicyCheck::Asked, ..incoming };
        if let Some(policy) = self.policy(room).await? {
            match self.signed(&policy, room, &asked.event, Asker::Arrival).await {
                Ok(signed) => asked.event = signed,
                Err(error) => {
                    let event_id = asked.event.event_id();
                    tracing::info!(room = %room.room_id, %event_id, %error, "not recommended");
                }
            }
        }
        self.actors.ask(room, RoomRequest::Receive(Box::new(asked))).await
    }

    async fn policy(&self, room: &Room) -> Result<Option<RoomPolicy>> {
        let named = self.state_event(room.nid, ROOM_POLICY, "").await?;
        in_use(&self.context, room.nid, named).await
    }

    /// Gets the signature of a policy server for an event, and makes sure that it is right.
    async fn signed(
        &self,
        policy: &RoomPolicy,
        room: &Room,
        event: &Event,
        asker: Asker,
    ) -> Result<Event> {
        if policy.has_signed(event, &room.rules).unwrap_or(false) {
            return Ok(event.clone());
        }
        let signature = self.policy_servers.signature(policy.server(), event, asker).await?;
        let signed = policy.with_signature(event, &signature, &room.rules);
        let signed = signed.map_err(|error| MatrixError::too_large(error.to_string()))?;
        match policy.has_signed(&signed, &room.rules) {
            Ok(true) => Ok(signed),
            _ => {
                let why = "the room's policy server did not sign this with the key the room names";
                Err(MatrixError::forbidden(why).into())
            }
        }
    }
}

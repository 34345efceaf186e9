//! What is asked of a room's owner in another process: the request and its answer on the way, and
//! how long somebody tries.
//!
//! Invariants:
//! 1. A call is served by the owner or not at all: it is never passed on a second time.
//! 2. Whatever leaves this process has a transaction id, so an answer that was lost is asked for
//!    again, of the next owner if need be, and nothing happens twice.

use std::{sync::Arc, time::Duration};

use colonnade_model::{
    MatrixError,
    nid::{DeviceNid, EventNid},
    ruma::{CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedUserId},
    slot::slot_of,
    stream::{Position, Stream},
};
use colonnade_replication::slots::Place;
use colonnade_rules::event::Event;
use colonnade_storage::client_txns::ClientTxn;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{
    Rooms,
    actor::{Actors, Ask, Refusal},
    store::Room,
    work::{Proposal, Sent},
};
use crate::{Error, Result, elsewhere::CallError};

/// How long a request looks for its room's owner: longer than a take-over takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(8);
/// The pause before another look at who the owner is.
const PAUSE: Duration = Duration::from_millis(50);
/// Characters of the transaction id of a request that has none: 107 bits.
const TXN_ID_LENGTH: usize = 18;
/// Proposals in one call at most: a service makes one at a time today.
const PROPOSALS_MAX: usize = 1_000;

/// A request on its way.
#[derive(Debug, Serialize, Deserialize)]
struct Errand {
    room: OwnedRoomId,
    ask: Wish,
}

#[derive(Debug, Serialize, Deserialize)]
enum Wish {
    Send(Vec<Wanted>),
    Receive { event_id: OwnedEventId, json: String },
}

/// A [`Proposal`] on its way.
#[derive(Debug, Serialize, Deserialize)]
struct Wanted {
    sender: OwnedUserId,
    event_type: String,
    state_key: Option<String>,
    content: CanonicalJsonObject,
    redacts: Option<OwnedEventId>,
    txn: Option<(DeviceNid, String, String)>,
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// Done; the events stream stands at least there.
    Sent { sent: Vec<(OwnedEventId, EventNid)>, upto: Position },
    /// Refused, as the client is told.
    Refused { status: u16, errcode: String, message: String, extra: Map<String, Value> },
    /// Nothing was done: the room is not ours.
    NotOwner,
}

impl Actors {
    /// Asks the room's owner, wherever that is, to do something, and waits until it is committed.
    ///
    /// # Errors
    /// What the checks said, or that the owner or the database cannot be reached.
    pub(super) async fn ask(&self, room: &Arc<Room>, mut ask: Ask) -> Result<Vec<Sent>> {
        let context = &self.store.context;
        let slot = slot_of(room.room_id.as_str());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let epoch = context.slots.map().epoch;
            match context.slots.place(slot) {
                Place::Here { .. } => match self.ask_here(room, ask.clone()).await {
                    Err(Refusal::NotOwner) => {}
                    Err(Refusal::Error(error)) => return Err(error),
                    Ok(sent) => return Ok(sent),
                },
                Place::There { address } => {
                    self.name(&mut ask);
                    let left = deadline.saturating_duration_since(Instant::now());
                    let there = self.ask_there(room, &ask, &address, left.min(CALL_MAX));
                    let answered = tokio::select! {
                        biased;
                        answered = there => answered,
                        // Who is paused is not waited for once somebody else is named.
                        () = self.elsewhere_than(&address, slot) => Err(Refusal::NotOwner),
                    };
                    match answered {
                        Err(Refusal::NotOwner) => {}
                        Err(Refusal::Error(error)) => return Err(error),
                        Ok(sent) => return Ok(sent),
                    }
                }
                Place::Nowhere => {}
            }
            if Instant::now() >= deadline {
                let why = "the process that has this room cannot be reached; try again";
                return Err(MatrixError::unavailable(why).into());
            }
            context.slots.look_again();
            context.slots.changed(epoch, PAUSE).await;
        }
    }

    /// Waits until the map names another owner of a slot than the process at `address`.
    async fn elsewhere_than(&self, address: &str, slot: u16) {
        let slots = &self.store.context.slots;
        let mut epoch = slots.map().epoch;
        while matches!(slots.place(slot), Place::There { address: now } if now == address) {
            epoch = slots.changed(epoch, CALL_MAX).await;
        }
    }

    /// Gives every proposal a name, by which the owner knows it again.
    fn name(&self, ask: &mut Ask) {
        let Ask::Send(proposals) = ask else { return };
        for proposal in proposals.iter_mut().filter(|proposal| proposal.txn.is_none()) {
            let txn_id = self.store.context.random.alphanumeric(TXN_ID_LENGTH);
            // No device has this id: clients never see the name.
            let scope = "errand".to_owned();
            proposal.txn = Some(ClientTxn { device: DeviceNid(0), scope, txn_id });
        }
    }

    async fn ask_there(
        &self,
        room: &Room,
        ask: &Ask,
        address: &str,
        within: Duration,
    ) -> Result<Vec<Sent>, Refusal> {
        let context = &self.store.context;
        let errand = Errand { room: room.room_id.clone(), ask: Wish::from(ask) };
        let body = serde_json::to_vec(&errand).map_err(|error| internal("write", error))?;
        let answer = match context.carrier.call(address, body, within).await {
            Ok(answer) => answer,
            // Its end, or its successor, is named soon.
            Err(CallError::NotReached(why) | CallError::Lost(why)) => {
                tracing::debug!(room = %room.room_id, address, why, "the owner does not answer");
                return Err(Refusal::NotOwner);
            }
        };
        match serde_json::from_slice(&answer).map_err(|error| internal("read", error))? {
            Answer::NotOwner => Err(Refusal::NotOwner),
            Answer::Refused { status, errcode, message, extra } => {
                let errcode = known_code(errcode);
                Err(Refusal::Error(MatrixError { status, errcode, message, extra }.into()))
            }
            Answer::Sent { sent, upto } => {
                // A client that asks us next sees what it wrote there.
                context.streams.hear_of(Stream::Events, upto);
                context.streams.noted(Stream::Events, upto).await;
                Ok(sent.into_iter().map(|(event_id, nid)| Sent { event_id, nid }).collect())
            }
        }
    }
}

impl Rooms {
    /// Does what another process asks of us as the owner of a room, and returns the answer for it.
    ///
    /// # Errors
    /// When the request is not one, or the answer cannot be written.
    pub async fn run_errand(&self, body: &[u8]) -> Result<Vec<u8>> {
        let errand: Errand = serde_json::from_slice(body)
            .map_err(|error| MatrixError::bad_json(format!("not a request of ours: {error}")))?;
        let answer = match self.try_errand(errand).await {
            Ok(sent) => Answer::Sent {
                sent: sent.into_iter().map(|sent| (sent.event_id, sent.nid)).collect(),
                upto: self.context.streams.known().get(Stream::Events),
            },
            Err(Refusal::NotOwner) => Answer::NotOwner,
            Err(Refusal::Error(Error::Client(error))) => {
                let MatrixError { status, errcode, message, extra } = error;
                Answer::Refused { status, errcode: errcode.to_owned(), message, extra }
            }
            Err(Refusal::Error(error)) => return Err(error),
        };
        serde_json::to_vec(&answer).map_err(|error| Error::internal("write an answer", error))
    }

    async fn try_errand(&self, errand: Errand) -> Result<Vec<Sent>, Refusal> {
        let unknown = || Error::from(MatrixError::not_found("this room is not known"));
        let room = self.find(&errand.room).await?.ok_or_else(unknown)?;
        let ask = match errand.ask {
            Wish::Send(wanted) if wanted.len() > PROPOSALS_MAX => {
                return Err(Error::from(MatrixError::bad_json("too many events at once")).into());
            }
            Wish::Send(wanted) => Ask::Send(wanted.into_iter().map(Proposal::from).collect()),
            Wish::Receive { event_id, json } => {
                let event = Event::from_stored(json.into_bytes(), event_id, &room.rules, false);
                let event = event.map_err(|error| internal("read an event for", error))?;
                Ask::Receive(Box::new(event))
            }
        };
        self.actors.ask_here(&room, ask).await
    }
}

impl From<&Ask> for Wish {
    fn from(ask: &Ask) -> Self {
        match ask {
            Ask::Send(proposals) => {
                Self::Send(proposals.iter().cloned().map(Wanted::from).collect())
            }
            Ask::Receive(event) => Self::Receive {
                event_id: event.event_id().to_owned(),
                json: event.json().to_owned(),
            },
        }
    }
}

impl From<Proposal> for Wanted {
    fn from(proposal: Proposal) -> Self {
        let Proposal { sender, event_type, state_key, content, redacts, txn } = proposal;
        let txn = txn.map(|txn| (txn.device, txn.scope, txn.txn_id));
        Self { sender, event_type: event_type.to_string(), state_key, content, redacts, txn }
    }
}

impl From<Wanted> for Proposal {
    fn from(wanted: Wanted) -> Self {
        let Wanted { sender, event_type, state_key, content, redacts, txn } = wanted;
        let txn = txn.map(|(device, scope, txn_id)| ClientTxn { device, scope, txn_id });
        Self { sender, event_type: event_type.into(), state_key, content, redacts, txn }
    }
}

fn internal(doing: &'static str, error: impl std::fmt::Display) -> Refusal {
    Refusal::Error(MatrixError::internal(format!("cannot {doing} a room's owner: {error}")).into())
}

/// Finds our own text for a code: there are few, and all processes know the same.
fn known_code(errcode: String) -> &'static str {
    MatrixError::code(&errcode).unwrap_or("M_UNKNOWN")
}

//! What is asked of a room's owner in another process: the request and its answer on the way, and
//! how long somebody tries.
//!
//! Invariants:
//! 1. A call is served by the owner or not at all: it is never passed on a second time.
//! 2. Who is not the owner says by which epoch it knows, and who asked by an older map first reads the
//!    newer one.
//! 3. Whatever leaves this process has a transaction id, so an answer that was lost is asked for
//!    again, of the next owner if need be, and nothing happens twice.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use colonnade_model::{
    MatrixError,
    nid::{DeviceNid, EventNid},
    ruma::{CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedUserId},
    slot::slot_of,
    stream::{Position, Stream},
};
use colonnade_replication::slots::Place;
use colonnade_rules::event::Event;
use colonnade_storage::rooms::client_txns::ClientTxn;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{
    Actors,
    owner_calls::Calls,
    request::{Refusal, RoomRequest},
};
use crate::{Error, Result, rpc::RpcError};
use crate::{
    incoming::{Incoming, PolicyCheck, StateBefore},
    proposal::{Over, Proposal, Sent},
    service::Rooms,
    store::Room,
};

/// How long a request looks for its room's owner: longer than a take-over takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(8);
/// The pause before another look at who the owner is, when nobody has told of a newer map.
const PAUSE: Duration = Duration::from_millis(50);
/// Characters of the transaction id of a request that has none: 107 bits.
const TXN_ID_LENGTH: usize = 18;
/// Proposals in one call at most: a service makes one at a time today.
const PROPOSALS_MAX: usize = 1_000;

/// A request on its way.
#[derive(Debug, Serialize, Deserialize)]
struct OwnerRequest {
    room: OwnedRoomId,
    ask: RoomCommand,
    /// The epoch of the map by which the owner is asked; 0 from a process of an older version.
    #[serde(default)]
    epoch: i64,
}

#[derive(Debug, Serialize, Deserialize)]
enum RoomCommand {
    Send(Vec<WireProposal>),
    Receive {
        event_id: OwnedEventId,
        json: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<WireBefore>,
        /// An owner of an older version asks no policy server.
        #[serde(default)]
        policy: PolicyCheck,
    },
    History(Vec<(OwnedEventId, String)>, Vec<EventNid>),
    Outliers(Vec<(OwnedEventId, String)>),
}

/// A [`StateBefore`] on its way, other than what an event follows.
#[derive(Debug, Serialize, Deserialize)]
enum WireBefore {
    HandedOver,
    Given(Vec<EventNid>),
    Between(Vec<(Vec<EventNid>, EventNid)>),
    Entered(Vec<EventNid>),
    OutOfBand(String),
}

/// A [`Proposal`] on its way.
#[derive(Debug, Serialize, Deserialize)]
struct WireProposal {
    sender: OwnedUserId,
    event_type: String,
    state_key: Option<String>,
    content: CanonicalJsonObject,
    redacts: Option<OwnedEventId>,
    txn: Option<(DeviceNid, String, String)>,
    /// A process of an older version does not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    over: Option<Over>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signed: Option<(OwnedEventId, String)>,
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// Done; the events stream stands at least there.
    Sent { sent: Vec<(OwnedEventId, EventNid)>, upto: Position },
    /// Refused, as the client is told.
    Refused { status: u16, errcode: String, message: String, extra: Map<String, Value> },
    /// Nothing was done: by the map of this epoch the room is not ours.
    Elsewhere { epoch: i64 },
    /// The same, among processes of which one is of an older version.
    NotOwner,
}

/// Why an owner did nothing.
enum Failed {
    /// It is not the owner, by the map of this epoch; 0 when it does not say.
    Elsewhere(i64),
    /// It does not answer.
    Silent,
    /// It refuses, or something broke.
    Error(Error),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotOwner => Self::Elsewhere(0),
            Refusal::Error(error) => Self::Error(error),
        }
    }
}

impl Calls {
    fn note(&self, answered: &Result<Vec<Sent>, Failed>) {
        let count = match answered {
            Ok(_) | Err(Failed::Error(_)) => &self.answered,
            Err(Failed::Elsewhere(_)) => &self.elsewhere,
            Err(Failed::Silent) => &self.silent,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Actors {
    /// Asks the room's owner, wherever that is, to do something, and waits until it is committed.
    ///
    /// # Errors
    /// What the checks said, or that the owner or the database cannot be reached.
    pub(crate) async fn ask(&self, room: &Arc<Room>, mut ask: RoomRequest) -> Result<Vec<Sent>> {
        let context = &self.store.context;
        let slot = slot_of(room.room_id.as_str());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let epoch = context.slots.map().epoch;
            let left = || deadline.saturating_duration_since(Instant::now());
            let answered = match context.slots.place(slot) {
                Place::Here { .. } => self.ask_here(room, ask.clone()).await.map_err(Failed::from),
                Place::There { address } => {
                    self.name(&mut ask);
                    let there = self.ask_there(room, &ask, (&address, epoch), left().min(CALL_MAX));
                    let answered = tokio::select! {
                        biased;
                        answered = there => answered,
                        // Who is paused is not waited for once somebody else is named.
                        () = self.elsewhere_than(&address, slot) => Err(Failed::Silent),
                    };
                    self.calls.note(&answered);
                    answered
                }
                Place::Nowhere => Err(Failed::Elsewhere(0)),
            };
            let known = match answered {
                Ok(sent) => return Ok(sent),
                Err(Failed::Error(error)) => return Err(error),
                Err(Failed::Elsewhere(known)) => known,
                Err(Failed::Silent) => 0,
            };
            if left().is_zero() {
                let why = "the process that has this room cannot be reached; try again";
                return Err(MatrixError::unavailable(why).into());
            }
            if known > epoch {
                context.slots.reached(known, left()).await;
            } else {
                context.slots.look_again();
                context.slots.changed(epoch, PAUSE).await;
            }
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
    fn name(&self, ask: &mut RoomRequest) {
        let RoomRequest::Send(proposals) = ask else { return };
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
        ask: &RoomRequest,
        (address, epoch): (&str, i64),
        within: Duration,
    ) -> Result<Vec<Sent>, Failed> {
        let context = &self.store.context;
        let request =
            OwnerRequest { room: room.room_id.clone(), ask: RoomCommand::from(ask), epoch };
        let body = serde_json::to_vec(&request).map_err(|error| internal("write", error))?;
        let answer = match context.carrier.call(address, body, within).await {
            Ok(answer) => answer,
            // Its end, or its successor, is named soon.
            Err(RpcError::NotReached(why) | RpcError::Lost(why)) => {
                tracing::debug!(room = %room.room_id, address, why, "the owner does not answer");
                return Err(Failed::Silent);
            }
        };
        match serde_json::from_slice(&answer).map_err(|error| internal("read", error))? {
            Answer::Elsewhere { epoch } => Err(Failed::Elsewhere(epoch)),
            Answer::NotOwner => Err(Failed::Elsewhere(0)),
            Answer::Refused { status, errcode, message, extra } => {
                let errcode = errcode.into();
                Err(Failed::Error(MatrixError { status, errcode, message, extra }.into()))
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
    /// Returns how often owners in other processes were called, and answered, were not the owner, or were
    /// silent: each with its name in metrics.
    pub fn owner_calls(&self) -> [(&'static str, u64); 3] {
        let Calls { answered, elsewhere, silent } = &*self.actors.calls;
        [("answered", answered), ("not_owner", elsewhere), ("silent", silent)]
            .map(|(result, count)| (result, count.load(Ordering::Relaxed)))
    }

    /// Does what another process asks of us as the owner of a room, and returns the answer for it.
    ///
    /// # Errors
    /// When the request is not one, or the answer cannot be written.
    pub async fn serve_owner_request(&self, body: &[u8]) -> Result<Vec<u8>> {
        let request: OwnerRequest = serde_json::from_slice(body)
            .map_err(|error| MatrixError::bad_json(format!("not a request of ours: {error}")))?;
        let asked_by = request.epoch;
        let answer = match self.try_serve(request).await {
            Ok(sent) => Answer::Sent {
                sent: sent.into_iter().map(|sent| (sent.event_id, sent.nid)).collect(),
                upto: self.context.streams.known().get(Stream::Events),
            },
            Err(Refusal::NotOwner) if asked_by == 0 => Answer::NotOwner,
            Err(Refusal::NotOwner) => Answer::Elsewhere { epoch: self.context.slots.map().epoch },
            Err(Refusal::Error(Error::Client(error))) => {
                let MatrixError { status, errcode, message, extra } = error;
                Answer::Refused { status, errcode: errcode.into_owned(), message, extra }
            }
            Err(Refusal::Error(error)) => return Err(error),
        };
        serde_json::to_vec(&answer).map_err(|error| Error::internal("write an answer", error))
    }

    async fn try_serve(&self, request: OwnerRequest) -> Result<Vec<Sent>, Refusal> {
        let unknown = || Error::from(MatrixError::not_found("this room is not known"));
        let room = self.find_row(&request.room).await?.ok_or_else(unknown)?;
        let ask = match request.ask {
            RoomCommand::Send(wanted) if wanted.len() > PROPOSALS_MAX => {
                return Err(Error::from(MatrixError::bad_json("too many events at once")).into());
            }
            RoomCommand::Send(wanted) => {
                RoomRequest::Send(wanted.into_iter().map(Proposal::from).collect())
            }
            RoomCommand::Receive { event_id, json, before, policy } => {
                let event = read(&room, event_id, json)?;
                let before = before.map_or(StateBefore::Followed, StateBefore::from);
                RoomRequest::Receive(Box::new(Incoming { event, before, policy }))
            }
            RoomCommand::History(events, state) => {
                RoomRequest::History(read_all(&room, events)?, state)
            }
            RoomCommand::Outliers(events) => RoomRequest::Outliers(read_all(&room, events)?),
        };
        let slots = &self.context.slots;
        if !matches!(slots.place(slot_of(request.room.as_str())), Place::Here { .. }) {
            // Who asks may have heard sooner that it is ours.
            slots.reached(request.epoch, CALL_MAX).await;
        }
        self.actors.ask_here(&room, ask).await
    }
}

impl From<&RoomRequest> for RoomCommand {
    fn from(ask: &RoomRequest) -> Self {
        match ask {
            RoomRequest::Send(proposals) => {
                Self::Send(proposals.iter().cloned().map(WireProposal::from).collect())
            }
            RoomRequest::Receive(incoming) => Self::Receive {
                event_id: incoming.event.event_id().to_owned(),
                json: incoming.event.json().to_owned(),
                before: WireBefore::of(&incoming.before),
                policy: incoming.policy,
            },
            RoomRequest::History(events, state) => Self::History(written(events), state.clone()),
            RoomRequest::Outliers(events) => Self::Outliers(written(events)),
        }
    }
}

impl WireBefore {
    fn of(before: &StateBefore) -> Option<Self> {
        Some(match before {
            StateBefore::Followed => return None,
            StateBefore::HandedOver => Self::HandedOver,
            StateBefore::Given(events) => Self::Given(events.clone()),
            StateBefore::Between(states) => Self::Between(states.clone()),
            StateBefore::Entered(events) => Self::Entered(events.clone()),
            StateBefore::OutOfBand(stripped) => Self::OutOfBand(stripped.clone()),
        })
    }
}

impl From<WireBefore> for StateBefore {
    fn from(wire: WireBefore) -> Self {
        match wire {
            WireBefore::HandedOver => Self::HandedOver,
            WireBefore::Given(events) => Self::Given(events),
            WireBefore::Between(states) => Self::Between(states),
            WireBefore::Entered(events) => Self::Entered(events),
            WireBefore::OutOfBand(stripped) => Self::OutOfBand(stripped),
        }
    }
}

fn written(events: &[Event]) -> Vec<(OwnedEventId, String)> {
    events.iter().map(|event| (event.event_id().to_owned(), event.json().to_owned())).collect()
}

fn read_all(room: &Room, events: Vec<(OwnedEventId, String)>) -> Result<Vec<Event>, Refusal> {
    events.into_iter().map(|(event_id, json)| read(room, event_id, json)).collect()
}

/// Reads an event that another process checked.
fn read(room: &Room, event_id: OwnedEventId, json: String) -> Result<Event, Refusal> {
    let event = Event::from_stored(json.into_bytes(), event_id, &room.rules, false);
    event.map_err(|error| internal("read an event for", error))
}

impl From<Proposal> for WireProposal {
    fn from(proposal: Proposal) -> Self {
        let Proposal { sender, event_type, state_key, content, redacts, txn, over, signed } =
            proposal;
        let txn = txn.map(|txn| (txn.device, txn.scope, txn.txn_id));
        let event_type = event_type.to_string();
        Self { sender, event_type, state_key, content, redacts, txn, over, signed }
    }
}

impl From<WireProposal> for Proposal {
    fn from(wanted: WireProposal) -> Self {
        let WireProposal { sender, event_type, state_key, content, redacts, txn, over, signed } =
            wanted;
        let txn = txn.map(|(device, scope, txn_id)| ClientTxn { device, scope, txn_id });
        let event_type = event_type.into();
        Self { sender, event_type, state_key, content, redacts, txn, over, signed }
    }
}

fn internal(doing: &'static str, error: impl std::fmt::Display) -> Refusal {
    Refusal::Error(MatrixError::internal(format!("cannot {doing} a room's owner: {error}")).into())
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::{event_id, user_id};
    use serde_json::json;

    use super::*;
    use crate::proposal::content;

    fn proposal() -> Proposal {
        let scope = "send 1 m.room.message".to_owned();
        Proposal {
            sender: user_id!("@a:b").to_owned(),
            event_type: "m.room.redaction".into(),
            state_key: Some("k".to_owned()),
            content: content(json!({ "body": "x", "n": [1, null] })).unwrap(),
            redacts: Some(event_id!("$r").to_owned()),
            txn: Some(ClientTxn { device: DeviceNid(7), scope, txn_id: "t".to_owned() }),
            over: Some(Over::Event(event_id!("$o").to_owned())),
            signed: Some((event_id!("$e").to_owned(), "{}".to_owned())),
        }
    }

    #[test]
    fn a_proposal_is_the_same_at_the_owner() {
        let sent = proposal();
        let text = serde_json::to_string(&WireProposal::from(sent.clone())).unwrap();
        let come = Proposal::from(serde_json::from_str::<WireProposal>(&text).unwrap());
        assert_eq!(format!("{come:?}"), format!("{sent:?}"));
    }

    #[test]
    fn a_process_of_the_version_before_is_understood() {
        let mut wire = serde_json::to_value(WireProposal::from(proposal())).unwrap();
        wire.as_object_mut().unwrap().retain(|key, _| key != "over" && key != "signed");
        let text = json!({ "room": "!a:b", "ask": { "Send": [wire] } }).to_string();
        let request: OwnerRequest = serde_json::from_str(&text).unwrap();
        assert_eq!(request.epoch, 0);
        let RoomCommand::Send(proposals) = request.ask else { panic!("it sends") };
        assert_eq!(proposals[0].over, None);
        // And it understands us, who name what it does not know only where it is there.
        let without = WireProposal { over: None, signed: None, ..WireProposal::from(proposal()) };
        let without = serde_json::to_string(&without).unwrap();
        assert!(!without.contains("over") && !without.contains("signed"));
    }

    #[test]
    fn calls_are_counted_by_how_they_went() {
        let calls = Calls::default();
        let refused = Error::from(MatrixError::forbidden("no"));
        for answered in [
            Ok(Vec::new()),
            Err(Failed::Error(refused)),
            Err(Failed::Elsewhere(3)),
            Err(Failed::Silent),
        ] {
            calls.note(&answered);
        }
        let counts = [&calls.answered, &calls.elsewhere, &calls.silent];
        assert_eq!(counts.map(|count| count.load(Ordering::Relaxed)), [2, 1, 1]);
    }
}

//! Checking what comes from another server, many PDUs at a time: their keys are fetched together, and the
//! signatures looked at in turns of the [`CheckPool`](super::check_pool).

use std::collections::BTreeSet;

use colonnade_model::{
    MatrixError,
    ruma::{
        OwnedEventId, ServerName, events::TimelineEventType, room_version_rules::RoomVersionRules,
    },
};
use colonnade_rooms::{Result, Room};
use colonnade_rules::{event::Event, order};
use serde_json::value::RawValue;

use super::{Messaging, check_pool::Work};
use crate::{
    keys::{VerificationKeys, WantedKey},
    pdu::{Pdu, PublicKeys, Refused, RequiredKeys},
};

/// PDUs that are checked in one turn: a whole transaction, some ten milliseconds.
const TOGETHER: usize = 100;

/// A PDU that was looked at: its id, if it has the form of an event, and the event or why it is dropped.
pub(super) struct Looked {
    pub(super) event_id: Option<OwnedEventId>,
    pub(super) result: Result<Event, Refused>,
}

/// The keys that count for events of one time.
struct At<'k> {
    keys: &'k VerificationKeys,
    required: &'k [RequiredKeys],
}

impl PublicKeys for At<'_> {
    fn public_key(&self, server: &ServerName, key_id: &str) -> Option<[u8; 32]> {
        let at_ms = self.required.iter().find(|required| required.server == *server)?;
        let key = self.keys.key(server, key_id, valid_at(at_ms))?;
        key.as_bytes().try_into().ok()
    }
}

/// Returns when a key must have been valid, in milliseconds since 1970; `None` where that does not count.
fn valid_at(required: &RequiredKeys) -> Option<i64> {
    let at = i64::try_from(u64::from(required.origin_server_ts.0)).unwrap_or(i64::MAX);
    required.is_validity_enforced.then_some(at)
}

impl Messaging {
    /// Checks PDUs of one room version, in their order.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn look_at(
        &self,
        rules: &RoomVersionRules,
        pdus: Vec<Box<RawValue>>,
    ) -> Result<Vec<Looked>> {
        let mut looked = Vec::with_capacity(pdus.len());
        let mut pdus = pdus.into_iter();
        loop {
            let some: Vec<Box<RawValue>> = pdus.by_ref().take(TOGETHER).collect();
            if some.is_empty() {
                return Ok(looked);
            }
            looked.extend(self.look_at_some(Work::Events, rules, some).await?);
        }
    }

    /// Checks PDUs of a room's state in one turn, in their order.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn look_at_state(
        &self,
        room: &Room,
        pdus: Vec<Box<RawValue>>,
    ) -> Result<Vec<Looked>> {
        self.look_at_some(Work::State, &room.rules, pdus).await
    }

    async fn look_at_some(
        &self,
        work: Work,
        rules: &RoomVersionRules,
        pdus: Vec<Box<RawValue>>,
    ) -> Result<Vec<Looked>> {
        let rules = rules.clone();
        let checks = &self.checks;
        let reading = checks.run(work, move || {
            let read: Vec<Result<Pdu, Refused>> =
                pdus.iter().map(|pdu| Pdu::read(pdu.get(), &rules)).collect();
            let required = read.iter().flatten().flat_map(Pdu::required_keys);
            let wanted = required.flat_map(|required| {
                required.key_ids.iter().map(|key_id| WantedKey {
                    server: required.server.clone(),
                    key_id: key_id.clone(),
                    valid_at_ms: valid_at(required),
                })
            });
            let wanted: BTreeSet<WantedKey> = wanted.collect();
            (read, wanted.into_iter().collect::<Vec<_>>())
        });
        let (read, wanted) = reading.await?;
        let keys = self.keys.verification_keys(&wanted).await?;
        checks.run(work, move || read.into_iter().map(|pdu| look(pdu, &keys)).collect()).await
    }

    /// Checks a PDU that another server hands over.
    ///
    /// # Errors
    /// `M_BAD_JSON` when it is no event of that version, `M_FORBIDDEN` when it is not signed by those who
    /// must have signed it.
    pub async fn checked_by(&self, rules: &RoomVersionRules, pdu: Box<RawValue>) -> Result<Event> {
        let looked = self.look_at(rules, vec![pdu]).await?.pop();
        match looked.map(|looked| looked.result) {
            Some(Ok(event)) => Ok(event),
            Some(Err(Refused::Malformed(why))) => {
                Err(MatrixError::bad_json(why.to_string()).into())
            }
            Some(Err(refused)) => Err(MatrixError::forbidden(refused.to_string()).into()),
            None => Err(MatrixError::bad_json("no event").into()),
        }
    }

    /// Checks a PDU of a room that another server hands over.
    ///
    /// # Errors
    /// As [`Messaging::checked_by`].
    pub async fn checked(&self, room: &Room, pdu: Box<RawValue>) -> Result<Event> {
        let event = self.checked_by(&room.rules, pdu).await?;
        match event.room_id() == room.room_id {
            true => Ok(event),
            false => Err(MatrixError::invalid_param("an event of another room").into()),
        }
    }

    /// Checks PDUs of a room and returns those that pass, each after those that allow it. Those of another
    /// room, those that do not pass and those that lead in a circle are left out: whatever needs them
    /// finds out.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn usable(&self, room: &Room, pdus: Vec<Box<RawValue>>) -> Result<Vec<Event>> {
        Ok(in_order(room, self.look_at(&room.rules, pdus).await?))
    }
}

impl Looked {
    /// Returns the event, if it passed and is of the room.
    pub(super) fn usable_in(self, room: &Room) -> Option<Event> {
        match self.result {
            Ok(event) if event.room_id() == room.room_id => return Some(event),
            Ok(event) => tracing::debug!(event_id = %event.event_id(), "of another room"),
            Err(error) => tracing::debug!(event_id = ?self.event_id, %error, "a PDU is dropped"),
        }
        None
    }
}

/// Returns what of PDUs that were looked at passed, as [`Messaging::usable`] says.
fn in_order(room: &Room, looked: Vec<Looked>) -> Vec<Event> {
    let mut events: Vec<Event> =
        looked.into_iter().filter_map(|looked| looked.usable_in(room)).collect();
    // From room version 12 on nobody names it, and everything rests on it.
    events.sort_by_key(|event| !event.is_state(&TimelineEventType::RoomCreate, ""));
    let order = order::by_auth_events(&events).order;
    let mut places: Vec<Option<Event>> = events.into_iter().map(Some).collect();
    order.into_iter().filter_map(|place| places[place].take()).collect()
}

fn look(pdu: Result<Pdu, Refused>, keys: &VerificationKeys) -> Looked {
    let pdu = match pdu {
        Ok(pdu) => pdu,
        Err(refused) => return Looked { event_id: None, result: Err(refused) },
    };
    let event_id = Some(pdu.event_id().to_owned());
    let required = pdu.required_keys().to_vec();
    let checked = pdu.check(&At { keys, required: &required });
    Looked { event_id, result: checked.map(|checked| checked.event) }
}

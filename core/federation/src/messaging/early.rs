//! Events of a room that a user of this server is being let into, which arrive before the answer with its state was
//! read. Other servers send each event once: one that was refused meanwhile, that the user is thrown out again, say,
//! would be missed until somebody says something else. So they are put aside, for whichever process takes them, and
//! taken once the room is entered.

use std::collections::BTreeMap;

use colonnade_model::ruma::{OwnedServerName, ServerName};
use colonnade_rooms::{Result, Room};
use colonnade_storage::federation::entering::{self, Attempt, EarlyEvent, PutAside};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use super::{Messaging, receive::Checked};

impl Messaging {
    /// Has events of a room put aside from now on.
    pub(super) async fn begin_entering(&self, room: &Room) -> Result<Attempt> {
        let context = self.rooms.context();
        let mut number = [0; 8];
        context.random.fill(&mut number);
        let attempt = Attempt { room: room.nid, number: i64::from_le_bytes(number) };
        entering::begin(&context.db, attempt, context.now_ms()).await?;
        Ok(attempt)
    }

    /// Takes what was put aside, in a task of its own, now that the room is entered, or nobody enters it any more.
    pub(super) async fn end_entering(
        &self,
        room: &Room,
        attempt: Attempt,
        entered: bool,
    ) -> Result<()> {
        let context = self.rooms.context();
        let now_ms = context.now_ms();
        let early = context
            .db
            .write(move |tx| Box::pin(entering::end(tx, attempt, entered, now_ms)))
            .await?;
        let mut by_origin: BTreeMap<OwnedServerName, Vec<Box<RawValue>>> = BTreeMap::new();
        for EarlyEvent { origin, pdu, .. } in early {
            // Both were read before they were put aside.
            let (Ok(origin), Ok(pdu)) = (origin.try_into(), RawValue::from_string(pdu)) else {
                continue;
            };
            by_origin.entry(origin).or_default().push(pdu);
        }
        if by_origin.is_empty() {
            return Ok(());
        }
        let (messaging, room_id) = (self.clone(), room.room_id.clone());
        tokio::spawn(async move {
            let one = Semaphore::new(1);
            for (origin, pdus) in by_origin {
                let count = pdus.len();
                match messaging.receive_in(&origin, room_id.clone(), pdus, &one).await {
                    Ok(_) => tracing::debug!(%origin, %room_id, count, "early events are taken"),
                    Err(error) => {
                        tracing::warn!(%origin, %room_id, count, %error, "early events are lost");
                    }
                }
            }
        });
        Ok(())
    }

    /// Puts aside what a server sends of a room that nobody of this one is in, if somebody is about to be.
    pub(super) async fn put_aside(
        &self,
        origin: &ServerName,
        room: &Room,
        checked: &[Checked],
    ) -> Result<PutAside> {
        let (context, room) = (self.rooms.context(), room.nid);
        let now_ms = context.now_ms();
        if !entering::is_entering(&context.db, room, now_ms).await? {
            return Ok(PutAside::NotEntering);
        }
        let early = checked.iter().filter_map(|(_, event)| event.as_ref().ok());
        let early = early.map(|event| EarlyEvent {
            origin: origin.to_string(),
            event_id: event.event_id().to_string(),
            pdu: event.json().to_string(),
        });
        let early: Vec<EarlyEvent> = early.collect();
        let put = context
            .db
            .write(move |tx| Box::pin(entering::put_aside(tx, room, early, now_ms)))
            .await?;
        Ok(put)
    }
}

//! Clients: they send with transaction ids and repeat what was not answered, at any process; they
//! follow rooms by syncing, at any process; and they note what they were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use colonnade_model::{
    nid::RoomNid,
    ruma::{OwnedEventId, OwnedRoomId, api::client::filter::FilterDefinition},
};
use colonnade_rooms::Error;
use colonnade_services::Services;
use colonnade_users::accounts::Session;
use colonnade_views::sync::SyncRequest;
use parking_lot::Mutex;
use serde_json::{Value, json, value::to_raw_value};
use tokio::{runtime::Handle, sync::oneshot, time::timeout};

use crate::{dice::Dice, history::History, template::Place};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a sync waits for something to happen, in milliseconds.
const POLL_MS: u64 = 1_000;

/// The ways into the processes that serve, by place.
pub(crate) type Doors = Arc<Mutex<Vec<Option<(Handle, Arc<Services>)>>>>;

/// A message that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) text: String,
    pub(crate) sender: usize,
    pub(crate) room: RoomNid,
    pub(crate) event_id: OwnedEventId,
}

/// What the clients know.
#[derive(Default)]
pub(crate) struct ClientRecord {
    /// What anybody tried to send.
    pub(crate) proposed: BTreeSet<String>,
    /// What was acknowledged, in order.
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// Clients that still have something to send.
    pub(crate) busy: usize,
    /// What each reader saw, by room, in order.
    pub(crate) seen: Vec<BTreeMap<OwnedRoomId, Vec<OwnedEventId>>>,
    /// Nobody begins anything new.
    pub(crate) closing: bool,
}

/// What a client is made of.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) session: Session,
    pub(crate) rooms: Vec<Place>,
    pub(crate) doors: Doors,
    pub(crate) record: Arc<Mutex<ClientRecord>>,
    pub(crate) history: Arc<History>,
    pub(crate) dice: Dice,
}

impl Client {
    /// Asks a process for something; `None` when no answer came.
    async fn ask<T, F>(&self, place: usize, ask: impl FnOnce(Arc<Services>) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (process, services) = self.doors.lock()[place].clone()?;
        let (answer, answered) = oneshot::channel();
        let asked = ask(services);
        process.spawn(async move {
            let _unless_gone = answer.send(asked.await);
        });
        timeout(PATIENCE, answered).await.ok()?.ok()
    }

    fn any_place(&mut self) -> usize {
        let places = self.doors.lock().len();
        self.dice.place(places)
    }

    /// Sends one message after the other until told to close.
    pub(crate) async fn send(mut self) {
        for n in 0.. {
            let think = self.dice.between(5, 200);
            tokio::time::sleep(Duration::from_millis(think.unsigned_abs())).await;
            if self.record.lock().closing {
                break;
            }
            let text = format!("{}-{n}", self.session.user_id.localpart());
            let room = self.rooms[self.dice.place(self.rooms.len())].clone();
            self.record.lock().proposed.insert(text.clone());
            let Some(event_id) = self.send_one(&room, &text).await else { continue };
            let (sender, nid) = (self.number, room.nid);
            self.history.note(format_args!("{text} is acknowledged as {event_id}"));
            let known = Acknowledged { text: text.clone(), sender, room: nid, event_id };
            self.record.lock().acknowledged.push(known.clone());
            if self.dice.chance(100) {
                // A client that repeats what was answered.
                let again = self.send_one(&room, &text).await;
                if again.as_ref().is_some_and(|again| *again != known.event_id) {
                    let what = format!("{text} is {} and then {again:?}", known.event_id);
                    self.history.violated(what);
                }
            }
        }
        self.record.lock().busy -= 1;
    }

    /// Sends until there is an answer; `None` when the message was refused.
    async fn send_one(&mut self, room: &Place, text: &str) -> Option<OwnedEventId> {
        loop {
            let place = self.any_place();
            let (session, id, txn) = (self.session.clone(), room.id.clone(), text.to_owned());
            let body = to_raw_value(&json!({ "msgtype": "m.text", "body": text }));
            let body = body.expect("a message is JSON");
            let answer = self.ask(place, |services| async move {
                services.rooms.send(&session, &id, "m.room.message", &body, Some(&txn)).await
            });
            match answer.await {
                Some(Ok(sent)) => return Some(sent.event_id),
                Some(Err(Error::Client(error))) if error.status < 500 => {
                    let what = format!("{text} is refused: {} {}", error.errcode, error.message);
                    self.history.violated(what);
                    return None;
                }
                Some(Err(Error::Client(_))) | None => {}
                Some(Err(error)) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    self.history
                        .violated(format!("{text}: {error}: {}", cause.unwrap_or_default()));
                }
            }
            let pause = self.dice.between(20, 600);
            tokio::time::sleep(Duration::from_millis(pause.unsigned_abs())).await;
        }
    }

    /// Syncs again and again, mostly at the same process.
    pub(crate) async fn read(mut self) {
        let filter = json!({ "room": { "timeline": { "limit": 1_000 } } });
        let filter: Arc<FilterDefinition> =
            Arc::new(serde_json::from_value(filter).expect("a filter"));
        let mut since: Option<String> = None;
        let mut place = self.any_place();
        loop {
            let request = SyncRequest {
                since: since.clone(),
                timeout_ms: POLL_MS,
                filter: Arc::clone(&filter),
                ..SyncRequest::default()
            };
            let session = self.session.clone();
            let answer = self.ask(place, |services| async move {
                let json = services.sync.sync(&session, request).await?.into_json().await?;
                Ok::<Value, Error>(serde_json::from_str(&json).expect("an answer is JSON"))
            });
            match answer.await {
                Some(Ok(answer)) => {
                    self.see(&answer);
                    since = answer["next_batch"].as_str().map(str::to_owned);
                }
                Some(Err(Error::Client(error))) if error.status >= 500 => place = self.rest().await,
                None => place = self.rest().await,
                Some(Err(error)) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    self.history
                        .violated(format!("a sync: {error}: {}", cause.unwrap_or_default()));
                    place = self.rest().await;
                }
            }
            if self.dice.chance(150) {
                place = self.any_place();
            }
        }
    }

    async fn rest(&mut self) -> usize {
        let pause = self.dice.between(50, 500);
        tokio::time::sleep(Duration::from_millis(pause.unsigned_abs())).await;
        self.any_place()
    }

    /// Notes what a sync told.
    fn see(&self, answer: &Value) {
        let joined = answer["rooms"]["join"].as_object();
        for (room, shown) in joined.into_iter().flatten() {
            if shown["timeline"]["limited"] == true {
                self.history.violated(format_args!("a sync is limited in {room}"));
            }
            let events = shown["timeline"]["events"].as_array();
            let ids = events.into_iter().flatten().filter_map(|event| event["event_id"].as_str());
            let ids: Vec<OwnedEventId> = ids.filter_map(|id| id.try_into().ok()).collect();
            if !ids.is_empty() {
                self.history.note(format_args!("reader {} sees {ids:?} in {room}", self.number));
            }
            let room: OwnedRoomId = room.as_str().try_into().expect("a room id");
            self.record.lock().seen[self.number].entry(room).or_default().extend(ids);
        }
    }
}

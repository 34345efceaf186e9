//! Rooms without HTTP: forks, verdicts, and what is left after a restart.

use std::sync::Arc;

use colonnade_model::session::{Restriction, Session};
use colonnade_model::{
    Clock, ManualClock, MatrixError, SystemRandom,
    nid::{DeviceNid, EventNid},
    ruma::{
        CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomVersionId,
        ServerName, UInt, UserId, events::room::member::MembershipState,
        signatures::Ed25519KeyPair,
    },
    token::TokenKey,
};
use colonnade_replication::{Slots, Streams};
use colonnade_rules::{
    auth::state_keys_to_check,
    event::{Draft, Event, depth_after},
};
use colonnade_storage::{
    Database, Location,
    rooms::{events::EventFlags, interned::Interned, members::Membership, summaries},
};
use serde_json::{Value, json, value::to_raw_value};

use super::{
    founding::{RoomPlan, rules_of},
    proposal::{content, member, state_event},
    *,
};
use crate::Context;
use crate::{Settings, rpc};

mod elsewhere;
mod forks;
mod lasting;

/// An event of a room of version 11 that nobody checked: for what only reads it.
pub(crate) fn event(kind: &str, state_key: Option<&str>, value: Value) -> Event {
    let mut json = json!({
        "type": kind, "sender": "@alice:localhost", "room_id": "!room:localhost", "content": value,
        "depth": 1, "origin_server_ts": 1, "prev_events": [], "auth_events": [],
        "hashes": { "sha256": "" }, "signatures": {},
    });
    if let Some(state_key) = state_key {
        json["state_key"] = state_key.into();
    }
    let rules = RoomVersionId::V11.rules().unwrap();
    Event::parse(&content(json).unwrap().into(), &rules).unwrap()
}

/// The content of a join.
fn joined() -> CanonicalJsonObject {
    content(json!({ "membership": "join" })).unwrap()
}

/// A server's rooms over a folder.
struct World {
    rooms: Rooms,
    context: Arc<Context>,
    clock: Arc<ManualClock>,
    key: Vec<u8>,
    folder: Arc<tempfile::TempDir>,
}

impl World {
    async fn new() -> Self {
        Self::named("localhost").await
    }

    /// A server of that name.
    async fn named(name: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let key = Ed25519KeyPair::generate().to_vec();
        Self::over(name, folder, key, Arc::new(ManualClock::new(1_000_000))).await
    }

    async fn over(
        name: &str,
        folder: Arc<tempfile::TempDir>,
        key: Vec<u8>,
        clock: Arc<ManualClock>,
    ) -> Self {
        let location = Location::Sqlite(folder.path().join("colonnade.db"));
        let streams = Arc::new(Streams::new());
        let db = Database::open(&location, Arc::clone(&streams) as _).await.unwrap();
        streams.start(&db, None, clock.now_ms()).await.unwrap();
        let context = Arc::new(Context {
            server_name: ServerName::parse(name).unwrap(),
            settings: Settings::default(),
            interned: Interned::new(db.clone()),
            nids: Default::default(),
            streams,
            slots: Arc::new(Slots::new(false)),
            carrier: Arc::new(rpc::NoPeers),
            clock: Arc::clone(&clock) as _,
            random: Arc::new(SystemRandom),
            signing_key: crate::SigningKey::new(
                Ed25519KeyPair::from_der(&key, "1".to_owned()).unwrap(),
            ),
            token_key: TokenKey::new([1; 32]),
            digest_key: [2; 32],
            data_dir: folder.path().to_owned(),
            db,
        });
        Self {
            rooms: Rooms::start(&context, Arc::new(crate::remote::policy_servers::NoPolicyServers)),
            context,
            clock,
            key,
            folder,
        }
    }

    /// Closes the database and opens it again, with nothing in memory.
    async fn restart(self) -> Self {
        self.context.db.close().await;
        let Self { folder, key, clock, context, .. } = self;
        Self::over(context.server_name.as_str(), folder, key, clock).await
    }

    async fn user(&self, name: &str) -> Session {
        let user_id = UserId::parse(format!("@{name}:{}", self.context.server_name)).unwrap();
        let user = self.context.interned.user(&user_id).await.unwrap();
        let device = DeviceNid(user.0);
        Session {
            user_id,
            user,
            device_id: "D".into(),
            device,
            is_guest: false,
            restriction: Restriction::None,
            address: None,
        }
    }

    async fn room(&self, creator: &Session, version: RoomVersionId, levels: Value) -> Arc<Room> {
        let rules = rules_of(&version).unwrap();
        let me = &creator.user_id;
        // A public room as clients ask for it, with these parts of the power levels.
        let users = match rules.authorization.explicitly_privilege_room_creators {
            true => json!({}),
            false => json!({ me.as_str(): 100 }),
        };
        let mut power = json!({ "users": users, "invite": 50 });
        for (key, value) in levels.as_object().unwrap() {
            power[key] = value.clone();
        }
        let state = [
            ("m.room.power_levels", power),
            ("m.room.join_rules", json!({ "join_rule": "public" })),
            ("m.room.history_visibility", json!({ "history_visibility": "shared" })),
            ("m.room.guest_access", json!({ "guest_access": "forbidden" })),
            ("m.room.topic", json!({ "topic": "first" })),
        ];
        let event = |(kind, value)| state_event(me, kind, String::new(), content(value).unwrap());
        let plan = RoomPlan {
            creator: me.clone(),
            version,
            rules,
            create: CanonicalJsonObject::new(),
            proposals: state.map(event).into(),
            alias: None,
            published: false,
            replaces: None,
        };
        self.rooms.found(creator.user, &plan, &joined()).await.unwrap()
    }

    async fn join(&self, session: &Session, room: &Room) {
        let room = self.rooms.find(&room.room_id).await.unwrap().unwrap();
        let join = member(&session.user_id, &session.user_id, joined());
        self.rooms.propose(&room, join).await.unwrap();
    }

    /// Makes an event that follows another, as its sender's server would, allowed or not.
    async fn make(
        &self,
        room: &Room,
        after: &EventId,
        sender: &Session,
        kind: &str,
        state_key: Option<&str>,
        value: Value,
    ) -> Event {
        self.clock.advance(1);
        let previous = self.rooms.event_by_id(after).await.unwrap().unwrap();
        let state = previous.state_after.unwrap();
        let raw = to_raw_value(&value).unwrap();
        let rules = &room.rules.authorization;
        let sender = sender.user_id.clone();
        let keys = state_keys_to_check(&kind.into(), &sender, state_key, &raw, rules).unwrap();
        let mut auth_events = Vec::new();
        for (kind, key) in keys {
            let found = self.rooms.state_event_at(state, &kind.to_string(), &key).await.unwrap();
            auth_events.extend(found.map(|found| found.event.reference(&room.rules).unwrap()));
        }
        let now = UInt::try_from(self.context.now_ms()).unwrap();
        let draft = Draft {
            room_id: Some(room.room_id.clone()),
            sender,
            event_type: kind.into(),
            state_key: state_key.map(str::to_owned),
            content: super::proposal::content(value).unwrap(),
            prev_events: vec![previous.event.reference(&room.rules).unwrap()],
            auth_events,
            depth: depth_after([previous.event.depth()]),
            origin_server_ts: MilliSecondsSinceUnixEpoch(now),
            redacts: None,
            opaque_id: Draft::opaque_id(&room.rules, &*self.context.random),
        };
        let context = &self.context;
        draft.sign(&context.server_name, &*context.signing_key.current(), &room.rules).unwrap()
    }

    async fn latest(&self, room: &Room) -> OwnedEventId {
        let head = self.rooms.head(room.nid).await.unwrap();
        let last = self.rooms.event(*head.extremities.last().unwrap()).await.unwrap().unwrap();
        last.event.event_id().to_owned()
    }

    async fn topic(&self, room: &Room) -> Option<String> {
        let event = self.rooms.state_event(room.nid, "m.room.topic", "").await.unwrap()?;
        event.event.content_as::<Value>().unwrap()["topic"].as_str().map(str::to_owned)
    }

    async fn flags(&self, nid: EventNid) -> (EventFlags, bool) {
        let event = self.rooms.event(nid).await.unwrap().unwrap();
        (event.flags, event.pos.is_some() && event.timeline_key.is_some())
    }
}

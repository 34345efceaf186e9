//! A server's services over a throw-away database, for benchmarks.
#![allow(dead_code, unreachable_pub, reason = "each benchmark uses its part")]

pub mod cpu;

use std::sync::Arc;

use colonnade_model::Clock as _;
use colonnade_model::session::Restriction;
use colonnade_model::{
    SystemClock, SystemRandom,
    nid::DeviceNid,
    ruma::{OwnedRoomId, ServerName, UserId, signatures::Ed25519KeyPair},
    token::TokenKey,
};
use colonnade_replication::{Slots, Streams};
use colonnade_rooms::{Context, Settings, rpc};
use colonnade_services::{
    Services,
    lifecycle::{NewRoomRequest, Preset},
};
use colonnade_storage::{Database, Location, rooms::interned::Interned};
use colonnade_users::accounts::Session;
use serde_json::{json, value::to_raw_value};

/// The services, and the folder they write to.
pub struct World {
    pub services: Arc<Services>,
    context: Arc<Context>,
    _folder: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let location = Location::Sqlite(folder.path().join("colonnade.db"));
        let streams = Arc::new(Streams::new());
        let opened = Database::open(&location, Arc::clone(&streams) as _).await;
        let db = opened.expect("an empty database");
        streams.start(&db, None, SystemClock.now_ms()).await.expect("positions");
        let key = Ed25519KeyPair::generate();
        let context = Arc::new(Context {
            server_name: ServerName::parse("localhost").expect("a name"),
            settings: Settings::default(),
            interned: Interned::new(db.clone()),
            nids: Default::default(),
            streams,
            slots: Arc::new(Slots::new(false)),
            carrier: Arc::new(rpc::NoPeers),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            signing_key: colonnade_rooms::SigningKey::new(
                Ed25519KeyPair::from_der(&key, "1".to_owned()).expect("a key"),
            ),
            token_key: TokenKey::new([1; 32]),
            digest_key: [2; 32],
            data_dir: folder.path().to_owned(),
            db,
        });
        let services = Services::start(Arc::clone(&context)).await.expect("services");
        Self { services, context, _folder: folder }
    }

    pub async fn user(&self, name: &str) -> Session {
        let user_id = UserId::parse(format!("@{name}:localhost")).expect("a user id");
        let user = self.context.interned.user(&user_id).await.expect("a database");
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

    /// Makes a public room of `creator` and as many members more as `members` says.
    pub async fn room(&self, creator: &Session, members: usize) -> OwnedRoomId {
        let new_room = NewRoomRequest { preset: Some(Preset::Public), ..NewRoomRequest::default() };
        let services = &self.services;
        let room = services.lifecycle.create(creator, new_room).await.expect("a room");
        for n in 0..members {
            let member = self.user(&format!("member{n}")).await;
            services
                .membership
                .join(&member, (&*room).into(), &[], Default::default())
                .await
                .expect("a member");
        }
        room
    }

    /// Sends the message `n`.
    pub async fn send(&self, sender: &Session, room: &OwnedRoomId, n: u64) {
        let body = json!({ "msgtype": "m.text", "body": format!("message number {n}") });
        let body = to_raw_value(&body).expect("JSON");
        let txn = n.to_string();
        let sent =
            self.services.rooms.send(sender, room, "m.room.message", &body, Some(&txn)).await;
        sent.expect("an event");
    }
}

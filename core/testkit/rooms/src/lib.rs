//! Rooms in one process over a throw-away database, for the unit tests of the crates above `rooms`. What
//! goes wrong panics.

mod events;

use std::sync::Arc;

use colonnade_model::{
    Clock as _, ManualClock, SystemRandom,
    nid::DeviceNid,
    ruma::{CanonicalJsonObject, RoomVersionId, ServerName, UserId, signatures::Ed25519KeyPair},
    session::{Restriction, Session},
    stream::Stream,
    token::TokenKey,
};
use colonnade_replication::{Slots, Streams};
use colonnade_rooms::{
    Context, Room, Rooms, Settings, SigningKey,
    founding::{RoomPlan, rules_of},
    proposal::{content, member, state_event},
    rpc::NoPeers,
};
use colonnade_storage::{Database, Location, rooms::interned::Interned};
use serde_json::{Value, json};

pub use events::{event, room_event};

/// When every world begins, in milliseconds since 1970.
const BEGIN_MS: i64 = 1_000_000;

/// A server's rooms, and the clock they read.
pub struct World {
    /// What services stand on.
    pub context: Arc<Context>,
    /// The rooms.
    pub rooms: Rooms,
    /// Stands still until it is moved.
    pub clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl World {
    /// Makes a server without users and rooms.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    /// Makes a server without users and rooms, with settings of the test's own.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(BEGIN_MS));
        let location = Location::Sqlite(folder.path().join("colonnade.db"));
        let streams = Arc::new(Streams::new());
        let db = Database::open(&location, Arc::clone(&streams) as _).await.expect("a database");
        streams.start(&db, None, clock.now_ms()).await.expect("positions");
        let key = Ed25519KeyPair::generate();
        let context = Arc::new(Context {
            server_name: ServerName::parse("localhost").expect("a server name"),
            settings,
            interned: Interned::new(db.clone()),
            nids: Default::default(),
            streams,
            slots: Arc::new(Slots::new(false)),
            carrier: Arc::new(NoPeers),
            clock: Arc::clone(&clock) as _,
            random: Arc::new(SystemRandom),
            signing_key: SigningKey::new(
                Ed25519KeyPair::from_der(&key, "1".to_owned()).expect("a key of ours"),
            ),
            token_key: TokenKey::new([1; 32]),
            digest_key: [2; 32],
            data_dir: folder.path().to_owned(),
            db,
        });
        Self {
            rooms: Rooms::start(
                &context,
                Arc::new(colonnade_rooms::remote::policy_servers::NoPolicyServers),
            ),
            context,
            clock,
            _folder: folder,
        }
    }

    /// Makes a user with one device.
    ///
    /// # Panics
    /// When the name cannot be one.
    pub async fn user(&self, name: &str) -> Session {
        let user_id = UserId::parse(format!("@{name}:localhost")).expect("a user id");
        let user = self.context.interned.user(&user_id).await.expect("a local id");
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

    /// Makes a room that everybody may join.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn room(&self, creator: &Session) -> Arc<Room> {
        let version = RoomVersionId::V12;
        let me = &creator.user_id;
        let state = [
            ("m.room.power_levels", json!({ "users": {} })),
            ("m.room.join_rules", json!({ "join_rule": "public" })),
        ];
        let event = |(kind, value): (&str, Value)| {
            state_event(me, kind, String::new(), content(value).expect("an object"))
        };
        let plan = RoomPlan {
            creator: me.clone(),
            rules: rules_of(&version).expect("a known version"),
            version,
            create: CanonicalJsonObject::new(),
            proposals: state.map(event).into(),
            alias: None,
            published: false,
            replaces: None,
        };
        let join = content(json!({ "membership": "join" })).expect("an object");
        self.rooms.found(creator.user, &plan, &join).await.expect("a room")
    }

    /// Lets a user join a room.
    ///
    /// # Panics
    /// When the user may not.
    pub async fn join(&self, session: &Session, room: &Arc<Room>) {
        self.become_member(session, room, "join").await;
    }

    /// Lets a user leave a room.
    ///
    /// # Panics
    /// When the user may not.
    pub async fn leave(&self, session: &Session, room: &Arc<Room>) {
        self.become_member(session, room, "leave").await;
    }

    async fn become_member(&self, session: &Session, room: &Arc<Room>, membership: &str) {
        let content = content(json!({ "membership": membership })).expect("an object");
        let event = member(&session.user_id, &session.user_id, content);
        self.rooms.propose(room, event).await.expect("the room lets the user");
    }

    /// Waits until a [`Follower`](colonnade_replication::Follower) has told of every event there is.
    pub async fn followed(&self) {
        let streams = &self.context.streams;
        streams.noted(Stream::Events, streams.position(Stream::Events)).await;
    }
}

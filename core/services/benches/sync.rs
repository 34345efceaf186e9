//! Incremental syncs of a user in 500 rooms: nothing new, and one new event. Criterion measures the
//! whole call, from a parsed request to an answer ready to be rendered as JSON.

use std::{sync::Arc, time::Instant};

use colonnade_model::{
    Clock as _, SystemClock, SystemRandom,
    nid::DeviceNid,
    ruma::{OwnedRoomId, ServerName, UserId, presence::PresenceState, signatures::Ed25519KeyPair},
    token::TokenKey,
};
use colonnade_replication::{InProcess, Streams};
use colonnade_services::{
    Context, Services, Settings,
    accounts::Session,
    rooms::{NewRoomWish, Preset},
    sync::SyncRequest,
};
use colonnade_storage::{Database, Location, interned::Interned};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{json, value::to_raw_value};

const ROOMS: usize = 500;

/// A server with one user in [`ROOMS`] rooms.
struct World {
    services: Arc<Services>,
    alice: Session,
    rooms: Vec<OwnedRoomId>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let location = Location::Sqlite(folder.path().join("colonnade.db"));
        let streams = Arc::new(Streams::new(Arc::new(InProcess::default())));
        let db = Database::open(&location, Arc::clone(&streams) as _).await.expect("a database");
        streams.catch_up(&db, SystemClock.now_ms()).await.expect("positions");
        let key = Ed25519KeyPair::generate().to_vec();
        let key = Ed25519KeyPair::from_der(&key, "1".to_owned()).expect("a key");
        let context = Arc::new(Context {
            server_name: ServerName::parse("localhost").expect("a name"),
            settings: Settings::default(),
            interned: Interned::new(db.clone()),
            nids: Default::default(),
            streams,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            signing_key: Arc::new(key),
            token_key: TokenKey::new([1; 32]),
            digest_key: [2; 32],
            data_dir: folder.path().to_owned(),
            db,
        });
        let user_id = UserId::parse("@alice:localhost").expect("a user id");
        let user = context.interned.user(&user_id).await.expect("a user");
        let alice = Session { user_id, user, device_id: "D".into(), device: DeviceNid(1) };
        let services = Services::start(context).await.expect("services");
        let mut rooms = Vec::new();
        for _ in 0..ROOMS {
            let wish = NewRoomWish { preset: Some(Preset::Public), ..NewRoomWish::default() };
            rooms.push(services.rooms.create(&alice, wish).await.expect("a room"));
        }
        Self { services, alice, rooms, _folder: folder }
    }

    /// Syncs, renders the answer and returns the next token.
    async fn sync(&self, since: Option<String>) -> String {
        let request =
            SyncRequest { since, set_presence: PresenceState::Online, ..Default::default() };
        let answer = self.services.sync.sync(&self.alice, request).await.expect("an answer");
        std::hint::black_box(serde_json::to_vec(&answer).expect("JSON"));
        answer.next_batch
    }

    async fn say(&self, n: u64) {
        let body = to_raw_value(&json!({ "msgtype": "m.text", "body": "hello" })).expect("JSON");
        let room = &self.rooms[n as usize % ROOMS];
        let txn = n.to_string();
        let rooms = &self.services.rooms;
        rooms.send(&self.alice, room, "m.room.message", &body, &txn).await.expect("an event");
    }
}

fn syncs(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let world = runtime.block_on(World::new());
    let mut group = criterion.benchmark_group("sync of a user in 500 rooms");
    let since = runtime.block_on(world.sync(None));
    group.bench_function("nothing new", |bencher| {
        bencher.iter(|| runtime.block_on(world.sync(Some(since.clone()))));
    });
    let mut n = 0;
    group.bench_function("one new event", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            runtime.block_on(async {
                let mut since = world.sync(None).await;
                for _ in 0..rounds {
                    n += 1;
                    world.say(n).await;
                    let began = Instant::now();
                    since = world.sync(Some(since)).await;
                    spent += began.elapsed();
                }
            });
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, syncs);
criterion_main!(benches);

//! What sending costs, in CPU time of the whole process (signing, authorization, push rules, SQL and
//! commit), since waiting for the disk says nothing about the code: `cargo bench -p
//! colonnade-services --bench rooms`. The limit for one send is 2 ms.

use std::{sync::Arc, time::Duration};

use colonnade_model::{
    SystemClock, SystemRandom,
    nid::DeviceNid,
    ruma::{OwnedRoomId, ServerName, UserId, signatures::Ed25519KeyPair},
    token::TokenKey,
};
use colonnade_replication::{InProcess, Streams};
use colonnade_services::{
    Context, Settings,
    accounts::Session,
    rooms::{NewRoomWish, Preset, Rooms},
};
use colonnade_storage::{Database, Location, interned::Interned};
use criterion::{
    Criterion, Throughput, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter},
};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{json, value::to_raw_value};

/// Members of the room in which state is changed.
const MEMBERS: usize = 200;
/// Sends at once.
const TOGETHER: u64 = 64;

/// CPU time of the process.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask about itself");
        let micros = |time: nix::sys::time::TimeVal| {
            time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_usec().unsigned_abs()
        };
        Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, one: &Duration, two: &Duration) -> Duration {
        *one + *two
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &Micros
    }
}

/// Shows nanoseconds as microseconds.
struct Micros;

impl ValueFormatter for Micros {
    fn scale_values(&self, _: f64, values: &mut [f64]) -> &'static str {
        values.iter_mut().for_each(|value| *value /= 1_000.0);
        "µs of CPU"
    }

    fn scale_throughputs(&self, _: f64, amount: &Throughput, values: &mut [f64]) -> &'static str {
        if let Throughput::Elements(count) = amount {
            values.iter_mut().for_each(|value| *value = *count as f64 * 1e9 / *value);
        }
        "sends per second of CPU"
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        let _ = values;
        "ns"
    }
}

/// Rooms over a throw-away database.
struct World {
    rooms: Rooms,
    context: Arc<Context>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let location = Location::Sqlite(folder.path().join("colonnade.db"));
        let streams = Arc::new(Streams::new(Arc::new(InProcess::default())));
        let opened = Database::open(&location, Arc::clone(&streams) as _).await;
        let db = opened.expect("an empty database");
        let key = Ed25519KeyPair::generate();
        let context = Arc::new(Context {
            server_name: ServerName::parse("localhost").expect("a name"),
            settings: Settings::default(),
            interned: Interned::new(db.clone()),
            nids: Default::default(),
            streams,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            signing_key: Arc::new(Ed25519KeyPair::from_der(&key, "1".to_owned()).expect("a key")),
            token_key: TokenKey::new([1; 32]),
            digest_key: [2; 32],
            data_dir: folder.path().to_owned(),
            db,
        });
        Self { rooms: Rooms::start(&context), context, _folder: folder }
    }

    async fn user(&self, name: &str) -> Session {
        let user_id = UserId::parse(format!("@{name}:localhost")).expect("a user id");
        let user = self.context.interned.user(&user_id).await.expect("a database");
        Session { user_id, user, device_id: "D".into(), device: DeviceNid(user.0) }
    }

    async fn room(&self, alice: &Session, members: usize) -> OwnedRoomId {
        let wish = NewRoomWish { preset: Some(Preset::Public), ..NewRoomWish::default() };
        let room = self.rooms.create(alice, wish).await.expect("a room");
        for n in 0..members {
            let member = self.user(&format!("member{n}")).await;
            self.rooms.join(&member, (&*room).into(), Default::default()).await.expect("a member");
        }
        room
    }

    async fn send(&self, alice: &Session, room: &OwnedRoomId, n: u64) {
        let body = json!({ "msgtype": "m.text", "body": format!("message number {n}") });
        let body = to_raw_value(&body).expect("JSON");
        let txn = n.to_string();
        let sent = self.rooms.send(alice, room, "m.room.message", &body, &txn).await;
        sent.expect("an event");
    }
}

fn rooms(criterion: &mut Criterion<CpuTime>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let world = runtime.block_on(World::new());
    let alice = runtime.block_on(world.user("alice"));
    let room = runtime.block_on(world.room(&alice, 1));
    let mut n = 0;
    criterion.bench_function("send one", |bencher| {
        bencher.iter(|| {
            n += 1;
            runtime.block_on(world.send(&alice, &room, n));
        });
    });
    let mut group = criterion.benchmark_group("send together");
    group.throughput(Throughput::Elements(TOGETHER));
    group.bench_function("64", |bencher| {
        bencher.iter(|| {
            n += TOGETHER;
            let all = (0..TOGETHER).map(|k| world.send(&alice, &room, n - k));
            runtime.block_on(futures_util::future::join_all(all));
        });
    });
    group.finish();
    let large = runtime.block_on(world.room(&alice, MEMBERS));
    criterion.bench_function("change state", |bencher| {
        bencher.iter(|| {
            n += 1;
            let topic = to_raw_value(&json!({ "topic": n.to_string() })).expect("JSON");
            let set = world.rooms.set_state(&alice, &large, "m.room.topic", "", &topic);
            runtime.block_on(set).expect("an event");
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).sample_size(20);
    targets = rooms
}
criterion_main!(benches);

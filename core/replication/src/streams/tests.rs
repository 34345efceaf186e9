//! Streams over a bus that loses, repeats and swaps.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64},
    time::Duration,
};

use colonnade_model::nid::UserNid;
use colonnade_storage::{
    Location,
    users::account_data::{self, AccountData},
};

use super::*;
use crate::InProcess;

/// How long something that must happen may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn advance(prev: Position, upto: Position) -> StreamAdvance {
    let touched = vec![(Touch::User(UserNid(upto)), upto)];
    StreamAdvance { stream: Stream::AccountData, prev, upto, touched }
}

async fn put(db: &Database, user: i64) -> Position {
    let body = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
    let data = AccountData { room: None, event_type: format!("org.example.{user}"), body };
    db.write(move |tx| {
        Box::pin(async move {
            account_data::put(tx, UserNid(user), data, &colonnade_storage::quota::Quota::NONE).await
        })
    })
    .await
    .unwrap()
}

/// A writer with its database, and somebody in another process who only hears of it by `bus`.
async fn pair(folder: &tempfile::TempDir, bus: Arc<dyn Bus>) -> (Database, Arc<Streams>) {
    let writer = Arc::new(Streams::new());
    let location = Location::Sqlite(folder.path().join("colonnade.db"));
    let db = Database::open(&location, Arc::clone(&writer) as _).await.unwrap();
    writer.start(&db, Some(Arc::clone(&bus)), 1).await.unwrap();
    let reader = Arc::new(Streams::new());
    reader.start(&db, Some(bus), 1).await.unwrap();
    (db, reader)
}

/// Loses, repeats and swaps what it carries, by a seed.
struct Unreliable {
    carries: InProcess,
    state: AtomicU64,
    kept: Mutex<Option<Arc<StreamAdvance>>>,
    healthy: AtomicBool,
}

impl Unreliable {
    fn new(seed: u64) -> Self {
        let state = AtomicU64::new(seed);
        Self { carries: InProcess::default(), state, kept: Mutex::default(), healthy: true.into() }
    }
}

impl Bus for Unreliable {
    fn publish(&self, advance: Arc<StreamAdvance>) {
        let state = self.state.load(Ordering::Relaxed).wrapping_mul(6_364_136_223_846_793_005);
        let state = state.wrapping_add(1_442_695_040_888_963_407);
        self.state.store(state, Ordering::Relaxed);
        match state >> 61 {
            0 | 1 => {}
            2 => {
                self.carries.publish(Arc::clone(&advance));
                self.carries.publish(advance);
            }
            3 => *self.kept.lock() = Some(advance),
            _ => {
                self.carries.publish(advance);
                if let Some(late) = self.kept.lock().take() {
                    self.carries.publish(late);
                }
            }
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<StreamAdvance>> {
        self.carries.subscribe()
    }

    fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_bus_that_loses_repeats_and_swaps_loses_nobody() {
    for seed in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let bus = Arc::new(Unreliable::new(seed));
        let (db, reader) = pair(&folder, Arc::clone(&bus) as _).await;
        let mut advances = reader.subscribe();
        let mut written = HashMap::new();
        for user in 1..=100 {
            written.insert(UserNid(user), put(&db, user).await);
        }
        // The last message may be lost: then only asking the database finds what it was about.
        bus.healthy.store(false, Ordering::Relaxed);
        let mut reached = 0;
        let mut seen = HashMap::new();
        while reached < 100 {
            let next = tokio::time::timeout(LONG, advances.recv()).await;
            let advance =
                next.unwrap_or_else(|_| panic!("seed {seed}: stuck at {reached}")).unwrap();
            assert!(advance.prev <= reached, "seed {seed}: a gap was told");
            assert!(advance.upto > reached, "seed {seed}: told twice");
            reached = advance.upto;
            for (touch, position) in &advance.touched {
                let Touch::User(user) = touch else { panic!("seed {seed}: {touch:?}") };
                seen.insert(*user, *position);
            }
        }
        assert_eq!(seen, written, "seed {seed}");
        assert_eq!(reader.position(Stream::AccountData), 100);
        reader.stop();
    }
}

#[tokio::test]
async fn a_commit_above_a_gap_waits_for_what_is_below() {
    let streams = Streams::new();
    let mut advances = streams.subscribe();
    streams.committed(advance(1, 2));
    streams.committed(advance(3, 4));
    assert_eq!(streams.position(Stream::AccountData), 0);
    assert_eq!(streams.known().get(Stream::AccountData), 4, "a client waits for its own write");
    assert!(advances.try_recv().is_err());
    streams.take(Arc::new(advance(0, 1)));
    assert_eq!(streams.position(Stream::AccountData), 2);
    streams.take(Arc::new(advance(2, 3)));
    assert_eq!(streams.position(Stream::AccountData), 4);
    streams.take(Arc::new(advance(0, 3)));
    let mut order = Vec::new();
    while let Ok(advance) = advances.try_recv() {
        order.push(advance.upto);
    }
    assert_eq!(order, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_gap_of_a_lone_process_is_closed_from_the_database() {
    // Somebody else wrote to the database: a command line beside the running server.
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = Arc::new(Streams::new());
    let location = Location::Sqlite(folder.path().join("colonnade.db"));
    let db = Database::open(&location, Arc::clone(&elsewhere) as _).await.unwrap();
    let streams = Arc::new(Streams::new());
    streams.start(&db, None, 1).await.unwrap();
    let mut advances = streams.subscribe();
    put(&db, 1).await;
    put(&db, 2).await;
    streams.committed(advance(1, 2));
    let first = tokio::time::timeout(LONG, advances.recv()).await.expect("it is told").unwrap();
    assert_eq!((first.prev, first.upto), (0, 2));
    assert_eq!(first.touched, [(Touch::User(UserNid(1)), 1), (Touch::User(UserNid(2)), 2)]);
    streams.stop();
}

#[tokio::test]
async fn looking_finds_what_no_message_announced() {
    let folder = tempfile::tempdir().unwrap();
    let (db, reader) = pair(&folder, Arc::new(Unreliable::new(0))).await;
    put(&db, 1).await;
    reader.look(&db).await.unwrap();
    assert_eq!(reader.known().get(Stream::AccountData), 1);
    let reached = async {
        while reader.position(Stream::AccountData) < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, reached).await.expect("it is reached");
    reader.stop();
}

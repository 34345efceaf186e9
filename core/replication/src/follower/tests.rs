//! Who is told of what, and in which order.

use std::time::Duration;

use colonnade_model::{
    nid::UserNid,
    stream::{Position, Stream, Touch},
};
use colonnade_storage::{CommitListener as _, Database, Location};
use parking_lot::Mutex;

use super::*;
use crate::{Bus, InProcess, bus::BACKLOG_MAX};

/// How long something that must happen may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// What everybody was told, in order.
type Notes = Arc<Mutex<Vec<(&'static str, Option<Position>)>>>;

/// Writes down what it is told, and how far [`Streams::note`] was at that moment.
struct Scribe {
    name: &'static str,
    notes: Notes,
}

impl Subscriber for Scribe {
    fn advanced(&self, advance: &StreamAdvance) {
        self.notes.lock().push((self.name, Some(advance.upto)));
    }

    fn missed(&self, _: Positions) {
        self.notes.lock().push((self.name, None));
    }
}

fn advance(prev: Position, upto: Position) -> StreamAdvance {
    let touched = vec![(Touch::User(UserNid(upto)), upto)];
    StreamAdvance { stream: Stream::AccountData, prev, upto, touched }
}

/// The streams of a process, with others beside it or alone.
async fn streams(is_shared: bool) -> (Arc<Streams>, Database, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let streams = Arc::new(Streams::new());
    let location = Location::Sqlite(folder.path().join("colonnade.db"));
    let db = Database::open(&location, Arc::clone(&streams) as _).await.unwrap();
    let bus = is_shared.then(|| Arc::new(InProcess::default()) as Arc<dyn Bus>);
    streams.start(&db, bus, 1).await.unwrap();
    (streams, db, folder)
}

fn scribes(notes: &Notes) -> (Arc<Scribe>, Arc<Scribe>, Arc<Scribe>) {
    let scribe = |name| Arc::new(Scribe { name, notes: Arc::clone(notes) });
    (scribe("cache"), scribe("memory"), scribe("waker"))
}

/// Waits until everybody has noted a position: what [`Streams::noted`] does, but as long as it takes.
async fn noted(streams: &Streams, upto: Position) {
    let noted = async {
        while streams.noted_positions().get(Stream::AccountData) < upto {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, noted).await.expect("it is noted");
}

#[tokio::test]
async fn caches_hear_of_a_change_before_anybody_who_wakes_others() {
    let (streams, _db, _folder) = streams(true).await;
    let notes = Notes::default();
    let (cache, memory, waker) = scribes(&notes);
    // Whatever the order in which they are named.
    let follower = Follower::new(&streams).subscribe(&memory).subscribe(&waker).cache(&cache);
    follower.start();
    streams.committed(advance(0, 1));
    // Above a gap: told when the gap is.
    streams.committed(advance(2, 3));
    streams.committed(advance(1, 2));
    noted(&streams, 3).await;
    let expected =
        (1..=3).flat_map(|upto| ["cache", "memory", "waker"].map(|name| (name, Some(upto))));
    assert_eq!(*notes.lock(), expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_process_that_is_alone_spares_its_caches() {
    let (streams, _db, _folder) = streams(false).await;
    let notes = Notes::default();
    let (cache, memory, gone) = scribes(&notes);
    let follower = Follower::new(&streams).cache(&cache).subscribe(&gone).subscribe(&memory);
    drop(gone);
    follower.start();
    streams.committed(advance(0, 1));
    noted(&streams, 1).await;
    assert_eq!(*notes.lock(), [("memory", Some(1))]);
}

#[tokio::test]
async fn a_subscriber_that_falls_behind_learns_that_anything_may_have_moved() {
    let (streams, _db, _folder) = streams(false).await;
    let notes = Notes::default();
    let (cache, memory, _) = scribes(&notes);
    let follower = Follower::new(&streams).cache(&cache).subscribe(&memory);
    // Before it starts to read: more than are kept for it.
    let upto = BACKLOG_MAX as Position + 10;
    (0..upto).for_each(|n| streams.committed(advance(n, n + 1)));
    follower.start();
    noted(&streams, upto).await;
    // Of what is kept it is told after that, in order; the last is what it waits for.
    let notes = notes.lock();
    assert_eq!(notes[..2], [("cache", None), ("memory", None)]);
    assert!(notes[2..].iter().all(|(name, upto)| *name == "memory" && upto.is_some()));
}

#[tokio::test]
async fn a_task_waits_for_a_position_and_misses_none() {
    let (streams, _db, _folder) = streams(false).await;
    let seen = Arc::new(Latest::new(streams.positions()));
    Follower::new(&streams).subscribe(&seen).start();
    let waits = {
        let seen = Arc::clone(&seen);
        tokio::spawn(
            async move { seen.when(|positions| positions.get(Stream::AccountData) >= 2).await },
        )
    };
    streams.committed(advance(0, 1));
    streams.committed(advance(1, 2));
    let reached = tokio::time::timeout(LONG, waits).await.expect("it is woken").unwrap();
    assert_eq!(reached.get(Stream::AccountData), 2);
}

#[tokio::test]
async fn the_follower_ends_with_the_streams() {
    let streams = Arc::new(Streams::new());
    let notes = Notes::default();
    let (cache, ..) = scribes(&notes);
    let follower = Follower::new(&streams).cache(&cache);
    let runs = tokio::spawn(follower.run());
    drop(streams);
    tokio::time::timeout(LONG, runs).await.expect("it ends").unwrap();
}

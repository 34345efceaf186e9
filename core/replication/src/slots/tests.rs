//! Processes that join, hand over and end, over one PostgreSQL.

use std::sync::Arc;

use colonnade_storage::{
    CommitListener, DatabaseClock, Location, Lock, StorageError,
    ownership::{coordinator::Patience, pools::BACKGROUND},
};
use colonnade_testkit_postgres::Cluster;

use super::*;

struct Nobody;

impl CommitListener for Nobody {
    fn committed(&self, _: colonnade_model::stream::StreamAdvance) {}
}

struct Process {
    db: Database,
    slots: Arc<Slots>,
    member: Member,
}

async fn start(url: &str, name: &str) -> Process {
    let location = Location::Postgres {
        url: url.to_owned(),
        direct_url: None,
        connections_max: 6,
        next_migrations: None,
    };
    let db = Database::open(&location, Arc::new(Nobody)).await.unwrap();
    let slots = Arc::new(Slots::new(true));
    assert_eq!(slots.place(1), Place::Nowhere);
    let held = db.hold(Lock::Database, true).await.unwrap().unwrap();
    let join = Join {
        name: name.to_owned(),
        pools: vec!["client".to_owned(), "rooms".to_owned()],
        address: format!("unix:/{name}"),
        patience: Patience::default(),
    };
    let now_ms = db.server_now_ms().await.unwrap().unwrap();
    let clock = Arc::new(DatabaseClock::new(now_ms));
    let member = Member::join(&db, &slots, (held, clock), join).await.unwrap();
    Process { db, slots, member }
}

fn owned(slots: &Slots) -> usize {
    (0..1024).filter(|slot| matches!(slots.place(*slot), Place::Here { .. })).count()
}

/// A map of which the first slot is of incarnation 3, the second of 5, which leaves, the third of 7, which
/// nobody knows, and the others of nobody.
fn map_of(epoch: i64) -> SlotMap {
    let owner = |incarnation| Owner { incarnation, since: 1 };
    let member = |incarnation, draining| coordinator::Member {
        incarnation,
        name: String::new(),
        pools: vec![ROOMS.to_owned()],
        address: format!("unix:/{incarnation}"),
        draining,
    };
    SlotMap {
        epoch,
        members: vec![member(3, false), member(5, true)],
        owners: [(ROOMS.to_owned(), vec![owner(3), owner(5), owner(7), owner(0)])].into(),
    }
}

#[test]
fn a_caller_with_an_older_map_learns_of_an_owner_that_stays() {
    let slots = Slots::new(true);
    assert_eq!(slots.moved(0, -1), None, "no map yet");
    *slots.map.write() = Arc::new(map_of(8));
    assert_eq!(slots.moved(0, 7), Some(("unix:/3".to_owned(), 8)));
    for known in [8, 9] {
        assert_eq!(slots.moved(0, known), None, "who asks knows as much");
    }
    for slot in 1..5 {
        assert_eq!(slots.moved(slot, 7), None, "{slot} is about to move, or nobody's");
    }
    slots.incarnation.store(3, Ordering::Release);
    assert_eq!(slots.moved(0, 7), None, "it is ours");
    let alone = Slots::new(false);
    *alone.map.write() = Arc::new(map_of(8));
    assert_eq!(alone.moved(0, 7), None, "everything is ours");
}

#[tokio::test]
async fn a_map_that_another_process_has_is_waited_for() {
    let slots = Arc::new(Slots::new(true));
    let long = Duration::from_secs(600);
    slots.reached(0, long).await;
    // Not longer than it is said.
    slots.reached(8, Duration::from_millis(1)).await;
    assert_eq!(slots.epoch.get(), 0);
    slots.asked.notified().await;
    let waits = Arc::clone(&slots);
    let waits = tokio::spawn(async move { waits.reached(8, long).await });
    // It asks for the map to be read; an older one is not enough.
    slots.asked.notified().await;
    slots.epoch.set(7);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!waits.is_finished());
    slots.epoch.set(9);
    waits.await.unwrap();
}

/// Waits until a process owns so many slots.
async fn until_owned(slots: &Slots, wanted: usize) {
    while owned(slots) != wanted {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Writes nothing, by a right.
async fn write_by(db: &Database, right: Right) -> Result<()> {
    db.write(move |tx| Box::pin(async move { right.fence(tx).await })).await
}

#[tokio::test]
async fn processes_share_hand_over_and_end() {
    let url = Cluster::shared().database();
    let one = start(&url, "one").await;
    assert_eq!(owned(&one.slots), 1024, "known when it has joined");
    let two = start(&url, "two").await;
    until_owned(&one.slots, 512).await;
    until_owned(&two.slots, 512).await;
    for slot in 0..1024 {
        let there = |name: &str| Place::There { address: format!("unix:/{name}") };
        let (first, second) = (one.slots.place(slot), two.slots.place(slot));
        assert!((first == there("two")) != (second == there("one")), "{first:?} {second:?}");
    }
    // A process that wants to be alone is refused.
    assert!(two.db.hold(Lock::Database, false).await.unwrap().is_none());

    // What one of them does for all is done by one, and under the fence.
    let duties: Vec<Duty> =
        ["a", "b", "c", "d", "e", "f", "g"].map(|name| Duty::of(BACKGROUND, name)).into();
    let does = |of: &Process, duty: &Duty| of.slots.right(*duty).is_some();
    for duty in &duties {
        while does(&one, duty) == does(&two, duty) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let his = duties.iter().find(|duty| does(&two, duty)).copied().expect("one of seven");
    let right = two.slots.right(his).unwrap();
    write_by(&two.db, right).await.unwrap();

    two.member.hand_over().await;
    assert_eq!(owned(&two.slots), 0);
    let Err(StorageError::Fenced(_)) = write_by(&two.db, right).await else {
        panic!("somebody else has it now")
    };
    while !does(&one, &his) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    write_by(&one.db, one.slots.right(his).unwrap()).await.unwrap();
    until_owned(&one.slots, 1024).await;
    two.member.leave().await;
    two.db.close().await;

    // Taken over although it lives: it notices.
    let incarnation = one.slots.incarnation.load(Ordering::Acquire);
    coordinator::leave(&one.db, incarnation).await.unwrap();
    one.slots.ended().await;
    assert!(one.slots.has_ended());
    one.member.leave().await;
    one.db.close().await;
}

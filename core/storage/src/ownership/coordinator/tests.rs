//! Processes that come, drain and die, on both databases.

use super::*;
use crate::{
    database::{sql, testing::World},
    error::StorageError,
    ownership::{Ownership, fence, hand_over, pools::ROLE_SLOTS},
};

const POOLS: &[&str] = &["rooms"];
/// Longer than a test takes anywhere, for nobody beats here: who is to be dead is made silent.
const LONG: Patience = Patience { silence_ms: 600_000, without_lock_ms: 600_000, noted: None };

async fn silence(db: &Database, incarnation: i64, ms: i64) {
    db.write(move |tx| {
        Box::pin(async move {
            const BACK: &str = "UPDATE incarnations SET heartbeat_ts = heartbeat_ts - $2 \
                 WHERE inc_id = $1";
            execute!(tx, sql::query(BACK).bind(incarnation).bind(ms))
        })
    })
    .await
    .unwrap();
}

fn count(map: &SlotMap, incarnation: i64) -> usize {
    map.owners["rooms"].iter().filter(|owner| owner.incarnation == incarnation).count()
}

async fn may_write(db: &Database, incarnation: i64, slot: u16) -> bool {
    let since = slot_map(db).await.unwrap().owners["rooms"][usize::from(slot)].since;
    may_write_since(db, incarnation, slot, since).await
}

async fn may_write_since(db: &Database, incarnation: i64, slot: u16, since: i64) -> bool {
    let ownership = Ownership { pool: "rooms", incarnation };
    let wrote =
        db.write(move |tx| Box::pin(async move { fence(tx, ownership, &[(slot, since)]).await }));
    match wrote.await {
        Ok(()) => true,
        Err(StorageError::Fenced(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

fn slot_of(map: &SlotMap, incarnation: i64) -> u16 {
    let slot =
        map.owners["rooms"].iter().position(|owner| owner.incarnation == incarnation).unwrap();
    u16::try_from(slot).unwrap()
}

async fn newcomer(world: &World, db: &Database, name: &str) -> i64 {
    // As a process of its own would: on SQLite all share the one that may have the file.
    match world.is_shared() {
        true => {
            let own = world.open().await;
            let incarnation = register(&own, name, &["rooms".to_owned()], "unix:/r").await.unwrap();
            own.close().await;
            incarnation
        }
        false => register(db, name, &["rooms".to_owned()], "unix:/r").await.unwrap(),
    }
}

async fn slots_follow_those_who_live(world: World) {
    let db = world.open().await;
    assert!(!coordinate(&db, 0, POOLS, LONG).await.unwrap(), "nobody is there");
    assert_eq!(slot_map(&db).await.unwrap(), SlotMap::default());

    let one = newcomer(&world, &db, "rooms1").await;
    assert!(coordinate(&db, 0, POOLS, LONG).await.unwrap());
    let map = slot_map(&db).await.unwrap();
    assert_eq!((map.epoch, count(&map, one)), (2, 1024));
    let member = Member {
        incarnation: one,
        name: "rooms1".to_owned(),
        pools: vec!["rooms".to_owned()],
        address: "unix:/r".to_owned(),
        draining: false,
    };
    assert_eq!(map.members, [member]);
    assert!(may_write(&db, one, 77).await);

    let two = newcomer(&world, &db, "rooms2").await;
    assert!(!may_write(&db, two, 77).await, "nothing is his yet");
    assert!(coordinate(&db, 0, POOLS, LONG).await.unwrap());
    assert!(!coordinate(&db, 0, POOLS, LONG).await.unwrap(), "nothing moves for nothing");
    let map = slot_map(&db).await.unwrap();
    assert_eq!((count(&map, one), count(&map, two)), (512, 512));
    let (his, hers) = (slot_of(&map, one), slot_of(&map, two));
    assert!(may_write(&db, one, his).await && may_write(&db, two, hers).await);
    assert!(!may_write(&db, one, hers).await && !may_write(&db, two, his).await);

    // One hands over: he keeps what he has until somebody takes it.
    drain(&db, one).await.unwrap();
    drain(&db, one).await.unwrap();
    assert!(may_write(&db, one, his).await);
    let draining = slot_map(&db).await.unwrap();
    assert_eq!(draining.epoch, map.epoch + 1, "draining twice is one change");
    assert!(draining.members[0].draining);
    assert!(coordinate(&db, 0, POOLS, LONG).await.unwrap());
    assert!(!may_write(&db, one, his).await && may_write(&db, two, his).await);

    // The other dies.
    let three = newcomer(&world, &db, "rooms3").await;
    assert!(beat(&db, None, two).await.unwrap().is_some());
    silence(&db, two, LONG.silence_ms + 1_000).await;
    assert!(coordinate(&db, 0, POOLS, LONG).await.unwrap());
    let map = slot_map(&db).await.unwrap();
    assert_eq!(count(&map, three), 1024);
    assert!(beat(&db, None, two).await.unwrap().is_none(), "who was fenced has to begin anew");
    assert!(!may_write(&db, two, hers).await && may_write(&db, three, hers).await);
    assert!(map.members.iter().all(|member| member.incarnation != two));
    db.close().await;
}

/// A role nobody lists is everybody's, the files are their holders' alone.
async fn roles_are_dealt_to_those_who_list_them(world: World) {
    const DEALT: &[&str] = &["rooms", "background", "media"];
    let db = world.open().await;
    let shares = async |wanted: &[(&str, i64, usize)]| {
        coordinate(&db, 0, DEALT, LONG).await.unwrap();
        let map = slot_map(&db).await.unwrap();
        for (role, incarnation, share) in wanted {
            let owners = map.owners.get(*role).into_iter().flatten();
            let count = owners.filter(|owner| owner.incarnation == *incarnation).count();
            assert_eq!(count, *share, "{role} of {incarnation}");
        }
    };
    let everything = usize::from(ROLE_SLOTS);
    let one = newcomer(&world, &db, "rooms1").await;
    let two = newcomer(&world, &db, "rooms2").await;
    shares(&[("background", one, everything / 2), ("background", two, everything / 2)]).await;
    shares(&[("rooms", one, 512), ("media", one, 0), ("media", two, 0)]).await;
    let pools = ["background".to_owned(), "media".to_owned()];
    let three = register(&db, "background1", &pools, "unix:/b").await.unwrap();
    shares(&[("background", three, everything), ("background", one, 0)]).await;
    shares(&[("media", three, everything), ("rooms", three, 0), ("rooms", two, 512)]).await;
    // It dies: what it did is everybody's again, but not the files.
    silence(&db, three, LONG.silence_ms + 1_000).await;
    shares(&[("background", one, everything / 2), ("background", two, everything / 2)]).await;
    shares(&[("media", one, 0), ("media", two, 0)]).await;
    db.close().await;
}

/// Whoever lost a slot and got it back may not write what was prepared before.
async fn a_slot_that_comes_back_is_another(world: World) {
    let db = world.open().await;
    let one = newcomer(&world, &db, "rooms1").await;
    coordinate(&db, 0, POOLS, LONG).await.unwrap();
    let since = slot_map(&db).await.unwrap().owners["rooms"][9].since;
    assert!(may_write_since(&db, one, 9, since).await);
    let two = newcomer(&world, &db, "rooms2").await;
    for (from, to) in [(one, two), (two, one)] {
        let from = Ownership { pool: "rooms", incarnation: from };
        db.write_twice(move |tx| Box::pin(hand_over(tx, from, &[9], to))).await.unwrap();
    }
    assert!(!may_write_since(&db, one, 9, since).await);
    assert!(may_write(&db, one, 9).await);
    db.close().await;
}

/// The database's clock is set ahead or back by an hour: all look silent then, and nobody is dead.
async fn nobody_dies_of_a_clock_that_was_set(world: World) {
    const HOUR_MS: i64 = 60 * 60 * 1_000;
    // So long that nobody is silent for as long on a busy machine.
    const SILENCE_MS: i64 = 600_000;
    let patience = |noted_ms: i64| Patience {
        silence_ms: SILENCE_MS,
        without_lock_ms: SILENCE_MS,
        noted: Some((noted_ms, Instant::now())),
    };
    let db = world.open().await;
    let one = newcomer(&world, &db, "rooms1").await;
    let two = newcomer(&world, &db, "rooms2").await;
    coordinate(&db, one, POOLS, Patience::ENDLESS).await.unwrap();
    let members = async || slot_map(&db).await.unwrap().members.len();
    for set_ms in [HOUR_MS, -HOUR_MS] {
        // What was written before, as the clock shows it after it was set.
        let before_ms = beat(&db, None, one).await.unwrap().unwrap() - set_ms;
        silence(&db, two, set_ms).await;
        assert!(!coordinate(&db, one, POOLS, patience(before_ms)).await.unwrap());
        assert_eq!(members().await, 2, "set by {set_ms} ms");
        // It is noted again, and who lives says so.
        let now_ms = beat(&db, None, two).await.unwrap().unwrap();
        assert!(!coordinate(&db, one, POOLS, patience(now_ms)).await.unwrap());
        assert_eq!(members().await, 2);
    }
    // Who died before the clock was set back seems to live in the future. On a busy machine the clock
    // is noted so late that it seems to have been set.
    silence(&db, two, -HOUR_MS).await;
    while members().await == 2 {
        let now_ms = beat(&db, None, one).await.unwrap().unwrap();
        coordinate(&db, one, POOLS, patience(now_ms)).await.unwrap();
    }
    assert!(beat(&db, None, two).await.unwrap().is_none());
    db.close().await;
}

on_both!(
    slots_follow_those_who_live,
    a_slot_that_comes_back_is_another,
    roles_are_dealt_to_those_who_list_them,
    nobody_dies_of_a_clock_that_was_set,
);

#[test]
fn a_clock_is_set_or_read_late() {
    let minute = Duration::from_secs(60);
    assert!(!is_set(1_000, minute, 61_000));
    assert!(!is_set(1_000, minute, 62_500) && !is_set(1_000, minute, 59_500));
    assert!(is_set(1_000, minute, 64_000) && is_set(1_000, minute, 1_000));
    assert!(is_set(i64::MAX, minute, 0) && is_set(i64::MIN, minute, 0));
}

/// Only the database with locks can tell before the silence is long.
#[tokio::test]
async fn whose_lock_is_free_is_dead_sooner() {
    let world = crate::database::testing::postgres();
    let db = world.open().await;
    let one = newcomer(&world, &db, "rooms1").await;
    let two = newcomer(&world, &db, "rooms2").await;
    let held = db.hold(Lock::Alive(two), false).await.unwrap().unwrap();
    coordinate(&db, 0, POOLS, Patience::default()).await.unwrap();
    silence(&db, one, Patience::default().without_lock_ms + 100).await;
    silence(&db, two, Patience::default().without_lock_ms + 100).await;
    assert!(coordinate(&db, 0, POOLS, Patience::default()).await.unwrap());
    let map = slot_map(&db).await.unwrap();
    assert_eq!(count(&map, two), 1024);
    assert_eq!(map.members.len(), 1);
    assert!(beat(&db, Some(&held), two).await.unwrap().is_some());
    assert!(beat(&db, Some(&held), one).await.unwrap().is_none());
    // Who leaves is gone at once.
    leave(&db, two).await.unwrap();
    assert!(beat(&db, Some(&held), two).await.unwrap().is_none());
    assert!(slot_map(&db).await.unwrap().members.is_empty());
    held.release().await;
    db.close().await;
}

/// Many coordinators at once agree.
#[tokio::test]
async fn coordinators_take_turns() {
    let world = crate::database::testing::postgres();
    let db = world.open().await;
    for n in 0..5 {
        newcomer(&world, &db, &format!("rooms{n}")).await;
    }
    let others: Vec<Database> = futures_util::future::join_all((0..4).map(|_| world.open())).await;
    // On a busy machine all of them are silent for long; nobody dies here.
    let patience = Patience::ENDLESS;
    let coordinated = others.iter().map(|other| coordinate(other, 0, POOLS, patience));
    let changed = futures_util::future::join_all(coordinated).await;
    let changed = changed.into_iter().filter(|changed| *changed.as_ref().unwrap()).count();
    assert_eq!(changed, 1, "the others found nothing to do");
    let map = slot_map(&db).await.unwrap();
    assert!(map.members.iter().all(|m| (204..=205).contains(&count(&map, m.incarnation))));
    for other in others {
        other.close().await;
    }
    db.close().await;
}

//! The fence on both databases: who does not own a slot writes nothing, and a take-over waits for
//! what is under way.

use std::sync::Arc;

use super::*;
use crate::{
    Lane,
    database::{
        sql,
        testing::{self, World},
    },
};

const ROOMS: Ownership = Ownership { pool: "rooms", incarnation: 7 };

async fn own(db: &Database, slots: std::ops::Range<u16>) {
    db.write(move |tx| {
        Box::pin(async move {
            const INCARNATION: &str = "INSERT INTO incarnations \
                 (inc_id, name, pool, address, state, started_ts, heartbeat_ts) \
                 VALUES (7, 'r1', 'rooms', '', 1, 0, 0)";
            const SLOT: &str =
                "INSERT INTO pool_slots (pool, slot, owner_inc) VALUES ('rooms', $1, 7)";
            execute!(tx, sql::query(INCARNATION))?;
            for slot in slots {
                execute!(tx, sql::query(SLOT).bind(i64::from(slot)))?;
            }
            Ok(())
        })
    })
    .await
    .unwrap();
}

async fn try_to_write(
    db: &Database,
    ownership: Ownership,
    slots: &'static [OwnershipEpoch],
) -> Result<()> {
    db.write(move |tx| Box::pin(async move { fence(tx, ownership, slots).await })).await
}

async fn who_does_not_own_a_slot_writes_nothing(world: World) {
    let db = world.open().await;
    own(&db, 0..4).await;
    try_to_write(&db, Ownership::default(), &[(1000, 0)]).await.unwrap();
    try_to_write(&db, ROOMS, &[(3, 0), (0, 0), (3, 0)]).await.unwrap();
    let foreign = try_to_write(&db, ROOMS, &[(3, 0), (4, 0)]).await;
    assert!(matches!(foreign, Err(StorageError::Fenced(_))), "{foreign:?}");
    let other = Ownership { pool: "receipts", ..ROOMS };
    let foreign = try_to_write(&db, other, &[(3, 0)]).await;
    assert!(matches!(foreign, Err(StorageError::Fenced(_))), "{foreign:?}");

    db.write(|tx| Box::pin(hand_over(tx, ROOMS, &[3], 8))).await.unwrap();
    try_to_write(&db, ROOMS, &[(2, 0)]).await.unwrap();
    let given = try_to_write(&db, ROOMS, &[(3, 0)]).await;
    assert!(matches!(given, Err(StorageError::Fenced(_))), "{given:?}");

    db.write(|tx| Box::pin(take_over(tx, 7))).await.unwrap();
    let fenced = try_to_write(&db, ROOMS, &[(2, 0)]).await;
    assert!(matches!(fenced, Err(StorageError::Fenced(_))), "{fenced:?}");
    let epoch: i64 =
        read!(db, |c| sql::query_scalar("SELECT value FROM cluster WHERE key = 'epoch'")
            .fetch_one(c))
        .unwrap();
    assert_eq!(epoch, 1);
    db.close().await;
}

on_both!(who_does_not_own_a_slot_writes_nothing);

#[tokio::test]
async fn a_take_over_waits_for_what_is_under_way() {
    let world = testing::postgres();
    let (old, new) = (world.open().await, world.open().await);
    own(&old, 0..4).await;
    let (begun, under_way) = tokio::sync::oneshot::channel();
    let (go_on, paused) = tokio::sync::oneshot::channel();
    // Shared, since a body can be cloned; it runs once here.
    let pause = Arc::new(parking_lot::Mutex::new(Some((begun, paused))));
    let writing = tokio::spawn({
        let old = old.clone();
        async move {
            old.write_in(Lane::Events, move |tx| {
                Box::pin(async move {
                    fence(tx, ROOMS, &[(1, 0)]).await?;
                    let (begun, paused) = pause.lock().take().unwrap();
                    begun.send(()).unwrap();
                    paused.await.unwrap();
                    const PUT: &str = "INSERT INTO settings (key, value) VALUES ('late', $1)";
                    execute!(tx, sql::query(PUT).bind(vec![1u8]))
                })
            })
            .await
        }
    });
    under_way.await.unwrap();
    let taking = tokio::spawn({
        let new = new.clone();
        async move {
            new.write(|tx| {
                Box::pin(async move {
                    take_over(tx, 7).await?;
                    const SEEN: &str = "SELECT count(*) FROM settings WHERE key = 'late'";
                    run!(tx, |c| sql::query_scalar::<_, i64>(SEEN).fetch_one(c))
                })
            })
            .await
        }
    });
    // The take-over is queued behind the write: it shows as a lock that is not granted.
    const WAITS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while read!(new, |c| sql::query_scalar::<_, i64>(WAITS).fetch_one(c)).unwrap() == 0 {}
    go_on.send(()).unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(taking.await.unwrap().unwrap(), 1, "the new owner sees what the old one wrote");
    let fenced = try_to_write(&old, ROOMS, &[(1, 0)]).await;
    assert!(matches!(fenced, Err(StorageError::Fenced(_))), "{fenced:?}");
    old.close().await;
    new.close().await;
}

#[tokio::test]
async fn whoever_registers_alone_ends_all_others() {
    let world = testing::postgres();
    let (one, two) = (world.open().await, world.open().await);
    let put = async |db: &Database, key: &'static str| {
        db.write(move |tx| {
            Box::pin(async move {
                const PUT: &str = "INSERT INTO settings (key, value) VALUES ($1, $2)";
                execute!(tx, sql::query(PUT).bind(key).bind(vec![1u8]))
            })
        })
        .await
    };
    let first = register_alone(&one, "one".to_owned(), 0).await.unwrap();
    put(&one, "a").await.unwrap();
    let second = register_alone(&two, "two".to_owned(), 0).await.unwrap();
    assert!(second > first, "an incarnation is never used again");
    assert!(!lives(&one, first).await.unwrap() && lives(&one, second).await.unwrap());
    // In every lane, and without a word about slots.
    let fenced = put(&one, "b").await;
    assert!(matches!(fenced, Err(StorageError::Fenced(_))), "{fenced:?}");
    let event = one.write_in(Lane::Events, |tx| {
        Box::pin(async move { tx.seal(colonnade_model::stream::Stream::Events, 1).await })
    });
    let fenced = event.await;
    assert!(matches!(fenced, Err(StorageError::Fenced(_))), "{fenced:?}");
    put(&two, "b").await.unwrap();
    let held = one.hold(Lock::Database, false).await.unwrap().unwrap();
    assert!(two.hold(Lock::Database, false).await.unwrap().is_none(), "held by another");
    assert!(held.is_held().await);
    held.release().await;
    let held = two.hold(Lock::Database, false).await.unwrap().unwrap();
    held.release().await;
    one.close().await;
    two.close().await;
}

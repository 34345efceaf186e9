//! What chores delete goes piece by piece, and nothing goes that anybody asks for again.

use colonnade_model::nid::UserNid;

use crate::{
    Database, StorageError,
    database::{sql, testing::World},
    keys::{
        device_lists,
        key_backup::{self, BackupQuota, RoomKey, Scope},
    },
    quota::{Bound, Quota},
    rooms::{client_txns, unread},
};

const ALICE: UserNid = UserNid(1);
const BOB: UserNid = UserNid(2);

fn quota(keys: i64) -> BackupQuota {
    let items = Bound { setting: "limits.test", max: keys };
    BackupQuota { versions: Quota::NONE, keys: Quota { what: "keys", items, bytes: Bound::NONE } }
}

async fn create(db: &Database) -> i64 {
    let create = db.write(|tx| {
        Box::pin(async move {
            key_backup::create(tx, ALICE, "a".to_owned(), "{}".to_owned(), &quota(250)).await
        })
    });
    create.await.unwrap()
}

async fn put(db: &Database, version: i64, count: usize) -> crate::Result<i64> {
    let key = |n: usize| RoomKey {
        room_id: format!("!{}", n % 3),
        session_id: n.to_string(),
        first_message_index: 0,
        forwarded_count: 0,
        is_verified: false,
        session_data: "{}".to_owned(),
    };
    let keys: Vec<RoomKey> = (0..count).map(key).collect();
    let put = db.write(move |tx| {
        Box::pin(async move { key_backup::put(tx, ALICE, version, keys, &quota(250)).await })
    });
    Ok(put.await?.count)
}

async fn empty(db: &Database, version: i64) -> u64 {
    let empty = db
        .write(move |tx| Box::pin(async move { key_backup::empty(tx, ALICE, version, 100).await }));
    empty.await.unwrap()
}

async fn rows(db: &Database, text: &'static str) -> i64 {
    let rows: crate::Result<i64> =
        async { read!(db, |c| sql::query_scalar(text).fetch_one(c)) }.await;
    rows.unwrap()
}

async fn run(db: &Database, text: &'static str) {
    let run = db.write(move |tx| Box::pin(async move { execute!(tx, sql::query(text)).map(drop) }));
    run.await.unwrap();
}

async fn a_deleted_backup_is_gone_at_once_and_emptied_in_pieces(world: World) {
    let db = world.open().await;
    let first = create(&db).await;
    put(&db, first, 250).await.unwrap();
    assert_eq!(empty(&db, first).await, 0, "it is not deleted");
    assert!(key_backup::unemptied(&db, None).await.unwrap().is_empty());
    let delete = db.write(move |tx| Box::pin(key_backup::delete(tx, ALICE, first)));
    assert!(delete.await.unwrap());
    assert_eq!(key_backup::find(&db, ALICE, first).await.unwrap(), None);
    assert_eq!(key_backup::unemptied(&db, None).await.unwrap(), [(ALICE, first)]);
    assert_eq!(key_backup::unemptied(&db, Some(BOB)).await.unwrap(), []);
    // A crash here leaves it to whoever comes next; until then it counts, and is not forgotten.
    let second = create(&db).await;
    create(&db).await;
    let full = put(&db, second, 10).await;
    assert!(matches!(full, Err(StorageError::Full(_))), "{full:?}");
    let mut pieces = Vec::new();
    while let [(_, version)] = key_backup::unemptied(&db, None).await.unwrap()[..] {
        pieces.push(empty(&db, version).await);
    }
    assert_eq!(pieces, [100, 100, 50]);
    assert_eq!(rows(&db, "SELECT count(*) FROM backup_sizes WHERE version = 1").await, 0);
    assert_eq!(put(&db, second, 250).await.unwrap(), 250);
    db.close().await;
}

async fn keys_of_a_backup_are_removed_in_pieces(world: World) {
    let db = world.open().await;
    let version = create(&db).await;
    put(&db, version, 250).await.unwrap();
    let remove = async |scope: Scope| {
        let remove = db.write(move |tx| {
            Box::pin(async move { key_backup::remove(tx, ALICE, version, scope, 60).await })
        });
        let (contents, more) = remove.await.unwrap();
        (contents.count, more)
    };
    let room = || Scope::Room("!0".to_owned());
    assert_eq!(remove(room()).await, (190, true));
    assert_eq!(remove(room()).await, (166, false));
    assert_eq!(remove(Scope::Session("!1".to_owned(), "1".to_owned())).await, (165, false));
    assert_eq!(remove(Scope::All).await, (105, true));
    assert_eq!(remove(Scope::All).await, (45, true));
    assert_eq!(remove(Scope::All).await, (0, false));
    db.close().await;
}

async fn changes_that_are_repeated_are_forgotten_and_nobody_misses_any(world: World) {
    let db = world.open().await;
    for who in [ALICE, BOB, ALICE, ALICE] {
        let change = db.write(move |tx| Box::pin(device_lists::changed(tx, who, &[])));
        change.await.unwrap();
    }
    for _ in 0..2 {
        let change = db.write(move |tx| Box::pin(device_lists::changed_for(tx, ALICE, BOB)));
        change.await.unwrap();
    }
    let mut all = Vec::new();
    let mut after = 0;
    while let Some((last, repeated)) = device_lists::repeated(&db, after, 2).await.unwrap() {
        after = last;
        all.extend(repeated);
    }
    assert_eq!(all, [1, 3, 5], "2 is Bob's, 4 is the newest for all, 6 for Bob alone");
    let changes = async |viewer, from| device_lists::changes(&db, viewer, from, 6).await.unwrap();
    let before = [changes(ALICE, 0).await, changes(BOB, 0).await, changes(ALICE, 3).await];
    let forget = db.write(move |tx| Box::pin(async move { device_lists::forget(tx, &all).await }));
    forget.await.unwrap();
    assert_eq!(rows(&db, "SELECT count(*) FROM device_changes").await, 3);
    assert_eq!([changes(ALICE, 0).await, changes(BOB, 0).await, changes(ALICE, 3).await], before);
    db.close().await;
}

async fn exceptions_go_once_they_are_read_or_their_user_has_left(world: World) {
    let db = world.open().await;
    // Alice has read room 1 up to 3, and in room 2 a thread only; Bob has left room 1.
    for text in [
        "INSERT INTO push_exceptions (user_nid, room_nid, pos, event_nid, action, base) VALUES \
         (1, 1, 2, 1, 2, 1), (1, 1, 3, 2, 2, 1), (1, 1, 4, 3, 2, 1), (1, 2, 5, 4, 2, 1), \
         (2, 1, 2, 1, 2, 1)",
        "INSERT INTO room_members (room_nid, user_nid, membership, event_nid, sender_nid, pos, \
         forgotten) VALUES (1, 1, 1, 1, 1, 1, 0), (2, 1, 1, 1, 1, 1, 0), (1, 2, 4, 1, 1, 1, 0)",
        "INSERT INTO receipts (room_nid, user_nid, kind, thread, event_id, event_pos, ts, pos) VALUES \
         (1, 1, 2, '', '$3', 3, 0, 1), (2, 1, 1, '$root', '$4', 9, 0, 2)",
    ] {
        run(&db, text).await;
    }
    let mut all = Vec::new();
    let mut after = (0, 0, 0);
    while let Some((last, spent)) = unread::spent(&db, after, 2).await.unwrap() {
        after = last;
        all.extend(spent);
    }
    assert_eq!(all, [(1, 1, 2), (1, 1, 3), (2, 1, 2)]);
    let forget = db.write(move |tx| Box::pin(async move { unread::forget(tx, &all).await }));
    forget.await.unwrap();
    assert_eq!(rows(&db, "SELECT count(*) FROM push_exceptions").await, 2);
    db.close().await;
}

async fn transaction_ids_are_forgotten_by_age_in_pieces_of_both_kinds(world: World) {
    let db = world.open().await;
    for text in [
        "INSERT INTO client_txns (device_nid, scope, txn_id, event_nid, ts) VALUES \
         (1, 's', 'a', 1, 10), (1, 's', 'b', 2, 20), (2, 's', 'a', 3, 10), (2, 's', 'b', 4, 30)",
        "INSERT INTO to_device_txns (device_nid, event_type, txn_id, ts) VALUES \
         (1, 't', 'a', 10), (1, 't', 'b', 20), (9, 't', 'a', 10)",
    ] {
        run(&db, text).await;
    }
    let prune = async || db.write(|tx| Box::pin(client_txns::prune(tx, 20, 3))).await.unwrap();
    assert_eq!((prune().await, prune().await, prune().await), (3, 1, 0));
    assert_eq!(rows(&db, "SELECT count(*) FROM client_txns").await, 2);
    assert_eq!(rows(&db, "SELECT count(*) FROM to_device_txns").await, 1);
    db.close().await;
}

on_both! {
    a_deleted_backup_is_gone_at_once_and_emptied_in_pieces,
    keys_of_a_backup_are_removed_in_pieces,
    changes_that_are_repeated_are_forgotten_and_nobody_misses_any,
    exceptions_go_once_they_are_read_or_their_user_has_left,
    transaction_ids_are_forgotten_by_age_in_pieces_of_both_kinds,
}

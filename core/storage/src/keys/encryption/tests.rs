//! Keys are given out once and in order, come back never, and an inbox keeps its messages until they
//! are acknowledged.

use std::sync::Arc;

use colonnade_model::{
    nid::{DeviceNid, UserNid},
    stream::{Stream, StreamAdvance, Touch},
};

use super::one_time_keys::{self, OneTimeKey, Supply, Uploaded};
use crate::{
    CommitListener, Database,
    database::{sql, testing::World},
    delivery::to_device::{self, InboxLimits, Message, Sent, Txn, Waits},
    error::StorageError,
    keys::{
        device_lists::{self, Moved},
        key_backup::{self, BackupQuota, RoomKey, Scope},
    },
    quota::{Bound, Quota},
};

const DEVICE: DeviceNid = DeviceNid(7);
const ALICE: UserNid = UserNid(1);
const BOB: UserNid = UserNid(2);
const ANY: BackupQuota = BackupQuota { versions: Quota::NONE, keys: Quota::NONE };
const WIDE: InboxLimits = InboxLimits::NONE;

fn bound(max: i64) -> Bound {
    Bound { setting: "limits.test", max }
}

#[derive(Default)]
struct CommitLog(std::sync::Mutex<Vec<StreamAdvance>>);

impl CommitListener for CommitLog {
    fn committed(&self, advance: StreamAdvance) {
        self.0.lock().unwrap().push(advance);
    }
}

async fn open(world: &World) -> (Database, Arc<CommitLog>) {
    let heard = Arc::new(CommitLog::default());
    (world.open_with(Arc::clone(&heard) as _).await, heard)
}

fn key(id: &str, content: &str) -> OneTimeKey {
    OneTimeKey {
        algorithm: "signed_curve25519".to_owned(),
        key_id: id.to_owned(),
        key: format!("{content:?}"),
    }
}

async fn put(db: &Database, keys: Vec<OneTimeKey>) -> Uploaded {
    db.write(|tx| Box::pin(async move { one_time_keys::put(tx, DEVICE, keys, &Quota::NONE).await }))
        .await
        .unwrap()
}

async fn claim(db: &Database) -> Option<String> {
    let claimed = db.write(|tx| {
        Box::pin(async move {
            one_time_keys::claim(tx, DEVICE, "signed_curve25519", Supply::OneTime).await
        })
    });
    claimed.await.unwrap().map(|key| key.key_id)
}

async fn keys_go_out_once_in_upload_order(world: World) {
    let (db, _) = open(&world).await;
    assert_eq!(put(&db, vec![key("Z", "z")]).await, Uploaded::Stored);
    assert_eq!(put(&db, vec![key("A", "a"), key("Z", "z")]).await, Uploaded::Stored);
    let other = put(&db, vec![key("B", "b"), key("A", "other")]).await;
    assert_eq!(other, Uploaded::Differs("signed_curve25519:A".to_owned()));
    let counts = one_time_keys::counts(&db, DEVICE).await.unwrap();
    assert_eq!(counts, [("signed_curve25519".to_owned(), 2)]);
    assert_eq!(claim(&db).await.as_deref(), Some("Z"));
    // An issued key stays issued: the same content is no error and no new key.
    assert_eq!(put(&db, vec![key("Z", "z")]).await, Uploaded::Stored);
    assert!(matches!(put(&db, vec![key("Z", "new")]).await, Uploaded::Differs(_)));
    assert_eq!(claim(&db).await.as_deref(), Some("A"));
    assert_eq!(claim(&db).await, None);
}

async fn fallback_keys_are_used_when_none_is_left_and_marked(world: World) {
    let (db, _) = open(&world).await;
    let put_fallback = async |id: &'static str| {
        db.write(move |tx| {
            Box::pin(
                async move { one_time_keys::put_fallback(tx, DEVICE, vec![key(id, id)]).await },
            )
        })
        .await
        .unwrap();
    };
    let unused = async || one_time_keys::unused_fallback(&db, DEVICE).await.unwrap().len();
    put_fallback("F").await;
    assert_eq!(put(&db, vec![key("A", "a")]).await, Uploaded::Stored);
    assert_eq!(claim(&db).await.as_deref(), Some("A"));
    assert_eq!(unused().await, 1);
    assert_eq!(claim(&db).await.as_deref(), Some("F"));
    assert_eq!(claim(&db).await.as_deref(), Some("F"));
    assert_eq!(unused().await, 0);
    put_fallback("F").await;
    assert_eq!(unused().await, 0, "the same key stays used");
    put_fallback("G").await;
    assert_eq!(unused().await, 1);
}

async fn concurrent_claims_never_get_the_same_key(world: World) {
    let (db, _) = open(&world).await;
    let keys: Vec<_> = (0..40).map(|n| key(&format!("K{n:02}"), "k")).collect();
    put(&db, keys).await;
    let claims = futures_util::future::join_all((0..50).map(|_| claim(&db))).await;
    let mut got: Vec<_> = claims.into_iter().flatten().collect();
    got.sort();
    let count = got.len();
    got.dedup();
    assert_eq!((count, got.len()), (40, 40));
}

async fn an_inbox_keeps_order_and_forgets_what_is_acknowledged(world: World) {
    let (db, heard) = open(&world).await;
    let send = async |txn_id: &str, count: usize| {
        let txn = Txn {
            device: DEVICE,
            event_type: "m.test".to_owned(),
            txn_id: txn_id.to_owned(),
            ts: 1,
            forget_before_ts: 0,
        };
        let messages =
            (0..count).map(|n| Message { device: DEVICE, json: n.to_string(), is_own: false });
        let messages: Vec<_> = messages.collect();
        db.write(|tx| {
            Box::pin(async move { to_device::send(tx, txn, BOB, messages, Vec::new(), WIDE).await })
        })
        .await
        .unwrap()
    };
    assert_eq!(send("a", 250).await, Sent::Now { full: 0 });
    assert_eq!(send("a", 250).await, Sent::Before, "the same transaction id sends nothing");
    let all = to_device::messages(&db, DEVICE, 0, i64::MAX, 1_000).await.unwrap();
    let order: Vec<_> = all.iter().map(|message| message.json.parse::<i64>().unwrap()).collect();
    assert_eq!(order, (0..250).collect::<Vec<_>>());
    assert!(all.windows(2).all(|pair| pair[0].pos < pair[1].pos));
    let touched: usize = heard.0.lock().unwrap().iter().map(|a| a.touched.len()).sum();
    assert_eq!(touched, 250);
    let upto = all[99].pos;
    db.write(move |tx| Box::pin(async move { to_device::delete_some(tx, DEVICE, upto).await }))
        .await
        .unwrap();
    assert!(!to_device::holds_any(&db, DEVICE, upto).await.unwrap());
    assert_eq!(to_device::messages(&db, DEVICE, 0, i64::MAX, 1_000).await.unwrap().len(), 150);
    db.write(|tx| Box::pin(async move { super::forget_device(tx, DEVICE).await })).await.unwrap();
    assert!(!to_device::holds_any(&db, DEVICE, i64::MAX).await.unwrap());
}

async fn better_keys_replace_worse_ones_in_a_backup(world: World) {
    let (db, _) = open(&world).await;
    let create = db.write(|tx| {
        Box::pin(async move { key_backup::create(tx, ALICE, "a".into(), "{}".into(), &ANY).await })
    });
    assert_eq!(create.await.unwrap(), 1);
    let put = async |first: i64, forwarded: i64, verified: bool| {
        let key = RoomKey {
            room_id: "!r".to_owned(),
            session_id: "s".to_owned(),
            first_message_index: first,
            forwarded_count: forwarded,
            is_verified: verified,
            session_data: format!("{first} {forwarded} {verified}"),
        };
        db.write(|tx| {
            Box::pin(async move { key_backup::put(tx, ALICE, 1, vec![key], &ANY).await })
        })
        .await
        .unwrap();
        let keys = page(&db, Scope::All).await.unwrap();
        let version = key_backup::find(&db, ALICE, 1).await.unwrap().unwrap();
        (keys[0].session_data.clone(), version.etag)
    };
    assert_eq!(put(5, 5, false).await, ("5 5 false".to_owned(), 1));
    assert_eq!(put(5, 6, false).await, ("5 5 false".to_owned(), 1));
    assert_eq!(put(5, 4, false).await, ("5 4 false".to_owned(), 2));
    assert_eq!(put(6, 0, false).await, ("5 4 false".to_owned(), 2));
    assert_eq!(put(4, 9, false).await, ("4 9 false".to_owned(), 3));
    assert_eq!(put(9, 9, true).await, ("9 9 true".to_owned(), 4));
    assert_eq!(put(0, 0, false).await, ("9 9 true".to_owned(), 4));
    let many: Vec<_> = (0..1_001)
        .map(|n| RoomKey {
            room_id: format!("!{}", n % 7),
            session_id: n.to_string(),
            first_message_index: 0,
            forwarded_count: 0,
            is_verified: false,
            session_data: "{}".to_owned(),
        })
        .collect();
    let put =
        db.write(|tx| Box::pin(async move { key_backup::put(tx, ALICE, 1, many, &ANY).await }));
    let contents = put.await.unwrap();
    assert_eq!((contents.count, contents.etag), (1_002, 5));
    let removed = db.write(|tx| {
        Box::pin(async move {
            key_backup::remove(tx, ALICE, 1, Scope::Room("!3".to_owned()), 1_000).await
        })
    });
    assert_eq!(removed.await.unwrap().0.count, 1_002 - 143);
}

async fn page(db: &Database, scope: Scope) -> crate::Result<Vec<RoomKey>> {
    key_backup::keys(db, ALICE, 1, scope, Default::default(), 10_000).await
}

async fn the_size_of_a_backup_is_known_after_every_change(world: World) {
    let (db, _) = open(&world).await;
    let few = BackupQuota {
        versions: Quota { items: bound(1), ..Quota::NONE },
        keys: Quota { what: "keys", items: bound(5), bytes: bound(100) },
    };
    let create = || {
        db.write(move |tx| {
            Box::pin(
                async move { key_backup::create(tx, ALICE, "a".into(), "{}".into(), &few).await },
            )
        })
    };
    create().await.unwrap();
    assert!(matches!(create().await, Err(StorageError::Full(_))), "a second version");
    let put = async |room: &str, names: std::ops::Range<usize>, bytes: usize| {
        let key = |n: usize| RoomKey {
            room_id: room.to_owned(),
            session_id: n.to_string(),
            first_message_index: 100 - i64::try_from(bytes).unwrap(),
            forwarded_count: 0,
            is_verified: false,
            session_data: "x".repeat(bytes),
        };
        let keys: Vec<_> = names.map(key).collect();
        let put = db.write(move |tx| {
            Box::pin(async move { key_backup::put(tx, ALICE, 1, keys, &few).await })
        });
        put.await.map(|contents| contents.count)
    };
    assert_eq!(put("!a", 0..3, 10).await.unwrap(), 3);
    assert!(matches!(put("!b", 0..3, 10).await, Err(StorageError::Full(_))), "six keys");
    assert_eq!(page(&db, Scope::All).await.unwrap().len(), 3, "all or none of them");
    assert_eq!(put("!b", 0..2, 10).await.unwrap(), 5);
    assert!(matches!(put("!a", 0..3, 30).await, Err(StorageError::Full(_))), "110 bytes");
    assert_eq!(put("!a", 0..3, 20).await.unwrap(), 5, "80 bytes");
    // A process of another version does not note the size: then it is counted.
    db.write(|tx| {
        Box::pin(async move { execute!(tx, sql::query("UPDATE backup_versions SET etag = 70")) })
    })
    .await
    .unwrap();
    assert!(matches!(put("!b", 0..2, 40).await, Err(StorageError::Full(_))), "140 bytes");
    let remove = async |scope: Scope| {
        let remove = db.write(move |tx| {
            Box::pin(async move { key_backup::remove(tx, ALICE, 1, scope, 100).await })
        });
        remove.await.unwrap().0.count
    };
    assert_eq!(remove(Scope::Session("!a".to_owned(), "0".to_owned())).await, 4);
    assert_eq!(remove(Scope::Room("!a".to_owned())).await, 2);
    assert_eq!(put("!b", 0..2, 40).await.unwrap(), 2, "80 bytes");
    assert_eq!(remove(Scope::All).await, 0);
    let delete = || db.write(|tx| Box::pin(async move { key_backup::delete(tx, ALICE, 1).await }));
    assert!(delete().await.unwrap());
    create().await.unwrap();
    create().await.unwrap_err();
    assert!(delete().await.unwrap(), "a deleted one may be deleted again");
}

async fn pages_of_a_backup_follow_each_other(world: World) {
    let (db, _) = open(&world).await;
    let keys: Vec<_> = (0..250)
        .map(|n| RoomKey {
            room_id: format!("!{}", n % 7),
            session_id: format!("{n:03}"),
            first_message_index: 0,
            forwarded_count: 0,
            is_verified: false,
            session_data: "{}".to_owned(),
        })
        .collect();
    db.write(|tx| {
        Box::pin(async move {
            key_backup::create(tx, ALICE, "a".into(), "{}".into(), &ANY).await?;
            key_backup::put(tx, ALICE, 1, keys, &ANY).await
        })
    })
    .await
    .unwrap();
    for (scope, wanted) in [(Scope::All, 250), (Scope::Room("!3".to_owned()), 36)] {
        let (mut after, mut found) = (Default::default(), Vec::new());
        loop {
            let page = key_backup::keys(&db, ALICE, 1, scope.clone(), after, 20).await.unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= 20);
            after = (last.room_id.clone(), last.session_id.clone());
            found.extend(page.into_iter().map(|key| (key.room_id, key.session_id)));
        }
        assert_eq!(found.len(), wanted);
        assert!(found.is_sorted(), "nothing twice");
        found.dedup();
        assert_eq!(found.len(), wanted);
    }
}

async fn a_stranger_fills_his_share_of_an_inbox_and_no_more(world: World) {
    let (db, _) = open(&world).await;
    let narrow = InboxLimits {
        all: Waits { items: 10, bytes: 1_000 },
        of_sender: Waits { items: 4, bytes: 100 },
    };
    let send = async |sender: UserNid, txn_id: &str, count: usize, bytes: usize| {
        let txn = Txn {
            device: DEVICE,
            event_type: "m.test".to_owned(),
            txn_id: txn_id.to_owned(),
            ts: 1,
            forget_before_ts: 0,
        };
        let message =
            |_| Message { device: DEVICE, json: "x".repeat(bytes), is_own: sender == ALICE };
        let messages: Vec<_> = (0..count).map(message).collect();
        let sent = db.write(move |tx| {
            Box::pin(
                async move { to_device::send(tx, txn, sender, messages, Vec::new(), narrow).await },
            )
        });
        match sent.await.unwrap() {
            Sent::Now { full } => count - full,
            Sent::Before => panic!("another id"),
        }
    };
    assert_eq!(send(BOB, "a", 6, 10).await, 4);
    assert_eq!(send(BOB, "b", 1, 10).await, 0, "in another request, too");
    assert_eq!(send(UserNid(3), "c", 3, 60).await, 1, "100 bytes of one sender");
    assert_eq!(send(ALICE, "d", 9, 10).await, 5, "one's own devices have all the rest");
    assert_eq!(send(UserNid(4), "e", 1, 10).await, 0, "ten in all");
    let waiting = to_device::messages(&db, DEVICE, 0, i64::MAX, 1_000).await.unwrap();
    assert_eq!(waiting.len(), 10);
    let upto = waiting[7].pos;
    db.write(move |tx| Box::pin(async move { to_device::delete_some(tx, DEVICE, upto).await }))
        .await
        .unwrap();
    assert_eq!(send(BOB, "f", 9, 10).await, 4, "what was fetched makes room");
    assert_eq!(send(UserNid(4), "g", 9, 10).await, 4);
    assert_eq!(send(UserNid(5), "h", 1, 10).await, 0);
}

async fn changes_reach_those_who_share_a_room(world: World) {
    const CAROL: UserNid = UserNid(3);
    let (db, heard) = open(&world).await;
    let join = async |user: UserNid, room: i64, pos: i64, membership: i64| {
        db.write(move |tx| {
            Box::pin(async move {
                const MEMBER: &str = "INSERT INTO room_members (room_nid, user_nid, membership, \
                     event_nid, sender_nid, pos) VALUES ($1, $2, $3, 0, 0, $4) \
                     ON CONFLICT (room_nid, user_nid) DO UPDATE SET membership = excluded.membership";
                const LOG: &str = "INSERT INTO member_log (user_nid, pos, room_nid, membership, \
                     event_nid) VALUES ($1, $2, $3, $4, 0)";
                execute!(
                    tx,
                    sql::query(MEMBER).bind(room).bind(user.0).bind(membership).bind(pos)
                )?;
                execute!(tx, sql::query(LOG).bind(user.0).bind(pos).bind(room).bind(membership))
            })
        })
        .await
        .unwrap()
    };
    let changed = async |user: UserNid| {
        db.write(move |tx| Box::pin(async move { device_lists::changed(tx, user, &[]).await }))
            .await
            .unwrap()
    };
    join(ALICE, 10, 1, 1).await;
    join(BOB, 10, 2, 1).await;
    let first = changed(BOB).await;
    changed(CAROL).await;
    let touched = heard.0.lock().unwrap()[0].touched.clone();
    let room = Touch::Room(colonnade_model::nid::RoomNid(10));
    assert_eq!(touched, [(Touch::User(BOB), first), (room, first)]);
    assert_eq!(heard.0.lock().unwrap()[0].stream, Stream::DeviceLists);
    assert_eq!(device_lists::changes(&db, ALICE, 0, 9).await.unwrap(), [BOB]);
    assert_eq!(device_lists::changes(&db, CAROL, 0, 9).await.unwrap(), [CAROL]);
    assert_eq!(device_lists::changes(&db, ALICE, first, 9).await.unwrap(), []);
    db.write(|tx| Box::pin(async move { device_lists::changed_for(tx, CAROL, ALICE).await }))
        .await
        .unwrap();
    assert_eq!(device_lists::changes(&db, ALICE, first, 9).await.unwrap(), [CAROL]);
    assert_eq!(device_lists::changes(&db, BOB, first, 9).await.unwrap(), []);

    assert!(!device_lists::any_membership(&db, 2, 9).await.unwrap());
    let moved = device_lists::moves(&db, ALICE, 1, 9).await.unwrap();
    let room = colonnade_model::nid::RoomNid(10);
    assert_eq!(moved, [Moved { user: BOB, room, was_in: false, is_in: true }]);
    join(BOB, 10, 3, 1).await;
    assert_eq!(device_lists::moves(&db, ALICE, 2, 9).await.unwrap(), []);
    join(BOB, 10, 4, 4).await;
    let moved = device_lists::moves(&db, ALICE, 2, 9).await.unwrap();
    assert_eq!(moved, [Moved { user: BOB, room, was_in: true, is_in: false }]);
    join(BOB, 10, 5, 1).await;
    let moved = device_lists::moves(&db, ALICE, 2, 9).await.unwrap();
    let came_back = Moved { user: BOB, room, was_in: true, is_in: true };
    assert_eq!(moved, [came_back], "went and came back");
    join(BOB, 10, 6, 4).await;
    assert_eq!(device_lists::moves(&db, ALICE, 4, 9).await.unwrap(), [], "came and went");
    assert_eq!(device_lists::sharing(&db, ALICE, &[BOB]).await.unwrap(), []);
    assert_eq!(device_lists::joined(&db, &[room]).await.unwrap(), [ALICE]);
    for (pos, members) in [(1, &[ALICE][..]), (3, &[ALICE, BOB]), (4, &[ALICE]), (5, &[ALICE, BOB])]
    {
        let mut found = device_lists::joined_at(&db, &[room], pos).await.unwrap();
        found.sort_unstable();
        assert_eq!(found, members, "at {pos}");
    }
    join(ALICE, 10, 7, 4).await;
    let moved = device_lists::moves(&db, ALICE, 5, 9).await.unwrap();
    assert_eq!(moved.len(), 2, "both went, from a room that ALICE was in: {moved:?}");
}

on_both!(
    keys_go_out_once_in_upload_order,
    fallback_keys_are_used_when_none_is_left_and_marked,
    concurrent_claims_never_get_the_same_key,
    an_inbox_keeps_order_and_forgets_what_is_acknowledged,
    better_keys_replace_worse_ones_in_a_backup,
    the_size_of_a_backup_is_known_after_every_change,
    pages_of_a_backup_follow_each_other,
    a_stranger_fills_his_share_of_an_inbox_and_no_more,
    changes_reach_those_who_share_a_room,
);

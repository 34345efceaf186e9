//! Pauses double and end, for all processes; keys stay known.

use colonnade_model::nid::RoomNid;

use super::{
    destinations::{self, Pauses},
    entering::{self, Attempt, EarlyEvent, PutAside},
    server_keys::{self, KeyAnswer, ServerKey},
    signing_keys::{self, RetiredKey},
};
use crate::{
    StorageError,
    database::{settings, testing::World},
};

const PAUSES: Pauses = Pauses { min_ms: 10, max_ms: 35 };

async fn pauses_double_to_their_end_and_failures_at_one_time_count_once(world: World) {
    let db = world.open().await;
    assert_eq!(destinations::absence(&db, "a").await.unwrap(), None);
    assert!(!destinations::reached(&db, "a").await.unwrap());
    let mut now_ms = 1_000;
    for pause_ms in [10, 20, 35, 35] {
        for later in [0, 5] {
            let noted = destinations::failed(&db, "a", now_ms + later, PAUSES).await.unwrap();
            assert_eq!(noted.failing_since_ms, 1_000);
            assert_eq!((noted.pause_ms, noted.retry_at_ms), (pause_ms, now_ms + pause_ms));
            assert_eq!(destinations::absence(&db, "a").await.unwrap(), Some(noted));
        }
        now_ms += pause_ms;
    }
    assert_eq!(destinations::absence(&db, "b").await.unwrap(), None);
    assert!(destinations::reached(&db, "a").await.unwrap());
    assert!(!destinations::reached(&db, "a").await.unwrap());
    assert_eq!(destinations::absence(&db, "a").await.unwrap(), None);
    let again = destinations::failed(&db, "a", 9_000, PAUSES).await.unwrap();
    assert_eq!((again.failing_since_ms, again.pause_ms), (9_000, 10));
    db.close().await;
}

async fn keys_stay_known_and_never_become_others(world: World) {
    let db = world.open().await;
    let key = |name: &str, byte, valid_until_ms| ServerKey {
        key_id: name.to_owned(),
        public_key: vec![byte; 32],
        valid_until_ms,
    };
    let answer = |text: &str| KeyAnswer {
        answer: text.as_bytes().to_vec(),
        fetched_ms: 5,
        valid_until_ms: 9,
    };
    server_keys::keep(&db, "a", vec![key("x", 1, 9), key("y", 2, 3)], answer("1")).await.unwrap();
    let later = vec![key("x", 1, 20), key("y", 7, 30), key("z", 3, 20)];
    server_keys::keep(&db, "a", later, answer("2")).await.unwrap();
    server_keys::keep(&db, "b", vec![key("x", 9, 1)], answer("3")).await.unwrap();
    let mut found = server_keys::of(&db, "a").await.unwrap();
    found.sort_by(|a, b| a.key_id.cmp(&b.key_id));
    assert_eq!(found, [key("x", 1, 20), key("y", 2, 3), key("z", 3, 20)]);
    assert_eq!(server_keys::answer(&db, "a").await.unwrap(), Some(answer("2")));
    assert_eq!(server_keys::answer(&db, "c").await.unwrap(), None);
    // A key that the newest answer does not name is named by the one before.
    let newest = vec![key("w", 4, 4)];
    server_keys::keep(&db, "a", newest, KeyAnswer { valid_until_ms: 0, ..answer("4") })
        .await
        .unwrap();
    let wanted = ["x".to_owned(), "w".to_owned(), "none".to_owned()];
    let named = server_keys::answers_naming(&db, "a", &wanted).await.unwrap();
    let named: Vec<_> = named.into_iter().map(|(key_id, answer)| (key_id, answer.answer)).collect();
    assert_eq!(named, [("w".to_owned(), b"4".to_vec()), ("x".to_owned(), b"2".to_vec())]);
    let shorter = vec![key("x", 1, 9)];
    server_keys::keep(&db, "a", shorter, KeyAnswer { valid_until_ms: 0, ..answer("5") })
        .await
        .unwrap();
    let named = server_keys::answers_naming(&db, "a", &wanted[..1]).await.unwrap();
    assert_eq!(named[0].1.answer, b"2", "the one that is valid longer stays");
    for n in 0..20 {
        let answer = KeyAnswer { fetched_ms: 1_000 + n, ..answer("6") };
        server_keys::keep(&db, "a", vec![key(&n.to_string(), 1, 9)], answer).await.unwrap();
    }
    let all: Vec<String> = (0..20).map(|n| n.to_string()).chain(wanted).collect();
    assert_eq!(server_keys::answers_naming(&db, "a", &all).await.unwrap().len(), 16);
    db.close().await;
}

async fn a_signing_key_is_replaced_once_and_kept_among_those_of_before(world: World) {
    let db = world.open().await;
    settings::get_or_insert(&db, "signing_key", b"one".to_vec()).await.unwrap();
    let retired = |name: &str, expired_ms| RetiredKey {
        key_id: name.to_owned(),
        public_key: vec![1; 32],
        expired_ms,
    };
    let replace = async |before: &str, next: &str, old| {
        signing_keys::replace(&db, before.to_owned(), next.to_owned(), old).await
    };
    replace("one", "two", retired("ed25519:1", 10)).await.unwrap();
    let late = replace("one", "three", retired("ed25519:1", 20)).await;
    assert!(matches!(late, Err(StorageError::Conflict(_))), "{late:?}");
    assert_eq!(settings::get(&db, "signing_key").await.unwrap().unwrap(), b"two");
    replace("two", "three", retired("ed25519:2", 30)).await.unwrap();
    let kept = signing_keys::retired(&db).await.unwrap();
    assert_eq!(kept, [retired("ed25519:1", 10), retired("ed25519:2", 30)]);
    db.close().await;
}

async fn early_events_wait_for_the_room_as_long_as_somebody_enters_it(world: World) {
    let db = world.open().await;
    let room = RoomNid(7);
    let attempt = move |number| Attempt { room, number };
    let event = |origin: &str, number: usize| EarlyEvent {
        origin: origin.to_owned(),
        event_id: format!("${number:03}"),
        pdu: format!("{{\"n\":{number}}}"),
    };
    let put = async |events: Vec<EarlyEvent>, now_ms| {
        let put = db.write(move |tx| Box::pin(entering::put_aside(tx, room, events, now_ms)));
        put.await.unwrap()
    };
    let end = async |number, entered, now_ms| {
        let end = db.write(move |tx| Box::pin(entering::end(tx, attempt(number), entered, now_ms)));
        end.await.unwrap()
    };
    assert_eq!(put(vec![event("a", 1)], 5).await, PutAside::NotEntering);
    for number in [1, 2] {
        entering::begin(&db, attempt(number), 10).await.unwrap();
    }
    assert!(entering::is_entering(&db, room, 20).await.unwrap());
    assert_eq!(put(vec![event("b", 2), event("b", 1)], 20).await, PutAside::Kept);
    assert_eq!(put(vec![event("a", 3), event("b", 1)], 21).await, PutAside::Kept);
    assert_eq!(end(1, false, 30).await, [], "another attempt is under way");
    let all = [event("a", 3), event("b", 2), event("b", 1)];
    assert_eq!(end(2, false, 30).await, all);
    assert_eq!(put(vec![event("a", 1)], 31).await, PutAside::NotEntering);
    // Of many the newest of each server stay, and of too many servers none.
    entering::begin(&db, attempt(3), 40).await.unwrap();
    for origin in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        for piece in 0..3 {
            let many = (piece * 50..(piece + 1) * 50).map(|number| event(origin, number));
            put(many.collect(), 41).await;
        }
    }
    assert_eq!(put((0..50).map(|number| event("k", number)).collect(), 42).await, PutAside::Full);
    let kept = end(3, true, 43).await;
    assert!(kept.len() <= 1_000 && kept.len() > 900, "{}", kept.len());
    assert_eq!((&*kept[0].event_id, &*kept[99].event_id), ("$050", "$149"));
    // Whoever died entering is forgotten.
    entering::begin(&db, attempt(4), 50).await.unwrap();
    put(vec![event("a", 1)], 50).await;
    let later = 50 + entering::LIFETIME_MS;
    assert!(!entering::is_entering(&db, room, later).await.unwrap());
    let pruned = db.write(move |tx| Box::pin(entering::prune(tx, later, 10)));
    assert_eq!(pruned.await.unwrap(), 1);
    assert_eq!(end(4, true, later).await, []);
    db.close().await;
}

on_both! {
    early_events_wait_for_the_room_as_long_as_somebody_enters_it,
    pauses_double_to_their_end_and_failures_at_one_time_count_once,
    keys_stay_known_and_never_become_others,
    a_signing_key_is_replaced_once_and_kept_among_those_of_before,
}

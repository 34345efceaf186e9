//! What many writers leave behind, and what a restart does not change.

use colonnade_rules::push::PushOutcome;
use colonnade_storage::rooms::events::{self, Range};

use super::*;

fn body(text: &str) -> Box<serde_json::value::RawValue> {
    to_raw_value(&json!({ "msgtype": "m.text", "body": text })).unwrap()
}

async fn timeline(world: &World, room: &Room) -> Vec<Arc<RoomEvent>> {
    let range = Range { after: 0, upto: i64::MAX, newest_first: false, limit: 10_000 };
    let stored = events::timeline(&world.context.db, room.nid, range).await.unwrap();
    assert!(stored.is_last);
    world.rooms.parsed(stored.events).await.unwrap()
}

#[tokio::test]
async fn writers_at_once_make_one_line() {
    let world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice, RoomVersionId::V12, json!({})).await;
    let other = world.room(&bob, RoomVersionId::V10, json!({})).await;
    world.join(&bob, &room).await;
    let before = timeline(&world, &room).await.len();
    let sends = (0..200).map(|n| {
        let (rooms, alice, bob) = (&world.rooms, &alice, &bob);
        let (room, other) = (&room, &other);
        async move {
            let text = body(&n.to_string());
            let txn = format!("t{}", n / 2);
            let (sender, room) = match n % 3 {
                0 => (alice, room),
                1 => (bob, room),
                _ => (bob, other),
            };
            rooms.send(sender, &room.room_id, "m.room.message", &text, Some(&txn)).await.unwrap()
        }
    });
    let mut sent: Vec<_> = futures_util::future::join_all(sends).await;
    sent.sort_by_key(|sent| sent.nid);
    sent.dedup();
    let line = timeline(&world, &room).await;
    assert!(
        line.windows(2)
            .all(|pair| pair[0].pos < pair[1].pos && pair[0].timeline_key < pair[1].timeline_key)
    );
    for pair in line[before..].windows(2) {
        assert_eq!(pair[1].event.prev_events(), [pair[0].event.event_id().to_owned()]);
    }
    let others = timeline(&world, &other).await;
    let all = line
        .iter()
        .chain(&others)
        .filter(|event| event.event.event_type().to_string() == "m.room.message");
    let mut nids: Vec<_> = all.map(|event| event.nid).collect();
    nids.sort();
    let answered: Vec<_> = sent.iter().map(|sent| sent.nid).collect();
    assert_eq!(nids, answered, "every answered event is there, once");
    let head = world.rooms.head(room.nid).await.unwrap();
    assert_eq!(Some(head.last_pos), line.last().unwrap().pos);

    let ids: Vec<_> = line.iter().map(|event| event.event.event_id().to_owned()).collect();
    let world = world.restart().await;
    let again = timeline(&world, &room).await;
    let again: Vec<_> = again.iter().map(|event| event.event.event_id().to_owned()).collect();
    assert_eq!(ids, again);
    let replay =
        world.rooms.send(&alice, &room.room_id, "m.room.message", &body("0"), Some("t0")).await;
    assert!(answered.contains(&replay.unwrap().nid), "the transaction is remembered");
}

#[tokio::test]
async fn a_redaction_leaves_nothing_behind() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let room = world.room(&alice, RoomVersionId::V12, json!({})).await;
    let kind = "m.room.message";
    let secret =
        world.rooms.send(&alice, &room.room_id, kind, &body("secret"), Some("1")).await.unwrap();
    let target = world.rooms.event(secret.nid).await.unwrap().unwrap();
    assert!(target.event.json().contains("secret"));
    let id = &secret.event_id;
    world.rooms.redact(&alice, &room.room_id, id, Some("oops"), Some("2")).await.unwrap();
    for _ in 0..2 {
        let left = world.rooms.event(secret.nid).await.unwrap().unwrap();
        assert!(left.flags.has(EventFlags::REDACTED));
        assert!(!left.event.json().contains("secret"));
        assert_eq!((left.pos, left.timeline_key), (target.pos, target.timeline_key));
    }
    let world = world.restart().await;
    let left = world.rooms.event_by_id(id).await.unwrap().unwrap();
    assert!(left.flags.has(EventFlags::REDACTED));
    assert!(!left.event.json().contains("secret"));
}

#[tokio::test]
async fn unread_counters_and_exceptions() {
    let world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice, RoomVersionId::V11, json!({})).await;
    world.join(&bob, &room).await;
    let start = world.rooms.head(room.nid).await.unwrap();
    assert_eq!((start.notif_seq, start.highlight_seq), (0, 0), "state notifies nobody");
    let send = async |content: Value, txn: &str| {
        let content = to_raw_value(&content).unwrap();
        let kind = "m.room.message";
        world.rooms.send(&alice, &room.room_id, kind, &content, Some(txn)).await.unwrap()
    };
    let root = send(json!({ "msgtype": "m.text", "body": "hello" }), "1").await;
    let mentions = json!({ "user_ids": [bob.user_id] });
    send(json!({ "msgtype": "m.text", "body": "you", "m.mentions": mentions }), "2").await;
    send(json!({ "msgtype": "m.text", "body": "dear Bob, come" }), "3").await;
    let all = json!({ "room": true });
    send(json!({ "msgtype": "m.text", "body": "all", "m.mentions": all }), "4").await;
    send(json!({ "msgtype": "m.notice", "body": "bot says" }), "5").await;
    let relates = json!({ "rel_type": "m.thread", "event_id": root.event_id });
    let reply = json!({ "msgtype": "m.text", "body": "re", "m.relates_to": relates });
    let reply = send(reply, "6").await;
    let head = world.rooms.head(room.nid).await.unwrap();
    assert_eq!((head.notif_seq, head.unthreaded_seq, head.highlight_seq), (5, 4, 1));
    let row = events::stream_row(&world.context.db, reply.nid).await.unwrap().unwrap();
    assert_eq!(
        (row.thread_nid, row.thread_seq, row.outcome),
        (Some(root.nid.0), 1, PushOutcome::Notify)
    );
}

#[tokio::test]
async fn rules_of_their_own_make_exceptions() {
    use colonnade_storage::users::account_data::{self, AccountData};
    let world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice, RoomVersionId::V11, json!({})).await;
    world.join(&bob, &room).await;
    let store = &world.rooms.store;
    let mut pending = pending_room::PendingRoom::load(store, Arc::clone(&room), 0).await.unwrap();
    let mut meaning = async |text: Value| {
        let proposal = proposal::Proposal {
            sender: alice.user_id.clone(),
            event_type: "m.room.message".into(),
            state_key: None,
            content: super::super::proposal::content(text).unwrap(),
            redacts: None,
            txn: None,
            over: None,
            signed: None,
        };
        pending.propose(store, proposal).await.unwrap();
        pending.keep();
        let batch = pending.batch().unwrap().unwrap();
        let live = batch.events.last().unwrap().live.clone().unwrap();
        (live.outcome, live.user_outcomes)
    };
    let (plain, named) = (
        json!({ "body": "hello" }),
        json!({ "body": "hello", "m.mentions": { "user_ids": [bob.user_id] } }),
    );
    assert_eq!(meaning(plain.clone()).await, (PushOutcome::Notify, vec![]));
    assert_eq!(
        meaning(named.clone()).await,
        (PushOutcome::Notify, vec![(bob.user, PushOutcome::Highlight)])
    );
    let rule = json!({
        "rule_id": room.room_id, "default": false, "enabled": true, "actions": [],
        "conditions": [{ "kind": "event_match", "key": "room_id", "pattern": room.room_id }],
    });
    let rules = json!({ "global": { "override": [rule] } }).to_string();
    let data = AccountData {
        room: None,
        event_type: "m.push_rules".to_owned(),
        body: serde_json::value::RawValue::from_string(rules).unwrap(),
    };
    let user = bob.user;
    let put = world.context.db.write(move |tx| {
        Box::pin(account_data::put(tx, user, data, &colonnade_storage::quota::Quota::NONE))
    });
    put.await.unwrap();
    assert_eq!(
        meaning(plain).await,
        (PushOutcome::Notify, vec![(bob.user, PushOutcome::Nothing)]),
        "bob has muted the room"
    );
    assert_eq!(meaning(named).await, (PushOutcome::Notify, vec![(bob.user, PushOutcome::Nothing)]));
}

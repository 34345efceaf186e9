//! `/sync` through the API: what a client is told, when it is woken, and that nothing is told twice
//! or lost.

use std::time::{Duration, Instant};

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

mod model;

/// A filter for `/sync`, ready for a URL.
pub(crate) fn filter(filter: Value) -> String {
    let text = filter.to_string();
    let escaped = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    });
    format!("filter={}", escaped.collect::<String>())
}

pub(crate) fn encode(text: &str) -> String {
    text.replace('#', "%23").replace('!', "%21").replace(':', "%3A").replace('$', "%24")
}

pub(crate) fn in_room(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", encode(room))
}

/// Syncs with more query parameters; without waiting unless these say so.
pub(crate) async fn sync_with(client: &Client, since: Option<&str>, more: &str) -> Value {
    let since = since.map(|since| format!("since={since}&")).unwrap_or_default();
    client.get(&format!("/_matrix/client/v3/sync?{since}{more}")).await.ok()
}

pub(crate) async fn sync(client: &Client, since: Option<&str>) -> Value {
    sync_with(client, since, "").await
}

/// The unread counts of a room's main timeline and of one thread, as clients get them who know threads.
pub(crate) async fn counts_apart(client: &Client, room: &str, root: &str) -> (i64, i64) {
    let apart = json!({ "room": { "timeline": { "unread_thread_notifications": true } } });
    let answer = sync_with(client, None, &filter(apart)).await;
    let shown = joined(&answer, room);
    let thread = &shown["unread_thread_notifications"][root]["notification_count"];
    let main = &shown["unread_notifications"]["notification_count"];
    (main.as_i64().unwrap(), thread.as_i64().unwrap_or(0))
}

pub(crate) fn token(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

/// The next answer that tells of anybody: changes of presence are told in steps.
pub(crate) async fn presence_seen(client: &Client, since: &str) -> Value {
    let mut since = since.to_owned();
    loop {
        let answer = sync_with(client, Some(&since), "timeout=30000").await;
        if answer.get("presence").is_some() {
            return answer;
        }
        since = token(&answer);
    }
}

/// Where a client stands now.
pub(crate) async fn now(client: &Client) -> String {
    token(&sync(client, None).await)
}

pub(crate) async fn create(client: &Client, request: Value) -> String {
    let answer = client.post("/_matrix/client/v3/createRoom", request).await.ok();
    answer["room_id"].as_str().unwrap().to_owned()
}

/// Makes a public room in which all of them are.
pub(crate) async fn room_of(members: &[&Client]) -> String {
    let room = create(members[0], json!({ "preset": "public_chat" })).await;
    for member in &members[1..] {
        member.post(&in_room(&room, "join"), json!({})).await.ok();
    }
    room
}

/// Says something and returns the event's id.
pub(crate) async fn say(client: &Client, room: &str, body: &str) -> String {
    send(client, room, "m.room.message", json!({ "msgtype": "m.text", "body": body })).await
}

pub(crate) async fn send(client: &Client, room: &str, kind: &str, content: Value) -> String {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let txn = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let answer = client.put(&in_room(room, &format!("send/{kind}/t{txn}")), content).await.ok();
    answer["event_id"].as_str().unwrap().to_owned()
}

pub(crate) fn joined<'a>(answer: &'a Value, room: &str) -> &'a Value {
    &answer["rooms"]["join"][room]
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// The bodies of the messages in a timeline.
fn bodies(room: &Value) -> Vec<String> {
    let events = list(&room["timeline"]["events"]);
    let bodies = events.iter().filter_map(|event| event["content"]["body"].as_str());
    bodies.map(str::to_owned).collect()
}

fn types(events: &Value) -> Vec<String> {
    list(events).iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

/// Of whom there are member events in a list.
fn members(events: &Value) -> Vec<String> {
    let events = list(events);
    let members = events.iter().filter(|event| event["type"] == "m.room.member");
    let mut members: Vec<String> =
        members.map(|event| event["state_key"].as_str().unwrap().to_owned()).collect();
    members.sort();
    members
}

#[tokio::test]
async fn a_conversation_arrives() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let empty = sync(&alice, None).await;
    assert!(empty.get("rooms").is_none(), "{empty}");
    assert_eq!(empty["device_one_time_keys_count"], json!({ "signed_curve25519": 0 }));
    let room = room_of(&[&alice, &bob]).await;
    let first = sync(&alice, Some(&token(&empty))).await;
    let shown = joined(&first, &room);
    assert_eq!(shown["summary"]["m.joined_member_count"], 2);
    assert_eq!(shown["summary"]["m.heroes"], json!([bob.user_id]));
    let hello = say(&bob, &room, "hello").await;
    let second = sync(&alice, Some(&token(&first))).await;
    let shown = joined(&second, &room);
    assert_eq!(bodies(shown), ["hello"]);
    assert_eq!(shown["timeline"]["limited"], false);
    assert_eq!(shown["timeline"]["events"][0]["event_id"], hello);
    assert_eq!(shown["timeline"]["events"][0]["unsigned"]["membership"], "join");
    assert!(shown["timeline"]["events"][0].get("room_id").is_none());
    assert_eq!(shown["unread_notifications"]["notification_count"], 1);
    assert!(list(&shown["state"]["events"]).is_empty(), "{shown}");
    let third = sync(&alice, Some(&token(&second))).await;
    assert!(third.get("rooms").is_none(), "{third}");
    let again = sync(&alice, Some(&token(&first))).await;
    assert_eq!(bodies(joined(&again, &room)), ["hello"], "a repeated token gives the same");
    let whole = sync(&alice, None).await;
    let shown = joined(&whole, &room);
    let state = types(&shown["state"]["events"]);
    let timeline = types(&shown["timeline"]["events"]);
    for kind in ["m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.member"] {
        let both = state.iter().chain(&timeline);
        assert!(both.into_iter().any(|said| said == kind), "{kind} is missing: {shown}");
    }
}

#[tokio::test]
async fn the_sender_sees_its_transaction_id() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let phone = alice.another_device().await;
    let room = room_of(&[&alice]).await;
    let (here, there) = (now(&alice).await, now(&phone).await);
    let content = json!({ "msgtype": "m.text", "body": "me" });
    alice.put(&in_room(&room, "send/m.room.message/mine"), content).await.ok();
    let own = sync(&alice, Some(&here)).await;
    let own = &joined(&own, &room)["timeline"]["events"][0];
    assert_eq!(own["unsigned"]["transaction_id"], "mine");
    let other = sync(&phone, Some(&there)).await;
    let other = &joined(&other, &room)["timeline"]["events"][0];
    assert!(other["unsigned"].get("transaction_id").is_none(), "{other}");
}

#[tokio::test]
async fn a_gap_is_limited_and_its_state_is_shown() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let since = now(&bob).await;
    let name = json!({ "name": "in the gap" });
    alice.put(&in_room(&room, "state/m.room.name"), name).await.ok();
    for n in 0..8 {
        say(&alice, &room, &format!("{n}")).await;
    }
    let topic = json!({ "topic": "in the timeline" });
    alice.put(&in_room(&room, "state/m.room.topic"), topic).await.ok();
    let small = filter(json!({ "room": { "timeline": { "limit": 3 } } }));
    let answer = sync_with(&bob, Some(&since), &small).await;
    let shown = joined(&answer, &room);
    assert_eq!(shown["timeline"]["limited"], true);
    assert_eq!(bodies(shown), ["6", "7"]);
    assert_eq!(types(&shown["state"]["events"]), ["m.room.name"], "{shown}");
    let after = sync_with(&bob, Some(&since), &format!("{small}&use_state_after=true")).await;
    let shown = joined(&after, &room);
    let mut state = types(&shown["state_after"]["events"]);
    state.sort();
    assert_eq!(state, ["m.room.name", "m.room.topic"]);
    assert!(shown.get("state").is_none());
    let back = shown["timeline"]["prev_batch"].as_str().unwrap();
    let page = in_room(&room, &format!("messages?dir=b&limit=100&from={back}&to={since}"));
    let page = bob.get(&page).await.ok();
    let page: Vec<Value> =
        list(&page["chunk"]).iter().map(|event| event["content"]["body"].clone()).collect();
    let said: Vec<&str> = page.iter().filter_map(Value::as_str).collect();
    assert_eq!(said[..6], ["5", "4", "3", "2", "1", "0"], "the gap is filled without a seam");
}

#[tokio::test]
async fn members_are_loaded_lazily() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let carol = server.user("carol").await;
    let room = room_of(&[&alice, &bob, &carol]).await;
    alice.put(&in_room(&room, "state/m.room.name"), json!({ "name": "no heroes" })).await.ok();
    for n in 0..10 {
        say(&bob, &room, &format!("{n}")).await;
    }
    let lazy = filter(json!({ "room": { "state": { "lazy_load_members": true } } }));
    let first = sync_with(&alice, None, &lazy).await;
    let state = &joined(&first, &room)["state"]["events"];
    assert_eq!(members(state), [alice.user_id.clone(), bob.user_id.clone()]);
    say(&bob, &room, "again").await;
    let second = sync_with(&alice, Some(&token(&first)), &lazy).await;
    assert!(members(&joined(&second, &room)["state"]["events"]).is_empty(), "bob is known");
    say(&carol, &room, "hi").await;
    let third = sync_with(&alice, Some(&token(&second)), &lazy).await;
    assert_eq!(
        members(&joined(&third, &room)["state"]["events"]),
        std::slice::from_ref(&carol.user_id)
    );
    let lost = sync_with(&alice, Some(&token(&second)), &lazy).await;
    let again = members(&joined(&lost, &room)["state"]["events"]);
    assert_eq!(
        again,
        std::slice::from_ref(&carol.user_id),
        "an answer that was lost is given again"
    );
    say(&bob, &room, "and again").await;
    let redundant = json!({ "lazy_load_members": true, "include_redundant_members": true });
    let redundant = filter(json!({ "room": { "state": redundant } }));
    let fourth = sync_with(&alice, Some(&token(&third)), &redundant).await;
    assert_eq!(
        members(&joined(&fourth, &room)["state"]["events"]),
        std::slice::from_ref(&bob.user_id)
    );
    // In a gap every change of a member is told, whoever speaks.
    let since = token(&fourth);
    carol.post(&in_room(&room, "leave"), json!({})).await.ok();
    for n in 0..12 {
        say(&alice, &room, &format!("{n}")).await;
    }
    let gap = sync_with(&alice, Some(&since), &lazy).await;
    let shown = members(&joined(&gap, &room)["state"]["events"]);
    assert!(shown.contains(&carol.user_id), "{shown:?}");
}

#[tokio::test]
async fn filters_narrow_what_is_shown() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let other = room_of(&[&alice]).await;
    let since = now(&alice).await;
    say(&alice, &room, "mine").await;
    say(&bob, &room, "his").await;
    send(&bob, &room, "org.example.ping", json!({ "url": "mxc://a/b", "body": "ping" })).await;
    say(&alice, &other, "elsewhere").await;
    let shown = async |request: Value| {
        let answer = sync_with(&alice, Some(&since), &filter(request)).await;
        let mut shown = bodies(joined(&answer, &room));
        shown.extend(bodies(joined(&answer, &other)));
        shown
    };
    let timeline = |request: Value| json!({ "room": { "timeline": request } });
    assert_eq!(shown(json!({})).await, ["mine", "his", "ping", "elsewhere"]);
    let by_bob = timeline(json!({ "senders": [bob.user_id] }));
    assert_eq!(shown(by_bob).await, ["his", "ping"]);
    let not_bob = timeline(json!({ "not_senders": [bob.user_id] }));
    assert_eq!(shown(not_bob).await, ["mine", "elsewhere"]);
    assert_eq!(shown(timeline(json!({ "types": ["org.example.*"] }))).await, ["ping"]);
    let not_pings = timeline(json!({ "not_types": ["org.*"] }));
    assert_eq!(shown(not_pings).await, ["mine", "his", "elsewhere"]);
    assert_eq!(shown(timeline(json!({ "contains_url": true }))).await, ["ping"]);
    assert_eq!(shown(timeline(json!({ "rooms": [other] }))).await, ["elsewhere"]);
    assert_eq!(shown(json!({ "room": { "rooms": [other] } })).await, ["elsewhere"]);
    let without = json!({ "room": { "not_rooms": [other] } });
    assert_eq!(shown(without).await, ["mine", "his", "ping"]);
    let fields = ["content.body", "type", "event_id", "sender", "origin_server_ts"];
    let fields = filter(json!({ "event_fields": fields }));
    let answer = sync_with(&alice, Some(&since), &fields).await;
    let event = &joined(&answer, &room)["timeline"]["events"][0];
    assert_eq!(event["content"], json!({ "body": "mine" }));
    assert!(event.get("unsigned").is_none(), "{event}");
    let path = "/_matrix/client/v3/sync?filter=";
    alice.get(&format!("{path}%7B%22room%22%3A1%7D")).await.err(400, "M_INVALID_PARAM");
    alice.get(&format!("{path}999")).await.err(400, "M_INVALID_PARAM");
    alice.get(&format!("{path}nonsense")).await.err(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn invites_knocks_and_leaves_are_shown() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let request = json!({ "preset": "private_chat", "name": "Hall", "invite": [bob.user_id] });
    let since = now(&bob).await;
    let room = create(&alice, request).await;
    let invited = sync(&bob, Some(&since)).await;
    let shown = &invited["rooms"]["invite"][&room]["invite_state"]["events"];
    let kinds = types(shown);
    assert!(kinds.contains(&"m.room.name".to_owned()), "{shown}");
    assert!(kinds.contains(&"m.room.create".to_owned()), "{shown}");
    assert!(members(shown).contains(&bob.user_id), "{shown}");
    assert!(list(shown).iter().all(|event| event.get("event_id").is_none()), "{shown}");
    let repeated = sync(&bob, None).await;
    assert!(repeated["rooms"]["invite"].get(&room).is_some());
    bob.post(&in_room(&room, "leave"), json!({})).await.ok();
    let refused = sync(&bob, Some(&token(&invited))).await;
    assert!(refused["rooms"]["leave"].get(&room).is_some(), "{refused}");
    assert!(bodies(&refused["rooms"]["leave"][&room]).is_empty());
    alice.post(&in_room(&room, "invite"), json!({ "user_id": bob.user_id })).await.ok();
    bob.post(&in_room(&room, "join"), json!({})).await.ok();
    let entered = sync(&bob, Some(&token(&refused))).await;
    assert!(joined(&entered, &room).is_object(), "{entered}");
    say(&alice, &room, "before").await;
    let kick = json!({ "user_id": bob.user_id, "reason": "no" });
    alice.post(&in_room(&room, "kick"), kick).await.ok();
    say(&alice, &room, "after").await;
    let gone = sync(&bob, Some(&token(&entered))).await;
    let left = &gone["rooms"]["leave"][&room];
    assert_eq!(bodies(left), ["before"], "nothing after the kick: {left}");
    let last = list(&left["timeline"]["events"]).pop().unwrap();
    assert_eq!(
        (&last["type"], &last["content"]["membership"]),
        (&json!("m.room.member"), &json!("leave"))
    );
    let later = sync(&bob, Some(&token(&gone))).await;
    assert!(later.get("rooms").is_none(), "{later}");
    let initial = sync(&bob, None).await;
    assert!(initial["rooms"]["leave"].get(&room).is_none(), "{initial}");
    let request = filter(json!({ "room": { "include_leave": true } }));
    let initial = sync_with(&bob, None, &request).await;
    assert!(initial["rooms"]["leave"].get(&room).is_some(), "{initial}");
    bob.post(&in_room(&room, "forget"), json!({})).await.ok();
    let initial = sync_with(&bob, None, &request).await;
    assert!(initial["rooms"]["leave"].get(&room).is_none(), "{initial}");
    let rule = json!({ "join_rule": "knock" });
    let rules = json!({ "type": "m.room.join_rules", "state_key": "", "content": rule });
    let door = create(&alice, json!({ "name": "Door", "initial_state": [rules] })).await;
    let knock = format!("/_matrix/client/v3/knock/{}", encode(&door));
    bob.post(&knock, json!({ "reason": "hello?" })).await.ok();
    let knocked = sync(&bob, Some(&token(&later))).await;
    let shown = &knocked["rooms"]["knock"][&door]["knock_state"]["events"];
    assert!(types(shown).contains(&"m.room.name".to_owned()), "{knocked}");
}

#[tokio::test]
async fn the_past_before_the_join_stays_hidden() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let hidden = json!({
        "type": "m.room.history_visibility", "state_key": "",
        "content": { "history_visibility": "joined" },
    });
    let request = json!({ "preset": "public_chat", "initial_state": [hidden] });
    let room = create(&alice, request).await;
    say(&alice, &room, "secret").await;
    bob.post(&in_room(&room, "join"), json!({})).await.ok();
    say(&alice, &room, "welcome").await;
    let answer = sync(&bob, None).await;
    assert_eq!(bodies(joined(&answer, &room)), ["welcome"]);
}

/// Starts a long poll, does something, and returns the answer and how long it took.
async fn woken<F: Future>(client: &Client, since: &str, act: F) -> (Value, Duration) {
    let mut since = since.to_owned();
    let poll = loop {
        let poll = {
            let (client, since) = (client.clone(), since.clone());
            tokio::spawn(async move {
                let began = Instant::now();
                let answer = sync_with(&client, Some(&since), "timeout=20000").await;
                (answer, began.elapsed())
            })
        };
        tokio::time::sleep(Duration::from_millis(150)).await;
        if !poll.is_finished() {
            break poll;
        }
        // A gateway on a busy machine may ask another worker, which says again who types.
        let (answer, _) = poll.await.unwrap();
        let rooms = answer["rooms"]["join"].as_object().into_iter().flatten();
        let repeated = |room: &Value| types(&room["ephemeral"]["events"]) == ["m.typing"];
        let mut shown = rooms.map(|(_, room)| room).filter(|room| !room["ephemeral"].is_null());
        assert!(shown.next().is_some_and(repeated), "nothing happened yet: {answer}");
        since = token(&answer);
    };
    act.await;
    poll.await.unwrap()
}

#[tokio::test]
async fn every_kind_of_change_wakes() {
    const SOON: Duration = Duration::from_secs(10);
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let hello = say(&alice, &room, "hello").await;
    let since = now(&alice).await;
    let (answer, took) = woken(&alice, &since, say(&bob, &room, "wake up")).await;
    assert!(took < SOON && bodies(joined(&answer, &room)) == ["wake up"], "{answer}");
    let since = token(&answer);
    let receipt = in_room(&room, &format!("receipt/m.read/{}", encode(&hello)));
    let (answer, took) = woken(&alice, &since, bob.post(&receipt, json!({}))).await;
    let ephemeral = &joined(&answer, &room)["ephemeral"]["events"];
    assert!(took < SOON && types(ephemeral) == ["m.receipt"], "{answer}");
    let since = token(&answer);
    let typing = in_room(&room, &format!("typing/{}", encode(&bob.user_id)));
    let types_on = json!({ "typing": true, "timeout": 60000 });
    let (answer, took) = woken(&alice, &since, bob.put(&typing, types_on)).await;
    let ephemeral = &joined(&answer, &room)["ephemeral"]["events"];
    assert!(took < SOON, "{took:?}");
    assert_eq!(ephemeral[0]["content"]["user_ids"], json!([bob.user_id]), "{answer}");
    let since = token(&answer);
    let path = format!("/_matrix/client/v3/sendToDevice/m.test/t1?x={}", encode(&alice.user_id));
    let messages = json!({ "messages": { &alice.user_id: { &alice.device_id: { "a": 1 } } } });
    let (answer, took) = woken(&alice, &since, bob.put(&path, messages)).await;
    assert!(took < SOON, "{took:?}");
    assert_eq!(answer["to_device"]["events"][0]["content"], json!({ "a": 1 }), "{answer}");
    let since = token(&answer);
    let request = json!({ "invite": [alice.user_id] });
    let (answer, took) = woken(&alice, &since, create(&bob, request)).await;
    assert!(took < SOON, "{took:?}");
    assert_eq!(answer["rooms"]["invite"].as_object().map(|rooms| rooms.len()), Some(1));
    let since = token(&answer);
    // A room joined during the poll is listened to.
    let other = create(&bob, json!({ "preset": "public_chat" })).await;
    let (answer, _) = woken(&alice, &since, alice.post(&in_room(&other, "join"), json!({}))).await;
    let since = token(&answer);
    let (answer, took) = woken(&alice, &since, say(&bob, &other, "in here")).await;
    assert!(took < SOON && bodies(joined(&answer, &other)) == ["in here"], "{answer}");
    let since = token(&answer);
    let status = format!("/_matrix/client/v3/presence/{}/status", encode(&bob.user_id));
    let away = json!({ "presence": "unavailable", "status_msg": "lunch" });
    let (answer, took) = woken(&alice, &since, bob.put(&status, away)).await;
    assert!(took < SOON, "{took:?}");
    let event = &answer["presence"]["events"][0];
    assert_eq!(event["sender"], json!(bob.user_id), "{answer}");
    assert_eq!(event["content"]["status_msg"], "lunch");
}

#[tokio::test]
async fn a_poll_ends_on_time_and_when_the_server_stops() {
    let mut server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = room_of(&[&alice]).await;
    let since = now(&alice).await;
    let began = Instant::now();
    let answer = sync_with(&alice, Some(&since), "timeout=300").await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(answer.get("rooms").is_none());
    let since = token(&answer);
    let (answer, took) = woken(&alice, &since, async { server.hurry().await }).await;
    assert!(took < Duration::from_secs(10) && answer.get("rooms").is_none(), "{answer}");
    say(&alice, &room, "still told").await;
    let answer = sync_with(&alice, Some(&since), "timeout=20000").await;
    assert_eq!(bodies(joined(&answer, &room)), ["still told"]);
}

#[tokio::test]
async fn tokens_survive_a_restart_and_cannot_be_forged() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = room_of(&[&alice]).await;
    let since = now(&alice).await;
    say(&alice, &room, "before").await;
    let server = server.restart().await;
    let alice = alice.at(&server.url);
    say(&alice, &room, "after").await;
    let answer = sync(&alice, Some(&since)).await;
    assert_eq!(bodies(joined(&answer, &room)), ["before", "after"]);
    let next = token(&answer);
    assert!(sync(&alice, Some(&next)).await.get("rooms").is_none());
    let mut forged = since.into_bytes();
    forged[4] = if forged[4] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    for bad in [forged.as_str(), "s", "x", "s72594_4483_1934", &"s".repeat(4000)] {
        let path = format!("/_matrix/client/v3/sync?since={bad}");
        alice.get(&path).await.err(400, "M_INVALID_PARAM");
    }
    // Refused at the door, whatever it stands for.
    alice.get("/_matrix/client/v3/sync?since=%00").await.err(400, "M_UNKNOWN");
}

#[tokio::test]
async fn to_device_messages_repeat_until_acknowledged() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let mut since = now(&alice).await;
    let to_alice = async |n: usize| {
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/txn{n}");
        let messages = json!({ "messages": { &alice.user_id: { "*": { "n": n } } } });
        bob.put(&path, messages).await.ok();
    };
    let numbers = |answer: &Value| -> Vec<u64> {
        let events = list(&answer["to_device"]["events"]);
        events.iter().map(|event| event["content"]["n"].as_u64().unwrap()).collect()
    };
    to_alice(0).await;
    let first = sync(&alice, Some(&since)).await;
    let again = sync(&alice, Some(&since)).await;
    assert_eq!((numbers(&first), numbers(&again)), (vec![0], vec![0]));
    let acknowledged = sync(&alice, Some(&token(&first))).await;
    assert!(numbers(&acknowledged).is_empty());
    let gone = sync(&alice, Some(&since)).await;
    assert!(numbers(&gone).is_empty(), "what was acknowledged is gone");
    for n in 1..=250 {
        to_alice(n).await;
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        let answer = sync(&alice, Some(&since)).await;
        seen.extend(numbers(&answer));
        since = token(&answer);
    }
    assert_eq!(seen, (1..=250).collect::<Vec<u64>>(), "in order, in portions, each once");
}

#[tokio::test]
async fn redactions_reach_those_who_saw_the_event() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let event = say(&alice, &room, "oops").await;
    let since = now(&bob).await;
    let redact = in_room(&room, &format!("redact/{}/r", encode(&event)));
    alice.put(&redact, json!({})).await.ok();
    let answer = sync(&bob, Some(&since)).await;
    let shown = &joined(&answer, &room)["timeline"]["events"][0];
    assert_eq!((&shown["type"], &shown["redacts"]), (&json!("m.room.redaction"), &json!(event)));
    let whole = sync(&bob, None).await;
    let events = list(&joined(&whole, &room)["timeline"]["events"]);
    let redacted = events.iter().find(|shown| shown["event_id"] == json!(event)).unwrap();
    assert_eq!(redacted["content"], json!({}));
    assert_eq!(redacted["unsigned"]["redacted_because"]["type"], "m.room.redaction");
}

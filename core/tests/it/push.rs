//! What push gateways are told: real requests to a real server.

use colonnade_rooms::Settings;
use colonnade_storage::{
    delivery::pushers::{self, PusherRow},
    quota::Quota,
};
use colonnade_testkit::{
    Client, TestServer,
    push_gateway::{Manner, PushGateway},
    server::open_settings,
};
use serde_json::{Value, json};

use crate::sync::{encode, in_room, room_of, say, send};

/// A server that may connect to this machine.
async fn server() -> TestServer {
    let mut settings: Settings = open_settings();
    settings.outgoing.allowed_ranges = vec!["127.0.0.0/8".parse().unwrap()];
    TestServer::with_settings(settings).await
}

async fn set_pusher(client: &Client, gateway: &PushGateway, pushkey: &str, data: Value) {
    let mut data = data;
    data["url"] = gateway.url.clone().into();
    let pusher = json!({ "kind": "http", "app_id": "org.example.app", "pushkey": pushkey, "data": data,
        "app_display_name": "App", "device_display_name": "Phone", "lang": "en" });
    client.post("/_matrix/client/v3/pushers/set", pusher).await.ok();
}

async fn pushers(client: &Client) -> Value {
    client.get("/_matrix/client/v3/pushers").await.ok()["pushers"].clone()
}

async fn mute(client: &Client, room: &str) {
    let rule = format!("/_matrix/client/v3/pushrules/global/room/{}", encode(room));
    client.put(&rule, json!({ "actions": [] })).await.ok();
}

fn of<'e>(event: &'e str) -> impl Fn(&Value) -> bool + 'e {
    move |told| told["event_id"] == event
}

fn ids(gateway: &PushGateway) -> Vec<String> {
    let taken = gateway.taken().into_iter();
    taken.filter_map(|told| told["event_id"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_message_is_told_with_all_that_a_gateway_needs() {
    let (server, gateway) = (server().await, PushGateway::start().await);
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room_of(&[&alice, &bob]).await;
    let named = in_room(&room, "state/m.room.name");
    alice.put(&named, json!({ "name": "Square" })).await.ok();
    set_pusher(&bob, &gateway, "key", json!({ "brand": "x" })).await;
    let event = say(&alice, &room, "hello").await;
    let told = gateway.told(of(&event)).await;
    assert_eq!(told["room_id"], room.as_str());
    assert_eq!(told["type"], "m.room.message");
    assert_eq!(told["sender"], alice.user_id.as_str());
    assert_eq!(told["sender_display_name"], "alice");
    assert_eq!(told["room_name"], "Square");
    assert_eq!(told["content"]["body"], "hello");
    assert_eq!(told["counts"]["unread"], 1);
    let device = &told["devices"][0];
    assert_eq!((&device["app_id"], &device["pushkey"]), (&json!("org.example.app"), &json!("key")));
    assert_eq!(device["data"], json!({ "brand": "x" }), "without the address");
    assert!(device["pushkey_ts"].as_i64().unwrap() > 1_700_000_000, "{told}");
    // In a room of two every message has a sound, by the default rules.
    assert_eq!((&told["prio"], &device["tweaks"]["sound"]), (&json!("high"), &json!("default")));

    let second = say(&alice, &room, "again").await;
    assert_eq!(gateway.told(of(&second)).await["counts"]["unread"], 2);
    // Whoever reads is told that nothing is unread, and nothing else.
    let receipt = in_room(&room, &format!("receipt/m.read/{}", encode(&second)));
    bob.post(&receipt, json!({})).await.ok();
    let badge = gateway.told(|told| told["counts"]["unread"] == 0).await;
    assert!(badge.get("event_id").is_none(), "{badge}");
    // His own words notify nobody here.
    let own = say(&bob, &room, "mine").await;
    let third = say(&alice, &room, "third").await;
    assert_eq!(gateway.told(of(&third)).await["counts"]["unread"], 1);
    assert!(!ids(&gateway).contains(&own));
}

#[tokio::test]
async fn only_what_notifies_is_told() {
    let (server, gateway) = (server().await, PushGateway::start().await);
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = room_of(&[&alice, &bob, &carol]).await;
    let muted = room_of(&[&alice, &bob, &carol]).await;
    set_pusher(&bob, &gateway, "key", json!({})).await;
    mute(&bob, &muted).await;
    let list = json!({ "ignored_users": { &carol.user_id: {} } });
    let ignoring = format!(
        "/_matrix/client/v3/user/{}/account_data/m.ignored_user_list",
        encode(&bob.user_id)
    );
    bob.put(&ignoring, list).await.ok();
    let mut silent = vec![say(&alice, &muted, "quiet").await, say(&carol, &room, "ignored").await];
    silent.push(send(&alice, &room, "org.example.other", json!({ "body": "no rule" })).await);
    let word = say(&alice, &room, "a word").await;
    let named = json!({ "msgtype": "m.text", "body": "you there", "m.mentions": { "user_ids": [bob.user_id] } });
    let mention = send(&alice, &room, "m.room.message", named).await;
    let told = gateway.told(of(&mention)).await;
    assert_eq!(told["devices"][0]["tweaks"]["highlight"], true);
    assert_eq!(told["prio"], "high");
    let plain = gateway.told(of(&word)).await;
    assert_eq!((&plain["prio"], &plain["devices"][0]["tweaks"]), (&json!("low"), &json!({})));
    let taken = ids(&gateway);
    assert!(silent.iter().all(|event| !taken.contains(event)), "{taken:?}");
}

#[tokio::test]
async fn an_invitation_and_an_id_alone_are_told() {
    let (server, gateway) = (server().await, PushGateway::start().await);
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    set_pusher(&bob, &gateway, "key", json!({})).await;
    let request = json!({ "invite": [bob.user_id], "name": "Den" });
    let room = alice.post("/_matrix/client/v3/createRoom", request).await.ok();
    let room = room["room_id"].as_str().unwrap().to_owned();
    let told = gateway.told(|told| told["type"] == "m.room.member").await;
    assert_eq!((&told["room_id"], &told["user_is_target"]), (&json!(room), &json!(true)));
    assert_eq!(told["content"]["membership"], "invite");
    assert_eq!(told["room_name"], "Den");

    let other = PushGateway::start().await;
    set_pusher(&bob, &other, "other", json!({ "format": "event_id_only" })).await;
    bob.post(&in_room(&room, "join"), json!({})).await.ok();
    let event = say(&alice, &room, "secret").await;
    let told = other.told(of(&event)).await;
    let mut keys: Vec<&String> = told.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["counts", "devices", "event_id", "id", "prio", "room_id"]);
    assert_eq!(told["devices"][0]["data"], json!({ "format": "event_id_only" }));
    assert!(gateway.told(of(&event)).await["content"]["body"] == "secret");
}

#[tokio::test]
async fn what_a_gateway_does_not_take_waits_in_order_and_others_go_on() {
    let (server, bad, good) =
        (server().await, PushGateway::start().await, PushGateway::start().await);
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let carol = server.user("carol").await;
    let room = room_of(&[&alice, &bob, &carol]).await;
    set_pusher(&bob, &bad, "key", json!({})).await;
    set_pusher(&carol, &good, "good", json!({})).await;
    bad.does(Manner::Fails(502));
    let mut said = Vec::new();
    for number in 0..3 {
        said.push(say(&alice, &room, &format!("word {number}")).await);
    }
    for event in &said {
        good.told(of(event)).await;
    }
    while bad.refused() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    bad.does(Manner::Takes);
    said.push(say(&alice, &room, "the last").await);
    bad.told(of(&said[3])).await;
    assert_eq!(ids(&bad), said, "each once, in order");
    assert_eq!(ids(&good).len(), 4);
}

#[tokio::test]
async fn a_key_that_a_gateway_rejects_is_gone() {
    let (server, gateway) = (server().await, PushGateway::start().await);
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room_of(&[&alice, &bob]).await;
    set_pusher(&bob, &gateway, "kept", json!({})).await;
    set_pusher(&bob, &gateway, "gone", json!({})).await;
    gateway.does(Manner::Rejects("gone".to_owned()));
    say(&alice, &room, "one").await;
    let mut left = pushers(&bob).await;
    while left.as_array().unwrap().len() != 1 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        left = pushers(&bob).await;
    }
    assert_eq!(left[0]["pushkey"], "kept");
    gateway.does(Manner::Takes);
    let event = say(&alice, &room, "two").await;
    let told = gateway.told(of(&event)).await;
    assert_eq!(told["devices"][0]["pushkey"], "kept");
    // The application comes back with the same key.
    set_pusher(&bob, &gateway, "gone", json!({})).await;
    let event = say(&alice, &room, "three").await;
    gateway.told(|told| of(&event)(told) && told["devices"][0]["pushkey"] == "gone").await;
}

#[tokio::test]
async fn what_comes_while_pushers_cannot_be_read_is_told_later() {
    let (server, gateway) = (server().await, PushGateway::start().await);
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room_of(&[&alice, &bob]).await;
    set_pusher(&bob, &gateway, "key", json!({})).await;
    let mut said = vec![say(&alice, &room, "first").await];
    gateway.told(of(&said[0])).await;
    // What is no JSON stands for a database that fails for a while.
    let services = std::sync::Arc::clone(&server.inside().await.services);
    let session = services.accounts.authenticate(bob.token.as_ref().unwrap()).await.unwrap();
    let (user, device, name) = (session.user, session.device, || "broken".to_owned());
    let body = "{".to_owned();
    let broken = PusherRow { user, app_id: name(), pushkey: name(), device, body };
    let db = &services.context.db;
    let put = db.write(move |tx| Box::pin(pushers::put(tx, broken, true, 0, Quota::NONE)));
    put.await.unwrap();
    for number in 0..4 {
        said.push(say(&alice, &room, &format!("meanwhile {number}")).await);
    }
    let delete = db.write(move |tx| Box::pin(pushers::delete(tx, user, name(), name())));
    delete.await.unwrap();
    said.push(say(&alice, &room, "last").await);
    gateway.told(of(&said[5])).await;
    let mut told = ids(&gateway);
    // The first was perhaps not noted yet when it failed.
    told.dedup();
    assert_eq!(told, said);
}

#[tokio::test]
async fn a_restart_loses_and_repeats_nothing() {
    let (server, gateway) = (server().await, PushGateway::start().await);
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room_of(&[&alice, &bob]).await;
    set_pusher(&bob, &gateway, "key", json!({})).await;
    let first = say(&alice, &room, "first").await;
    gateway.told(of(&first)).await;
    gateway.does(Manner::Fails(503));
    let second = say(&alice, &room, "second").await;
    while gateway.refused() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let server = server.restart_with(|_| ()).await;
    gateway.does(Manner::Takes);
    let (alice, bob) = (alice.at(&server.url), bob.at(&server.url));
    let third = say(&alice, &room, "third").await;
    gateway.told(of(&third)).await;
    assert_eq!(ids(&gateway), [first, second, third]);
    assert_eq!(pushers(&bob).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_one_was_notified_of_is_listed_newest_first() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room_of(&[&alice, &bob]).await;
    let muted = room_of(&[&alice, &bob]).await;
    mute(&bob, &muted).await;
    say(&alice, &muted, "quiet").await;
    let first = say(&alice, &room, "first").await;
    say(&bob, &room, "his own").await;
    let named =
        json!({ "msgtype": "m.text", "body": "you", "m.mentions": { "user_ids": [bob.user_id] } });
    let second = send(&alice, &room, "m.room.message", named).await;
    let third = say(&alice, &room, "third").await;
    let receipt = in_room(&room, &format!("receipt/m.read/{}", encode(&second)));
    bob.post(&receipt, json!({})).await.ok();
    let list = async |query: &str| {
        let answer = bob.get(&format!("/_matrix/client/v3/notifications{query}")).await.ok();
        let listed = answer["notifications"].as_array().unwrap().clone();
        let next = answer["next_token"].as_str().map(str::to_owned);
        let listed = listed.into_iter().map(|one| {
            assert_eq!(one["room_id"], room.as_str());
            assert_eq!(one["actions"][0], "notify");
            (one["event"]["event_id"].as_str().unwrap().to_owned(), one["read"] == true)
        });
        (listed.collect::<Vec<_>>(), next)
    };
    let all = [(third.clone(), false), (second.clone(), true), (first.clone(), true)];
    assert_eq!(list("").await, (all.to_vec(), None));
    assert_eq!(list("?only=highlight").await, (vec![all[1].clone()], None));
    let (mut pages, mut from) = (Vec::new(), String::new());
    loop {
        let (page, next) = list(&format!("?limit=1{from}")).await;
        pages.extend(page);
        let Some(next) = next else { break };
        from = format!("&from={next}");
    }
    assert_eq!(pages, all);
    for bad in ["x", "n", "n-1", "1"] {
        let path = format!("/_matrix/client/v3/notifications?from={bad}");
        bob.get(&path).await.err(400, "M_INVALID_PARAM");
    }
}

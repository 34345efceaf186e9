//! JSON that no client can read is refused wherever it is stored or passed on, and what older versions
//! stored of it does not make an answer unreadable.

use colonnade_storage::{
    delivery::to_device::{self, InboxLimits, Sent},
    quota::Quota,
    users::account_data,
};
use colonnade_testkit::{Client, Method, TestServer};
use colonnade_users::account_data::AccountData;
use serde_json::{json, value::RawValue};

const V3: &str = "/_matrix/client/v3";

/// Values that cannot stand anywhere.
fn unreadable() -> Vec<String> {
    vec![
        format!("{}{}", "[".repeat(30_000), "]".repeat(30_000)),
        format!("{}1{}", r#"{"a":"#.repeat(101), "}".repeat(101)),
        r#""\ud800""#.to_owned(),
        r#""\udc00\ud800""#.to_owned(),
        "1e400".to_owned(),
        "[-1e999]".to_owned(),
        r#"{"twice":1,"twice":2}"#.to_owned(),
    ]
}

/// Every endpoint that stores JSON or passes it on, with a body that has `VALUE` where anything may stand.
fn places(user: &Client, room: &str) -> Vec<(Method, String, &'static str)> {
    let own = format!("{V3}/user/{}", user.user_id);
    let in_room = format!("{V3}/rooms/{room}");
    vec![
        (
            Method::PUT,
            format!("{V3}/sendToDevice/m.x/t"),
            r#"{"messages":{"@bob:localhost":{"*":{"x":VALUE}}}}"#,
        ),
        (Method::PUT, format!("{own}/account_data/org.x"), r#"{"x":VALUE}"#),
        (Method::PUT, format!("{own}/rooms/{room}/account_data/org.x"), r#"{"x":VALUE}"#),
        (Method::PUT, format!("{own}/rooms/{room}/tags/u.x"), r#"{"x":VALUE}"#),
        (Method::POST, format!("{own}/filter"), r#"{"x":VALUE}"#),
        (Method::PUT, format!("{in_room}/send/m.x/t"), r#"{"x":VALUE}"#),
        (Method::PUT, format!("{in_room}/state/m.x/k"), r#"{"x":VALUE}"#),
        (Method::POST, format!("{in_room}/receipt/m.read/$x"), r#"{"x":VALUE}"#),
        (Method::POST, format!("{in_room}/read_markers"), r#"{"x":VALUE}"#),
        (Method::PUT, format!("{in_room}/typing/{}", user.user_id), r#"{"typing":true,"x":VALUE}"#),
        (Method::PUT, format!("{V3}/profile/{}/org.x", user.user_id), r#"{"org.x":VALUE}"#),
        (
            Method::PUT,
            format!("{V3}/presence/{}/status", user.user_id),
            r#"{"presence":"online","x":VALUE}"#,
        ),
        (
            Method::PUT,
            format!("{V3}/pushrules/global/override/x"),
            r#"{"actions":[],"conditions":[],"x":VALUE}"#,
        ),
        (
            Method::POST,
            format!("{V3}/pushers/set"),
            r#"{"kind":"http","app_id":"a","pushkey":"k","app_display_name":"a","device_display_name":"d","lang":"en","data":{"url":"https://x/_matrix/push/v1/notify","x":VALUE}}"#,
        ),
        (Method::POST, format!("{V3}/keys/upload"), r#"{"device_keys":{"x":VALUE}}"#),
        (Method::POST, format!("{V3}/keys/device_signing/upload"), r#"{"x":VALUE}"#),
        (
            Method::POST,
            format!("{V3}/keys/signatures/upload"),
            r#"{"@a:localhost":{"x":{"x":VALUE}}}"#,
        ),
        (
            Method::POST,
            format!("{V3}/room_keys/version"),
            r#"{"algorithm":"m.x","auth_data":{"x":VALUE}}"#,
        ),
        (
            Method::PUT,
            format!("{V3}/room_keys/keys?version=1"),
            r#"{"rooms":{"!r:x":{"sessions":{"s":{"first_message_index":0,"forwarded_count":0,"is_verified":false,"session_data":{"x":VALUE}}}}}}"#,
        ),
        (Method::POST, format!("{V3}/createRoom"), r#"{"creation_content":{"x":VALUE}}"#),
        (
            Method::POST,
            format!("{V3}/createRoom"),
            r#"{"initial_state":[{"type":"m.x","content":{"x":VALUE}}]}"#,
        ),
        (Method::POST, format!("{in_room}/report"), r#"{"reason":"r","x":VALUE}"#),
        (Method::PUT, format!("{V3}/directory/list/room/{room}"), r#"{"x":VALUE}"#),
        (Method::PUT, format!("{V3}/devices/{}", user.device_id), r#"{"x":VALUE}"#),
    ]
}

async fn room(user: &Client) -> String {
    let made = user.post(&format!("{V3}/createRoom"), json!({})).await.ok();
    made["room_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn json_that_clients_cannot_read_is_refused_wherever_it_is_stored_or_passed_on() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room(&alice).await;
    for (method, path, body) in places(&alice, &room) {
        for value in unreadable() {
            let text = body.replace("VALUE", &value);
            let answer = alice.send(method.clone(), &path, Some(text.into_bytes())).await;
            let shown = &value[..value.len().min(30)];
            let code = answer.body["errcode"].as_str();
            assert_eq!((answer.status, code), (400, Some("M_BAD_JSON")), "{path} {shown}");
        }
        let broken = body.replace("VALUE", "{1}");
        alice.send(method, &path, Some(broken.into_bytes())).await.err(400, "M_NOT_JSON");
    }
    // An event is canonical JSON, which has no fractions and no large integers.
    let send = format!("{V3}/rooms/{room}/send/m.x/u");
    for number in ["1.5", "9007199254740992", "1e3"] {
        let body = format!(r#"{{"x":{number}}}"#).into_bytes();
        alice.send(Method::PUT, &send, Some(body)).await.err(400, "M_BAD_JSON");
    }
    let fine = format!(
        r#"{{"x":[1.5,1e300,9007199254740993,"\ud83d\ude00"],"y":{}1{}}}"#,
        "[".repeat(90),
        "]".repeat(90)
    );
    let path = format!("{V3}/user/{}/account_data/org.fine", alice.user_id);
    alice.send(Method::PUT, &path, Some(fine.into_bytes())).await.ok();
    for user in [&alice, &bob] {
        let synced = user.get(&format!("{V3}/sync")).await.ok();
        assert!(synced["next_batch"].is_string(), "what was refused is in nobody's sync");
    }
}

#[tokio::test]
async fn what_older_versions_stored_leaves_a_sync_readable() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let inside = server.inside().await;
    let services = &inside.services;
    let session = services.accounts.authenticate(alice.token.as_ref().unwrap()).await.unwrap();
    let sender = services.accounts.authenticate(bob.token.as_ref().unwrap()).await.unwrap();
    for (n, value) in unreadable().into_iter().take(6).enumerate() {
        let text = format!(r#"{{"x":{value}}}"#);
        let message = format!(r#"{{"content":{text},"sender":"{}","type":"m.x"}}"#, bob.user_id);
        let body = RawValue::from_string(text).unwrap();
        let data = AccountData { room: None, event_type: format!("org.x{n}"), body };
        let (user, device, from) = (session.user, session.device, sender.user);
        let txn = to_device::Txn {
            device: sender.device,
            event_type: "m.x".to_owned(),
            txn_id: format!("t{n}"),
            ts: 0,
            forget_before_ts: 0,
        };
        let db = &services.context.db;
        let put = db.write(move |tx| Box::pin(account_data::put(tx, user, data, &Quota::NONE)));
        put.await.unwrap();
        let send = db.write(move |tx| {
            let messages = vec![to_device::Message { device, json: message, is_own: false }];
            Box::pin(async move {
                to_device::send(tx, txn, from, messages, Vec::new(), InboxLimits::NONE).await
            })
        });
        assert_eq!(send.await.unwrap(), Sent::Now { full: 0 });
    }
    let after = json!({ "messages": { (&alice.user_id): { "*": { "last": true } } } });
    bob.put(&format!("{V3}/sendToDevice/m.last/t"), after).await.ok();
    // Null if it could not be read.
    let synced = alice.get(&format!("{V3}/sync")).await.ok();
    let messages = synced["to_device"]["events"].as_array().unwrap();
    let kinds: Vec<&str> = messages.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["m.x", "m.x", "m.x", "m.x", "m.x", "m.x", "m.last"]);
    assert_eq!(messages[0]["content"], json!({}));
    let data = synced["account_data"]["events"].as_array().unwrap();
    let kept = data.iter().filter(|event| event["type"].as_str().unwrap().starts_with("org.x"));
    assert!(kept.map(|event| &event["content"]).all(|content| *content == json!({})));
    let path = format!("{V3}/user/{}/account_data/org.x0", alice.user_id);
    assert_eq!(alice.get(&path).await.ok(), json!({}));
    alice.put(&path, json!({ "new": 1 })).await.ok();
    assert_eq!(alice.get(&path).await.ok(), json!({ "new": 1 }));
}

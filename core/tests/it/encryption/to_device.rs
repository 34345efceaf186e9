//! Messages to devices: once each, in order, until they are acknowledged.

use colonnade_testkit::{Answer, Client, TestServer};
use serde_json::{Value, json};

use super::{at, session};

async fn send(from: &Client, txn_id: &str, messages: Value) -> Answer {
    let path = format!("/_matrix/client/v3/sendToDevice/m.test/{txn_id}");
    from.put(&path, json!({ "messages": messages })).await
}

/// Reads an inbox as sync does: everything after `after`, with the place of the last message.
async fn inbox(server: &TestServer, client: &Client, after: i64) -> (Vec<Value>, i64) {
    let device = session(server, client).await.device;
    let to_device = &server.inside().await.services.to_device;
    let messages = to_device.messages(device, after, i64::MAX, 1_000).await.unwrap();
    let last = messages.last().map_or(after, |message| message.pos);
    let events = messages.iter().map(|m| serde_json::from_str(m.event.get()).unwrap());
    (events.collect(), last)
}

#[tokio::test]
async fn messages_arrive_once_at_the_right_devices() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let phone = alice.another_device().await;
    let bob = server.user("bob").await;
    let to_one = json!({ &alice.user_id: { &phone.device_id: { "n": 1 }, "UNKNOWN": { "n": 0 } } });
    send(&bob, "a", to_one.clone()).await.ok();
    send(&bob, "a", to_one).await.ok();
    let to_all = json!({ &alice.user_id: { "*": { "n": 2 } }, "@nobody:localhost": { "*": {} } });
    send(&bob, "b", to_all).await.ok();
    let expected =
        |n: i64| json!({ "type": "m.test", "sender": bob.user_id, "content": { "n": n } });
    let (messages, last) = inbox(&server, &phone, 0).await;
    assert_eq!(messages, [expected(1), expected(2)]);
    assert_eq!(inbox(&server, &alice, 0).await.0, [expected(2)]);
    assert!(inbox(&server, &bob, 0).await.0.is_empty());

    // Another device may use the same transaction id, and so may another type.
    let again = json!({ &alice.user_id: { &phone.device_id: { "n": 3 } } });
    send(&alice, "a", again.clone()).await.ok();
    let path = "/_matrix/client/v3/sendToDevice/m.other/a";
    bob.put(path, json!({ "messages": again })).await.ok();
    assert_eq!(inbox(&server, &phone, last).await.0.len(), 2);
}

#[tokio::test]
async fn an_inbox_survives_a_restart_and_is_emptied_by_acknowledging() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    for n in 0..5 {
        let message = json!({ &alice.user_id: { &alice.device_id: { "n": n } } });
        send(&bob, &format!("t{n}"), message).await.ok();
    }
    let server = server.restart().await;
    let bob = at(&server, bob);
    // The client did not see the answer and sends once more.
    let message = json!({ &alice.user_id: { &alice.device_id: { "n": 4 } } });
    send(&bob, "t4", message).await.ok();
    let (messages, last) = inbox(&server, &alice, 0).await;
    let order: Vec<_> = messages.iter().map(|m| m["content"]["n"].as_i64().unwrap()).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
    assert_eq!(inbox(&server, &alice, 0).await.0.len(), 5, "asking again gives the same");

    let device = session(&server, &alice).await.device;
    let to_device = &server.inside().await.services.to_device;
    to_device.acknowledge(device, last - 1).await.unwrap();
    to_device.acknowledge(device, last - 1).await.unwrap();
    assert_eq!(inbox(&server, &alice, 0).await.0.len(), 1);
    let limited = to_device.messages(device, 0, last - 1, 10).await.unwrap();
    assert!(limited.is_empty());
    to_device.acknowledge(device, last).await.unwrap();
    let message = json!({ &alice.user_id: { "*": { "n": 5 } } });
    send(&bob, "t5", message).await.ok();
    let server = server.restart().await;
    let (messages, _) = inbox(&server, &alice, 0).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["content"]["n"], 5);
}

#[tokio::test]
async fn odd_messages_are_refused() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let to = |content: Value| json!({ &alice.user_id: { "*": content } });
    let large = "x".repeat(70_000);
    send(&alice, "a", to(json!({ "text": large }))).await.err(413, "M_TOO_LARGE");
    send(&alice, "a", to(json!("text"))).await.err(400, "M_BAD_JSON");
    send(&alice, "a", json!([])).await.err(400, "M_BAD_JSON");
    send(&alice, "a", json!({ "no user": {} })).await.err(400, "M_BAD_JSON");
    let path = "/_matrix/client/v3/sendToDevice/m.test/a";
    alice.put(path, json!({})).await.err(400, "M_BAD_JSON");
    let long = format!("/_matrix/client/v3/sendToDevice/m.test/{}", "t".repeat(300));
    alice.put(&long, json!({ "messages": {} })).await.err(400, "M_INVALID_PARAM");
    assert!(inbox(&server, &alice, 0).await.0.is_empty());
    // Strangers on other servers are passed over as long as nobody can reach them.
    send(&alice, "b", json!({ "@carol:example.org": { "*": {} } })).await.ok();
}

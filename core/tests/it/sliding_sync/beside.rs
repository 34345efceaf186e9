//! What is told beside rooms: messages to the device, keys, account data, receipts, who types.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use super::told::{all, pos, slide, slide_with};
use crate::sync::{create, encode, in_room, room_of, say};

fn with(extensions: Value) -> Value {
    let mut wanted = all(1, json!([]));
    wanted["extensions"] = extensions;
    wanted
}

async fn send_to(from: &Client, to: &Client, number: u32) {
    let content = json!({ "n": number });
    let body = json!({ "messages": { &to.user_id: { "*": content } } });
    let path = format!("/_matrix/client/v3/sendToDevice/m.test/{number}");
    from.put(&path, body).await.ok();
}

fn numbers(answer: &Value) -> Vec<u64> {
    let events = answer["extensions"]["to_device"]["events"].as_array().unwrap();
    events.iter().map(|event| event["content"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn messages_to_the_device_stay_until_their_token_comes_back() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    for number in 0..3 {
        send_to(&bob, &alice, number).await;
    }
    let wanted = |since: Option<&str>| {
        with(json!({ "to_device": { "enabled": true, "limit": 2, "since": since } }))
    };
    let first = slide(&alice, "", &wanted(None)).await;
    assert_eq!(numbers(&first), [0, 1]);
    let again = slide(&alice, "", &wanted(None)).await;
    assert_eq!(numbers(&again), [0, 1], "nobody has acknowledged them");
    let token = |answer: &Value| {
        answer["extensions"]["to_device"]["next_batch"].as_str().unwrap().to_owned()
    };
    // What is left over is told at once.
    let since = token(&again);
    let second = slide_with(&alice, pos(&again), "timeout=30000", wanted(Some(&since))).await;
    assert_eq!(numbers(&second), [2]);
    let anew = slide(&alice, "", &wanted(None)).await;
    assert_eq!(numbers(&anew), [2], "the others were acknowledged");
    let since = token(&anew);
    let (third, ()) = tokio::join!(
        slide_with(&alice, pos(&anew), "timeout=30000", wanted(Some(&since))),
        send_to(&bob, &alice, 3)
    );
    assert_eq!(numbers(&third), [3]);
    // A token of somebody else is one of ours, and tells nothing of him.
    let of_bob = slide(&bob, "", &wanted(Some(&token(&third)))).await;
    assert!(numbers(&of_bob).is_empty());
}

#[tokio::test]
async fn a_token_of_messages_from_the_future_loses_none() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let wanted = |since: &Value| with(json!({ "to_device": { "enabled": true, "since": since } }));
    let future = json!("999999999999");
    let first = slide(&alice, "", &wanted(&future)).await;
    send_to(&bob, &alice, 7).await;
    let since = &first["extensions"]["to_device"]["next_batch"];
    let second = slide(&alice, &pos(&first), &wanted(since)).await;
    assert_eq!(numbers(&second), [7], "{second}");
    let since = &second["extensions"]["to_device"]["next_batch"];
    assert!(numbers(&slide(&alice, &pos(&second), &wanted(since)).await).is_empty());
}

#[tokio::test]
async fn keys_are_counted_and_who_changed_them_is_told() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    room_of(&[&alice, &bob]).await;
    let wanted = with(json!({ "e2ee": { "enabled": true } }));
    let first = slide(&alice, "", &wanted).await;
    let keys = &first["extensions"]["e2ee"];
    assert_eq!(keys["device_one_time_keys_count"]["signed_curve25519"], 0, "{first}");
    assert_eq!(keys["device_unused_fallback_key_types"], json!([]));
    let carol = server.user("carol").await;
    let together = [&carol, &alice];
    let (second, room) = tokio::join!(
        slide_with(&alice, pos(&first), "timeout=30000", wanted.clone()),
        room_of(&together)
    );
    let mut last = second;
    let mut changed = last["extensions"]["e2ee"]["device_lists"]["changed"].clone();
    while !changed.to_string().contains(&carol.user_id) {
        last = slide_with(&alice, pos(&last), "timeout=30000", wanted.clone()).await;
        changed = last["extensions"]["e2ee"]["device_lists"]["changed"].clone();
    }
    alice.post(&in_room(&room, "leave"), json!({})).await.ok();
    let third = slide(&alice, &pos(&last), &wanted).await;
    assert_eq!(third["extensions"]["e2ee"]["device_lists"]["left"], json!([carol.user_id]));
}

#[tokio::test]
async fn account_data_is_told_for_the_user_and_for_rooms_that_are_shown() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let older = create(&alice, json!({})).await;
    let newer = create(&alice, json!({})).await;
    let user = encode(&alice.user_id);
    let put = async |rest: &str, content: Value| {
        alice.put(&format!("/_matrix/client/v3/user/{user}/{rest}"), content).await.ok();
    };
    let of_room = |room: &str| format!("rooms/{}/account_data/org.test", encode(room));
    put("account_data/org.own", json!({ "n": 1 })).await;
    put(&of_room(&older), json!({ "n": 2 })).await;
    let enabled = json!({ "account_data": { "enabled": true } });
    let mut wanted = with(enabled);
    wanted["lists"]["all"]["ranges"] = json!([[0, 0]]);
    let first = slide(&alice, "", &wanted).await;
    let data = &first["extensions"]["account_data"];
    let types = |data: &Value| data["global"].as_array().map_or(0, Vec::len);
    assert!(data["global"].to_string().contains("org.own"), "{first}");
    assert!(data["global"].to_string().contains("m.push_rules") && data.get("rooms").is_none());
    // A room that comes into the window brings its data along.
    wanted["lists"]["all"]["ranges"] = json!([[0, 9]]);
    let second = slide(&alice, &pos(&first), &wanted).await;
    let data = &second["extensions"]["account_data"];
    assert_eq!(data["rooms"][&older][0]["content"]["n"], 2, "{second}");
    assert_eq!(types(data), 0);
    let path = of_room(&newer);
    let (third, ()) = tokio::join!(
        slide_with(&alice, pos(&second), "timeout=30000", wanted.clone()),
        put(&path, json!({ "n": 3 }))
    );
    let data = &third["extensions"]["account_data"];
    assert_eq!(data["rooms"][&newer][0]["content"]["n"], 3, "{third}");
    assert!(data["rooms"].get(&older).is_none() && third["rooms"] == json!({}));
    let fourth = slide(&alice, &pos(&third), &wanted).await;
    let data = &fourth["extensions"]["account_data"];
    assert!(data["global"].is_null() && data["rooms"].is_null(), "{fourth}");
}

#[tokio::test]
async fn receipts_and_who_types_are_told_of_rooms_that_are_shown() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let old = say(&alice, &room, "old").await;
    let new = say(&alice, &room, "new").await;
    let read = async |client: &Client, event: &str| {
        let path = in_room(&room, &format!("receipt/m.read/{}", encode(event)));
        client.post(&path, json!({})).await.ok();
    };
    read(&bob, &old).await;
    let on = json!({ "enabled": true });
    let wanted = with(json!({ "receipts": on, "typing": on }));
    // What nobody is shown nobody has read.
    let first = slide(&alice, "", &wanted).await;
    let of_room = |answer: &Value, kind: &str| answer["extensions"][kind]["rooms"][&room].clone();
    assert_eq!(of_room(&first, "receipts"), Value::Null, "{first}");
    let (second, ()) = tokio::join!(
        slide_with(&alice, pos(&first), "timeout=30000", wanted.clone()),
        read(&bob, &new)
    );
    let receipts = of_room(&second, "receipts");
    assert_eq!(receipts["type"], "m.receipt");
    assert!(receipts["content"][&new]["m.read"][&bob.user_id]["ts"].is_i64(), "{second}");
    let typing = in_room(&room, &format!("typing/{}", encode(&bob.user_id)));
    let (third, ()) =
        tokio::join!(slide_with(&alice, pos(&second), "timeout=30000", wanted.clone()), async {
            bob.put(&typing, json!({ "typing": true, "timeout": 30_000 })).await.ok();
        });
    let content = &of_room(&third, "typing")["content"];
    assert_eq!(content["user_ids"], json!([bob.user_id]), "{third}");
    bob.put(&typing, json!({ "typing": false })).await.ok();
    let fourth = slide_with(&alice, pos(&third), "timeout=30000", wanted.clone()).await;
    assert_eq!(of_room(&fourth, "typing")["content"]["user_ids"], json!([]), "{fourth}");
    // A beginning has the receipts of what it shows.
    let anew = slide(&alice, "", &wanted).await;
    let content = &of_room(&anew, "receipts")["content"];
    assert!(content[&new]["m.read"][&bob.user_id].is_object(), "{anew}");
    // Not of rooms that are not meant.
    let none = with(json!({ "receipts": { "enabled": true, "lists": [], "rooms": [] } }));
    let quiet = slide(&alice, "", &none).await;
    assert_eq!(of_room(&quiet, "receipts"), Value::Null);
}

#[tokio::test]
async fn what_is_read_elsewhere_is_no_longer_unread() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let said = say(&bob, &room, "hello").await;
    let wanted = all(1, json!([]));
    let first = slide(&alice, "", &wanted).await;
    assert_eq!(first["rooms"][&room]["notification_count"], 1);
    let path = in_room(&room, &format!("receipt/m.read.private/{}", encode(&said)));
    let (second, ()) =
        tokio::join!(slide_with(&alice, pos(&first), "timeout=30000", wanted.clone()), async {
            alice.post(&path, json!({})).await.ok();
        });
    assert_eq!(second["rooms"][&room]["notification_count"], 0, "{second}");
}

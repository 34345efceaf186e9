//! Proposals that are no part of the specification yet, each under the name that clients look for.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::{encode, filter, in_room, sync};

fn data(client: &Client, rest: &str) -> String {
    format!("/_matrix/client/v3/user/{}/{rest}", encode(&client.user_id))
}

async fn create(client: &Client, request: Value) -> String {
    let made = client.post("/_matrix/client/v3/createRoom", request).await.ok();
    made["room_id"].as_str().unwrap().to_owned()
}

fn has(events: &Value, event_type: &str, content: &Value) -> bool {
    let mut events = events.as_array().into_iter().flatten();
    events.any(|event| event["type"] == event_type && event["content"] == *content)
}

fn token(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn account_data_is_deleted_by_its_endpoint_and_by_being_emptied() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let kind = "org.example.pets";
    let at = |rest: &str| format!("{rest}account_data/{kind}");
    let of_room = at(&format!("rooms/{}/", encode(&room)));
    for (path, is_about_room) in [(at(""), false), (of_room, true)] {
        let own = data(&alice, &path);
        let unstable = own.replace("/v3/", "/unstable/org.matrix.msc3391/");
        let list = |answer: &Value| match is_about_room {
            true => answer["rooms"]["join"][&room]["account_data"]["events"].clone(),
            false => answer["account_data"]["events"].clone(),
        };
        // What never was need not be deleted.
        alice.delete(&unstable, None).await.ok();
        for by_endpoint in [true, false] {
            alice.put(&own, json!({ "cats": 2 })).await.ok();
            let before = sync(&alice, None).await;
            assert!(has(&list(&before), kind, &json!({ "cats": 2 })), "{before}");
            match by_endpoint {
                true => drop(alice.delete(&unstable, None).await.ok()),
                false => drop(alice.put(&own, json!({})).await.ok()),
            }
            let after = sync(&alice, Some(&token(&before))).await;
            assert!(has(&list(&after), kind, &json!({})), "others hear of it: {after}");
            alice.get(&own).await.err(404, "M_NOT_FOUND");
            let whole = sync(&alice, None).await;
            assert!(!has(&list(&whole), kind, &json!({})), "and then it is gone: {whole}");
        }
    }
    let rules = data(&alice, "account_data/m.push_rules");
    let rules = rules.replace("/v3/", "/unstable/org.matrix.msc3391/");
    alice.delete(&rules, None).await.err(405, "M_BAD_JSON");
    let bob = server.user("bob").await;
    let of_alice = data(&alice, &at("")).replace("/v3/", "/unstable/org.matrix.msc3391/");
    bob.delete(&of_alice, None).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn what_a_device_says_about_its_notifications_goes_with_it() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let gone = alice.another_device().await;
    let device = &*gone.device_id;
    let kinds = ["m.local_notification_settings", "org.matrix.msc3890.local_notification_settings"];
    let silent = json!({ "is_silenced": true });
    for kind in kinds {
        for device in [device, &alice.device_id] {
            let own = data(&alice, &format!("account_data/{kind}.{device}"));
            alice.put(&own, silent.clone()).await.ok();
        }
    }
    let before = sync(&alice, None).await;
    gone.post("/_matrix/client/v3/logout", json!({})).await.ok();
    let after = sync(&alice, Some(&token(&before))).await;
    for kind in kinds {
        let of = |device: &str| format!("{kind}.{device}");
        assert!(has(&after["account_data"]["events"], &of(device), &json!({})), "{after}");
        let path = |device: &str| data(&alice, &format!("account_data/{}", of(device)));
        alice.get(&path(device)).await.err(404, "M_NOT_FOUND");
        assert_eq!(alice.get(&path(&alice.device_id)).await.ok(), silent);
    }
}

#[tokio::test]
async fn polls_have_push_rules() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let at = "/_matrix/client/v3/pushrules/global";
    for (kind, name, event, actions) in [
        ("override", "poll_response", "response", 0),
        ("underride", "poll_start_one_to_one", "start", 2),
        ("underride", "poll_start", "start", 1),
        ("underride", "poll_end_one_to_one", "end", 2),
        ("underride", "poll_end", "end", 1),
    ] {
        let rule = format!(".org.matrix.msc3930.rule.{name}");
        let rule = alice.get(&format!("{at}/{kind}/{rule}")).await.ok();
        let pattern = format!("org.matrix.msc3381.poll.{event}");
        let condition = json!({ "kind": "event_match", "key": "type", "pattern": pattern });
        assert!(rule["conditions"].as_array().unwrap().contains(&condition), "{rule}");
        assert_eq!(rule["actions"].as_array().unwrap().len(), actions, "{rule}");
        assert_eq!((&rule["default"], &rule["enabled"]), (&json!(true), &json!(true)));
    }
    // Whoever changed his rules has them too, and may silence them.
    let muted = format!("{at}/underride/.org.matrix.msc3930.rule.poll_end/enabled");
    alice.put(&muted, json!({ "enabled": false })).await.ok();
    assert_eq!(alice.get(&muted).await.ok()["enabled"], false);
}

#[tokio::test]
async fn messages_are_chosen_by_what_they_relate_to() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let mut sent: Vec<String> = Vec::new();
    for (number, relation) in [None, Some("m.thread"), Some("m.reference")].iter().enumerate() {
        let mut body = json!({ "msgtype": "m.text", "body": number.to_string() });
        if let Some(relation) = relation {
            body["m.relates_to"] = json!({ "rel_type": relation, "event_id": sent[0] });
        }
        let path = in_room(&room, &format!("send/m.room.message/{number}"));
        let event = alice.put(&path, body).await.ok();
        sent.push(event["event_id"].as_str().unwrap().to_owned());
    }
    for (wanted, expected) in [
        (json!({ "org.matrix.msc3874.rel_types": ["m.thread"] }), &sent[1..2]),
        (json!({ "org.matrix.msc3874.rel_types": ["m.thread", "m.reference"] }), &sent[1..]),
        (json!({ "org.matrix.msc3874.not_rel_types": ["m.reference"] }), &sent[..2]),
        (json!({ "rel_types": [null] }), &sent[..1]),
    ] {
        let mut wanted = wanted;
        wanted["types"] = json!(["m.room.message"]);
        let path = in_room(&room, &format!("messages?dir=f&{}", filter(wanted.clone())));
        let page = alice.get(&path).await.ok();
        let found = page["chunk"].as_array().unwrap().iter();
        let found: Vec<&str> = found.filter_map(|event| event["event_id"].as_str()).collect();
        assert_eq!(found, expected, "{wanted}");
    }
}

#[tokio::test]
async fn invitations_are_allowed_ignored_and_blocked_by_lists() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let invite = json!({ "user_id": bob.user_id });
    let says = async |content: Value| {
        let own = data(&bob, "account_data/org.matrix.msc4155.invite_permission_config");
        bob.put(&own, content).await.ok();
    };
    let shown = async |room: &str| {
        let answer = sync(&bob, None).await;
        answer["rooms"]["invite"].get(room).is_some()
    };
    says(json!({ "blocked_users": ["@ali*"] })).await;
    let room = create(&alice, json!({})).await;
    alice.post(&in_room(&room, "invite"), invite.clone()).await.err(403, "M_INVITE_BLOCKED");
    says(json!({ "ignored_servers": ["l*st"] })).await;
    alice.post(&in_room(&room, "invite"), invite).await.ok();
    assert!(!shown(&room).await);
    says(json!({ "ignored_servers": ["*"], "allowed_users": [alice.user_id] })).await;
    assert!(shown(&room).await);
}

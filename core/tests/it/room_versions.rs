//! Every room version through the API: made, spoken in, redacted, moderated, replaced by each kind of other.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::create;

const VERSIONS: [u32; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// Writes a path argument; ids of room version 3 may contain slashes.
fn encode(argument: &str) -> String {
    let mut encoded = String::new();
    for byte in argument.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn in_room(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", encode(room))
}

async fn say(client: &Client, room: &str, txn: &str) -> String {
    let path = in_room(room, &format!("send/m.room.message/{txn}"));
    let answer = client.put(&path, json!({ "msgtype": "m.text", "body": txn })).await.ok();
    answer["event_id"].as_str().unwrap().to_owned()
}

/// Whether an id has the form of the version, for events of the server `localhost`.
fn fits(id: &str, version: u32) -> bool {
    let name = id.strip_prefix('$').unwrap();
    let is_hash = |extra: &str| {
        name.len() == 43 && name.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    };
    match version {
        1 | 2 => name.strip_suffix(":localhost").is_some_and(|opaque| opaque.len() == 18),
        3 => is_hash("+/"),
        _ => is_hash("-_"),
    }
}

#[tokio::test]
async fn all_versions_are_stable() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let answer = alice.get("/_matrix/client/v3/capabilities").await.ok();
    let versions = &answer["capabilities"]["m.room_versions"];
    let available: Value = VERSIONS.iter().map(|v| (v.to_string(), json!("stable"))).collect();
    assert_eq!(versions["available"], available);
    assert_eq!(versions["default"], "12");
}

#[tokio::test]
async fn events_of_every_version_are_found_related_to_and_redacted() {
    let server = TestServer::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    for version in VERSIONS {
        let request = json!({ "room_version": version.to_string(), "preset": "public_chat" });
        let room = create(&alice, request).await;
        for client in [&bob, &carol] {
            client.post(&in_room(&room, "join"), json!({})).await.ok();
        }
        // Among so many one has a slash, where ids may.
        let mut said = Vec::new();
        for n in 0..12 {
            said.push(say(&bob, &room, &format!("t{n}")).await);
        }
        assert!(said.iter().all(|id| fits(id, version)), "{version}: {said:?}");
        let id = said.iter().find(|id| id.contains('/')).unwrap_or(&said[0]);
        let found = alice.get(&in_room(&room, &format!("event/{}", encode(id)))).await.ok();
        assert_eq!((&found["event_id"], &found["sender"]), (&json!(id), &json!(bob.user_id)));
        let context = carol.get(&in_room(&room, &format!("context/{}", encode(id)))).await.ok();
        assert_eq!(context["event"]["event_id"], *id);
        let relates = json!({ "rel_type": "m.annotation", "event_id": id, "key": "+1" });
        let react = in_room(&room, "send/m.reaction/r");
        alice.put(&react, json!({ "m.relates_to": relates })).await.ok();
        let relations =
            format!("/_matrix/client/v1/rooms/{}/relations/{}", encode(&room), encode(id));
        let answer = bob.get(&relations).await.ok();
        assert_eq!(answer["chunk"].as_array().unwrap().len(), 1, "{version}");
        bob.post(&in_room(&room, &format!("receipt/m.read/{}", encode(id))), json!({})).await.ok();

        let redact = |id: &str, n: u32| in_room(&room, &format!("redact/{}/{n}", encode(id)));
        carol.put(&redact(id, 1), json!({})).await.err(403, "M_FORBIDDEN");
        let redaction = bob.put(&redact(id, 1), json!({ "reason": "typo" })).await.ok();
        assert!(fits(redaction["event_id"].as_str().unwrap(), version), "{version}");
        alice.put(&redact(&said[1], 2), json!({})).await.ok();
        for id in [id, &said[1]] {
            let left = carol.get(&in_room(&room, &format!("event/{}", encode(id)))).await.ok();
            assert_eq!(left["content"], json!({}), "{version}");
            assert_eq!(left["unsigned"]["redacted_because"]["type"], "m.room.redaction");
        }
    }
}

#[tokio::test]
async fn rooms_of_every_version_are_moderated() {
    let server = TestServer::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let who = |client: &Client| json!({ "user_id": client.user_id });
    for version in VERSIONS {
        let room = create(&alice, json!({ "room_version": version.to_string() })).await;
        let path = |rest: &str| in_room(&room, rest);
        bob.post(&path("join"), json!({})).await.err(403, "M_FORBIDDEN");
        alice.post(&path("invite"), who(&bob)).await.ok();
        bob.post(&path("join"), json!({})).await.ok();
        let levels = alice.get(&path("state/m.room.power_levels")).await.ok();
        let mut raised = levels.clone();
        raised["users"][&bob.user_id] = json!(50);
        bob.put(&path("state/m.room.power_levels"), raised.clone()).await.err(403, "M_FORBIDDEN");
        alice.put(&path("state/m.room.power_levels"), raised.clone()).await.ok();
        // The level to notify all counts as any other from version 6 on.
        raised["notifications"] = json!({ "room": 90 });
        raised["events"]["m.room.power_levels"] = json!(50);
        let notify = alice.put(&path("state/m.room.power_levels"), raised.clone()).await;
        notify.ok();
        raised["notifications"] = json!({ "room": 10 });
        let notify = bob.put(&path("state/m.room.power_levels"), raised).await;
        drop(if version < 6 { notify.ok() } else { notify.err(403, "M_FORBIDDEN") });
        bob.post(&path("invite"), who(&carol)).await.ok();
        carol.post(&path("join"), json!({})).await.ok();
        bob.post(&path("kick"), who(&carol)).await.ok();
        carol.post(&path("join"), json!({})).await.err(403, "M_FORBIDDEN");
        bob.post(&path("ban"), who(&carol)).await.ok();
        bob.post(&path("invite"), who(&carol)).await.err(403, "M_FORBIDDEN");
        bob.post(&path("unban"), who(&carol)).await.ok();
        bob.post(&path("kick"), who(&alice)).await.err(403, "M_FORBIDDEN");

        let rules = json!({ "join_rule": "knock" });
        alice.put(&path("state/m.room.join_rules"), rules).await.ok();
        let knock = format!("/_matrix/client/v3/knock/{}", encode(&room));
        let answer = carol.post(&knock, json!({})).await;
        drop(if version < 7 { answer.err(403, "M_FORBIDDEN") } else { answer.ok() });
    }
}

#[tokio::test]
async fn members_of_another_room_come_in_from_version_8_on() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let club = create(&alice, json!({ "preset": "public_chat" })).await;
    bob.post(&in_room(&club, "join"), json!({})).await.ok();
    let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
    for version in VERSIONS {
        for (rule, first) in [("restricted", 8), ("knock_restricted", 10)] {
            let state = json!([{
                "type": "m.room.join_rules", "content": { "join_rule": rule, "allow": allow },
            }]);
            let request = json!({ "room_version": version.to_string(), "initial_state": state });
            let room = create(&alice, request).await;
            let answer = bob.post(&in_room(&room, "join"), json!({})).await;
            drop(if version < first { answer.err(403, "M_FORBIDDEN") } else { answer.ok() });
        }
    }
}

#[tokio::test]
async fn every_version_is_replaced_by_any_other() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let mut pairs: Vec<(u32, u32)> = VERSIONS.iter().flat_map(|v| [(*v, 12), (*v, 1)]).collect();
    pairs.extend(VERSIONS.map(|version| (12, version)));
    for (old, new) in pairs {
        let request =
            json!({ "room_version": old.to_string(), "preset": "public_chat", "name": "Hall" });
        let room = create(&alice, request).await;
        bob.post(&in_room(&room, "join"), json!({})).await.ok();
        if old < 10 {
            // As old clients wrote levels.
            let mut levels = alice.get(&in_room(&room, "state/m.room.power_levels")).await.ok();
            levels["users"][&bob.user_id] = json!(" +050 ");
            alice.put(&in_room(&room, "state/m.room.power_levels"), levels).await.ok();
        }
        let upgrade = json!({ "new_version": new.to_string() });
        let answer = alice.post(&in_room(&room, "upgrade"), upgrade).await.ok();
        let replacement = answer["replacement_room"].as_str().unwrap();
        let create = alice.get(&in_room(replacement, "state/m.room.create")).await.ok();
        assert_eq!(create["room_version"], new.to_string());
        assert_eq!(create["predecessor"]["room_id"], room);
        assert_eq!(create.get("creator").is_some(), new < 11, "{old} to {new}");
        let name = alice.get(&in_room(replacement, "state/m.room.name")).await.ok();
        assert_eq!(name["name"], "Hall");
        bob.post(&in_room(replacement, "join"), json!({})).await.ok();
        say(&bob, replacement, "hello").await;
        if old < 10 {
            let levels = alice.get(&in_room(replacement, "state/m.room.power_levels")).await.ok();
            assert_eq!(levels["users"][&bob.user_id], 50, "{old} to {new}");
            bob.put(&in_room(replacement, "state/m.room.topic"), json!({ "topic": "x" }))
                .await
                .ok();
        }
        // Whoever stands above the others may still speak where it ended.
        if old >= 10 {
            let late = in_room(&room, "send/m.room.message/late");
            bob.put(&late, json!({ "body": "anybody?" })).await.err(403, "M_FORBIDDEN");
        }
    }
}

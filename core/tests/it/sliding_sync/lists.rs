//! Which rooms are told of: windows, filters, and what somebody is in a room.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use super::told::{all, bodies, name, pos, required, rooms, slide};
use crate::sync::{create, encode, in_room, room_of, say};

fn window(first: u64, last: u64) -> Value {
    json!({ "lists": { "all": { "ranges": [[first, last]], "timeline_limit": 1 } } })
}

async fn invite(by: &Client, room: &str, whom: &Client) {
    by.post(&in_room(room, "invite"), json!({ "user_id": whom.user_id })).await.ok();
}

async fn put_data(client: &Client, rest: &str, content: Value) {
    let user = encode(&client.user_id);
    client.put(&format!("/_matrix/client/v3/user/{user}/{rest}"), content).await.ok();
}

/// The rooms that a filter leaves, by their names in `names`.
async fn left(client: &Client, filters: Value, names: &[(&str, &str)]) -> String {
    let list = json!({ "ranges": [[0, 99]], "timeline_limit": 0, "filters": filters });
    let answer = slide(client, "", &json!({ "lists": { "a": list } })).await;
    let found = rooms(&answer);
    assert_eq!(answer["lists"]["a"]["count"], found.len());
    let found = names.iter().filter(|(_, room)| found.iter().any(|one| one == room));
    found.map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_window_moves_over_rooms_by_their_latest_events() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut made = Vec::new();
    for _ in 0..6 {
        made.push(create(&alice, json!({})).await);
    }
    let first = slide(&alice, "", &window(0, 1)).await;
    assert_eq!(first["lists"]["all"]["count"], 6);
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(rooms(&first)), sorted(made[4..].to_vec()));
    // A window that grows tells of what comes in.
    let second = slide(&alice, &pos(&first), &window(0, 3)).await;
    assert_eq!(sorted(rooms(&second)), sorted(made[2..4].to_vec()));
    // A room that comes up is new; those that go down are not gone.
    say(&alice, &made[0], "up").await;
    let third = slide(&alice, &pos(&second), &window(0, 3)).await;
    assert_eq!(rooms(&third), [made[0].clone()]);
    assert_eq!(third["rooms"][&made[0]]["initial"], true);
    // One that left the window and comes back is told of from where it was.
    say(&alice, &made[2], "one").await;
    say(&alice, &made[5], "other").await;
    let fourth = slide(&alice, &pos(&third), &window(0, 0)).await;
    assert_eq!(rooms(&fourth), [made[5].clone()]);
    let fifth = slide(&alice, &pos(&fourth), &window(0, 5)).await;
    assert_eq!(sorted(rooms(&fifth)), sorted(vec![made[1].clone(), made[2].clone()]));
    assert_eq!(bodies(&fifth["rooms"][&made[2]]), ["one"]);
    assert!(fifth["rooms"][&made[2]].get("initial").is_none(), "{fifth}");
    assert_eq!(fifth["rooms"][&made[1]]["initial"], true);
}

#[tokio::test]
async fn every_filter_leaves_its_rooms() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let plain = create(&alice, json!({})).await;
    let space = create(&alice, json!({ "creation_content": { "type": "m.space" } })).await;
    let secret = create(
        &alice,
        json!({ "initial_state": [{
        "type": "m.room.encryption", "content": { "algorithm": "m.megolm.v1.aes-sha2" },
    }] }),
    )
    .await;
    let with_bob = create(&alice, json!({})).await;
    let invited = create(&bob, json!({ "invite": [alice.user_id] })).await;
    let names = [
        ("plain", &*plain),
        ("space", &*space),
        ("secret", &*secret),
        ("bob", &*with_bob),
        ("invited", &*invited),
    ];
    put_data(&alice, "account_data/m.direct", json!({ &bob.user_id: [with_bob] })).await;
    let path = |tag: &str, room: &str| format!("rooms/{}/tags/{tag}", encode(room));
    put_data(&alice, &path("m.favourite", &plain), json!({})).await;
    put_data(&alice, &path("m.lowpriority", &plain), json!({})).await;
    put_data(&alice, &path("m.favourite", &secret), json!({})).await;
    let child = in_room(&space, &format!("state/m.space.child/{}", encode(&secret)));
    alice.put(&child, json!({ "via": ["here"] })).await.ok();
    for (filters, expected) in [
        (json!({}), "plain space secret bob invited"),
        (json!({ "is_dm": true }), "bob"),
        (json!({ "is_dm": false }), "plain space secret invited"),
        (json!({ "is_encrypted": true }), "secret"),
        (json!({ "is_encrypted": false }), "plain space bob invited"),
        (json!({ "is_invite": true }), "invited"),
        (json!({ "is_invite": false }), "plain space secret bob"),
        (json!({ "room_types": ["m.space"] }), "space"),
        (json!({ "room_types": [null] }), "plain secret bob invited"),
        (json!({ "not_room_types": ["m.space"] }), "plain secret bob invited"),
        (json!({ "room_types": ["m.space"], "not_room_types": ["m.space"] }), ""),
        (json!({ "tags": ["m.favourite"] }), "plain secret"),
        (json!({ "not_tags": ["m.favourite"] }), "space bob invited"),
        (json!({ "tags": ["m.favourite"], "not_tags": ["m.lowpriority"] }), "secret"),
        (json!({ "spaces": [space] }), "secret"),
        (json!({ "spaces": [plain] }), ""),
        (json!({ "is_dm": null, "is_invite": false, "is_encrypted": true }), "secret"),
    ] {
        assert_eq!(left(&alice, filters.clone(), &names).await, expected, "{filters}");
    }
}

#[tokio::test]
async fn a_room_that_becomes_direct_says_so() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let wanted = all(1, json!([]));
    let first = slide(&alice, "", &wanted).await;
    assert!(first["rooms"][&room].get("is_dm").is_none());
    put_data(&alice, "account_data/m.direct", json!({ "@bob:x": [room] })).await;
    let second = slide(&alice, &pos(&first), &wanted).await;
    assert_eq!(second["rooms"][&room]["is_dm"], true, "{second}");
    assert_eq!(second["rooms"][&room]["timeline"], json!([]));
    put_data(&alice, "account_data/m.direct", json!({})).await;
    let third = slide(&alice, &pos(&second), &wanted).await;
    assert_eq!(third["rooms"][&room]["is_dm"], false, "{third}");
}

#[tokio::test]
async fn invitations_and_knocks_show_what_outsiders_see() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let wanted = all(5, json!([["*", "*"]]));
    let first = slide(&bob, "", &wanted).await;
    let room = create(&alice, json!({ "name": "inside" })).await;
    say(&alice, &room, "secret").await;
    invite(&alice, &room, &bob).await;
    let second = slide(&bob, &pos(&first), &wanted).await;
    let shown = &second["rooms"][&room];
    let stripped = shown["invite_state"].as_array().unwrap();
    assert!(stripped.iter().any(|event| event["content"]["name"] == "inside"), "{second}");
    assert!(!second.to_string().contains("secret") && shown.get("required_state").is_none());
    assert_eq!(shown["initial"], true);
    // Once in, everything is new.
    bob.post(&in_room(&room, "join"), json!({})).await.ok();
    let third = slide(&bob, &pos(&second), &wanted).await;
    let shown = &third["rooms"][&room];
    assert_eq!(shown["initial"], true, "{third}");
    assert!(required(shown).contains(&"m.room.name".to_owned()));

    let knocking = create(
        &alice,
        json!({ "initial_state": [{
            "type": "m.room.join_rules", "content": { "join_rule": "knock" },
        }] }),
    )
    .await;
    bob.post(&format!("/_matrix/client/v3/knock/{}", encode(&knocking)), json!({})).await.ok();
    let fourth = slide(&bob, &pos(&third), &wanted).await;
    assert!(fourth["rooms"][&knocking]["invite_state"].is_array(), "{fourth}");
}

#[tokio::test]
async fn who_goes_is_told_and_who_is_thrown_out_too() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let left = room_of(&[&alice, &bob]).await;
    let kicked = room_of(&[&alice, &bob]).await;
    let wanted = all(5, json!([["m.room.member", "$ME"], ["m.room.topic", ""]]));
    let first = slide(&bob, "", &wanted).await;
    bob.post(&in_room(&left, "leave"), json!({})).await.ok();
    alice.post(&in_room(&kicked, "kick"), json!({ "user_id": bob.user_id })).await.ok();
    let topic = json!({ "topic": "after" });
    alice.put(&in_room(&kicked, "state/m.room.topic"), topic).await.ok();
    say(&alice, &kicked, "after").await;
    let second = slide(&bob, &pos(&first), &wanted).await;
    for room in [&left, &kicked] {
        let shown = &second["rooms"][room];
        let own = &shown["required_state"][0];
        assert_eq!(own["content"]["membership"], "leave", "{second}");
        assert_eq!(shown["required_state"].as_array().unwrap().len(), 1);
        assert_eq!(shown["timeline"][0]["content"]["membership"], "leave");
        assert!(shown.get("initial").is_none());
    }
    assert!(!second.to_string().contains("after"));
    assert_eq!(slide(&bob, &pos(&second), &wanted).await["rooms"], json!({}));
    // Who begins anew hears of where he was thrown out, not of what he left.
    let anew = slide(&bob, "", &wanted).await;
    assert_eq!(rooms(&anew), std::slice::from_ref(&kicked), "{anew}");
    assert!(!anew.to_string().contains("after"));
    let forget = in_room(&kicked, "forget");
    bob.post(&forget, json!({})).await.ok();
    assert_eq!(rooms(&slide(&bob, "", &wanted).await), [""; 0]);
    // Coming back is a new beginning.
    let third = slide(&bob, "", &wanted).await;
    bob.post(&in_room(&left, "join"), json!({})).await.ok();
    let fourth = slide(&bob, &pos(&third), &wanted).await;
    assert_eq!(fourth["rooms"][&left]["initial"], true);
}

#[tokio::test]
async fn a_stranger_does_not_see_a_room_by_subscribing() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = create(&alice, json!({ "preset": "private_chat" })).await;
    let wanted = json!({ "room_subscriptions": {
        &room: { "timeline_limit": 5, "required_state": [["*", "*"]] },
        "!nowhere:here": { "timeline_limit": 5 },
    } });
    assert_eq!(slide(&bob, "", &wanted).await["rooms"], json!({}));
    assert_eq!(rooms(&slide(&alice, "", &wanted).await), [room]);
}

#[tokio::test]
async fn names_pictures_and_heroes_are_told_when_they_change() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let wanted = all(1, json!([]));
    let mut last = slide(&alice, "", &wanted).await;
    assert!(last["rooms"][&room].get("name").is_none());
    name(&alice, &room, "salon").await;
    last = slide(&alice, &pos(&last), &wanted).await;
    assert_eq!(last["rooms"][&room]["name"], "salon");
    let picture = json!({ "url": "mxc://here/abc" });
    alice.put(&in_room(&room, "state/m.room.avatar"), picture).await.ok();
    last = slide(&alice, &pos(&last), &wanted).await;
    assert_eq!(last["rooms"][&room]["avatar"], "mxc://here/abc");
    assert!(last["rooms"][&room].get("name").is_none());
    alice.put(&in_room(&room, "state/m.room.name"), json!({})).await.ok();
    last = slide(&alice, &pos(&last), &wanted).await;
    let shown = last["rooms"][&room].as_object().unwrap();
    assert_eq!(shown.get("name"), Some(&Value::Null), "{last}");
    assert_eq!(shown["heroes"][0]["user_id"], bob.user_id);
    let carol = server.user("carol").await;
    carol.post(&in_room(&room, "join"), json!({})).await.ok();
    last = slide(&alice, &pos(&last), &wanted).await;
    let shown = &last["rooms"][&room];
    assert_eq!((shown["heroes"].as_array().unwrap().len(), &shown["joined_count"]), (2, &json!(3)));
}

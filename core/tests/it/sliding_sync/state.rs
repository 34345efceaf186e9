//! The state that is told: what is asked for, what changes, what is asked for later, and members once they say
//! something; and timelines that grow.

use colonnade_testkit::TestServer;
use serde_json::json;

use super::told::{all, bodies, name, pos, required, slide};
use crate::sync::{create, in_room, room_of, say};

#[tokio::test]
async fn what_changes_is_told_and_what_is_asked_for_later() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    name(&alice, &room, "one").await;
    let topic = in_room(&room, "state/m.room.topic");
    alice.put(&topic, json!({ "topic": "words" })).await.ok();
    let names = all(1, json!([["m.room.name", ""]]));
    let first = slide(&alice, "", &names).await;
    assert_eq!(required(&first["rooms"][&room]), ["m.room.name"]);
    alice.put(&topic, json!({ "topic": "other words" })).await.ok();
    let second = slide(&alice, &pos(&first), &names).await;
    assert!(second["rooms"][&room].get("required_state").is_none(), "{second}");
    name(&alice, &room, "two").await;
    let third = slide(&alice, &pos(&second), &names).await;
    assert_eq!(third["rooms"][&room]["required_state"][0]["content"]["name"], "two");
    // More is told at once, and only that.
    let more = all(1, json!([["m.room.name", ""], ["m.room.topic", "*"]]));
    let fourth = slide(&alice, &pos(&third), &more).await;
    assert_eq!(required(&fourth["rooms"][&room]), ["m.room.topic"], "{fourth}");
    assert_eq!(fourth["rooms"][&room]["timeline"], json!([]));
    let all_of_it = all(1, json!([["*", "*"]]));
    let fifth = slide(&alice, &pos(&fourth), &all_of_it).await;
    let state = required(&fifth["rooms"][&room]);
    assert!(state.contains(&"m.room.create".to_owned()), "{fifth}");
    assert!(state.contains(&format!("m.room.member {}", bob.user_id)));
    assert!(!state.contains(&"m.room.topic".to_owned()));
    let sixth = slide(&alice, &pos(&fifth), &all_of_it).await;
    assert_eq!(sixth["rooms"], json!({}));
}

#[tokio::test]
async fn two_rules_for_a_room_are_one() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({ "name": "salon", "topic": "words" })).await;
    let mut wanted = all(1, json!([["m.room.name", ""]]));
    let topic = json!([["m.room.topic", ""]]);
    wanted["room_subscriptions"] =
        json!({ &room: { "timeline_limit": 3, "required_state": topic } });
    let first = slide(&alice, "", &wanted).await;
    let shown = &first["rooms"][&room];
    assert_eq!(required(shown), ["m.room.name", "m.room.topic"]);
    assert_eq!(shown["timeline"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn lazy_members_come_with_what_they_say() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let carol = server.user("carol").await;
    let room = room_of(&[&alice, &bob, &carol]).await;
    say(&alice, &room, "one").await;
    let member = |client: &colonnade_testkit::Client| format!("m.room.member {}", client.user_id);
    let wanted = all(1, json!([["m.room.member", "$LAZY"]]));
    let first = slide(&alice, "", &wanted).await;
    assert_eq!(required(&first["rooms"][&room]), [member(&alice)]);
    say(&bob, &room, "two").await;
    let second = slide(&alice, &pos(&first), &wanted).await;
    assert_eq!(required(&second["rooms"][&room]), [member(&bob)]);
    say(&bob, &room, "three").await;
    let third = slide(&alice, &pos(&second), &wanted).await;
    assert!(third["rooms"][&room].get("required_state").is_none(), "{third}");
    // A change is told without a word, unless there is a gap.
    let path = format!("/_matrix/client/v3/profile/{}/displayname", carol.user_id);
    carol.put(&path, json!({ "displayname": "Caroline" })).await.ok();
    let fourth = slide(&alice, &pos(&third), &wanted).await;
    assert_eq!(required(&fourth["rooms"][&room]), [member(&carol)], "{fourth}");
    let path = format!("/_matrix/client/v3/profile/{}/displayname", bob.user_id);
    bob.put(&path, json!({ "displayname": "Robert" })).await.ok();
    say(&alice, &room, "four").await;
    let fifth = slide(&alice, &pos(&fourth), &wanted).await;
    assert!(fifth["rooms"][&room].get("required_state").is_none(), "{fifth}");
    say(&bob, &room, "five").await;
    let sixth = slide(&alice, &pos(&fifth), &wanted).await;
    let told = &sixth["rooms"][&room]["required_state"][0];
    assert_eq!(told["content"]["displayname"], "Robert", "{sixth}");
}

#[tokio::test]
async fn a_timeline_that_grows_is_told_again() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    for n in 0..6 {
        say(&alice, &room, &n.to_string()).await;
    }
    let first = slide(&alice, "", &all(1, json!([]))).await;
    assert_eq!(bodies(&first["rooms"][&room]), ["5"]);
    let second = slide(&alice, &pos(&first), &all(3, json!([]))).await;
    let shown = &second["rooms"][&room];
    assert_eq!(bodies(shown), ["3", "4", "5"]);
    assert_eq!(shown["unstable_expanded_timeline"], true);
    assert_eq!((&shown["num_live"], shown.get("initial")), (&json!(0), None), "{second}");
    // Less, and as much again: nothing is missing.
    let third = slide(&alice, &pos(&second), &all(1, json!([]))).await;
    assert_eq!(third["rooms"], json!({}));
    say(&alice, &room, "6").await;
    let fourth = slide(&alice, &pos(&third), &all(1, json!([]))).await;
    assert_eq!(bodies(&fourth["rooms"][&room]), ["6"]);
    let fifth = slide(&alice, &pos(&fourth), &all(3, json!([]))).await;
    assert_eq!(fifth["rooms"], json!({}), "{fifth}");
    // After a gap something is.
    say(&alice, &room, "7").await;
    say(&alice, &room, "8").await;
    let sixth = slide(&alice, &pos(&fifth), &all(1, json!([]))).await;
    assert_eq!(sixth["rooms"][&room]["limited"], true);
    let seventh = slide(&alice, &pos(&sixth), &all(3, json!([]))).await;
    assert_eq!(bodies(&seventh["rooms"][&room]), ["6", "7", "8"], "{seventh}");
}

#[tokio::test]
async fn the_ignored_are_not_heard_and_history_is_not_shown_to_the_late() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let carol = server.user("carol").await;
    let room = room_of(&[&alice, &bob, &carol]).await;
    say(&carol, &room, "fine").await;
    for n in 0..4 {
        say(&bob, &room, &format!("noise {n}")).await;
    }
    let path =
        format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", alice.user_id);
    alice.put(&path, json!({ "ignored_users": { &bob.user_id: {} } })).await.ok();
    let first = slide(&alice, "", &all(1, json!([]))).await;
    assert_eq!(bodies(&first["rooms"][&room]), ["fine"], "{first}");

    let late = create(
        &alice,
        json!({ "preset": "public_chat", "initial_state": [{
        "type": "m.room.history_visibility", "content": { "history_visibility": "joined" },
    }] }),
    )
    .await;
    say(&alice, &late, "before").await;
    bob.post(&in_room(&late, "join"), json!({})).await.ok();
    let shown = slide(&bob, "", &all(20, json!([]))).await;
    assert!(!shown["rooms"][&late].to_string().contains("before"), "{shown}");
}

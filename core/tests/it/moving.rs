//! What a change of membership means to what passes: device lists, presence, typing, invitations. Whom
//! something concerns is found when it is read, whatever was the case when it was written.

use std::time::Duration;

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::{
    create, encode, in_room, joined, now, presence_seen, room_of, say, sync, sync_with, token,
};

/// How long something that must happen may take on a busy machine, in milliseconds.
const LONG_MS: u64 = 60_000;

/// Renames the client's device, which others have to hear of.
async fn change_devices(client: &Client, name: &str) {
    let path = format!("/_matrix/client/v3/devices/{}", client.device_id);
    client.put(&path, json!({ "display_name": name })).await.ok();
}

async fn act(client: &Client, room: &str, what: &str) {
    client.post(&in_room(room, what), json!({})).await.ok();
}

fn changed(answer: &Value) -> Vec<&str> {
    let users = answer["device_lists"]["changed"].as_array();
    users.into_iter().flatten().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn keys_changed_outside_are_shown_when_a_user_comes_back_within_one_gap() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let since = now(&alice).await;
    act(&bob, &room, "leave").await;
    change_devices(&bob, "elsewhere").await;
    act(&bob, &room, "join").await;
    let answer = sync(&alice, Some(&since)).await;
    assert_eq!(changed(&answer), [bob.user_id.as_str()], "{answer}");
    let path = format!("/_matrix/client/v3/keys/changes?from={since}&to={}", token(&answer));
    assert_eq!(alice.get(&path).await.ok()["changed"], json!([bob.user_id]), "the same");
    let answer = sync(&alice, Some(&token(&answer))).await;
    assert!(answer.get("device_lists").is_none(), "once: {answer}");
}

#[tokio::test]
async fn a_user_who_was_away_within_one_gap_sees_the_keys_of_all() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let since = now(&bob).await;
    act(&bob, &room, "leave").await;
    change_devices(&alice, "meanwhile").await;
    // Another client of his hears that he left, and no more than that.
    let between = sync(&bob, Some(&since)).await;
    assert_eq!(between["device_lists"]["left"], json!([alice.user_id]), "{between}");
    act(&bob, &room, "join").await;
    let answer = sync(&bob, Some(&since)).await;
    assert!(changed(&answer).contains(&alice.user_id.as_str()), "{answer}");
    let answer = sync(&bob, Some(&token(&between))).await;
    assert!(changed(&answer).contains(&alice.user_id.as_str()), "{answer}");
}

fn present(answer: &Value) -> Vec<&str> {
    let events = answer["presence"]["events"].as_array();
    let online = events.into_iter().flatten().filter(|e| e["content"]["presence"] == "online");
    online.filter_map(|event| event["sender"].as_str()).collect()
}

/// Waits until another user is told to be online.
async fn until_present(client: &Client, since: &str, user: &Client) {
    let shown = async {
        let mut since = since.to_owned();
        loop {
            let answer = sync_with(client, Some(&since), "timeout=30000").await;
            if present(&answer).contains(&user.user_id.as_str()) {
                return;
            }
            since = token(&answer);
        }
    };
    let shown = tokio::time::timeout(Duration::from_millis(LONG_MS), shown).await;
    assert!(shown.is_ok(), "{} is never told to {}", user.user_id, client.user_id);
}

#[tokio::test]
async fn presence_of_a_user_who_joined_just_now_is_shown_both_ways() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = room_of(&[&alice]).await;
    for n in 0..5 {
        let bob = server.user(&format!("bob{n}")).await;
        // Both are online before, and share nothing.
        let (at_alice, at_bob) = (now(&alice).await, now(&bob).await);
        act(&bob, &room, "join").await;
        // First syncs right after the join, and such that go on.
        let (alice_sees, bob_sees) = (sync(&alice, None).await, sync(&bob, None).await);
        for (viewer, seen, other) in [(&alice, &alice_sees, &bob), (&bob, &bob_sees, &alice)] {
            if !present(seen).contains(&other.user_id.as_str()) {
                until_present(viewer, &token(seen), other).await;
            }
        }
        until_present(&alice, &at_alice, &bob).await;
        until_present(&bob, &at_bob, &alice).await;
    }
}

fn typists(answer: &Value, room: &str) -> Option<Value> {
    let events = joined(answer, room)["ephemeral"]["events"].as_array()?;
    let typing = events.iter().find(|event| event["type"] == "m.typing")?;
    Some(typing["content"]["user_ids"].clone())
}

/// Waits until these type.
async fn until_typing(client: &Client, room: &str, since: &str, users: &[&Client]) -> String {
    let users: Vec<&str> = users.iter().map(|user| user.user_id.as_str()).collect();
    let shown = async {
        let mut since = since.to_owned();
        loop {
            let answer = sync_with(client, Some(&since), "timeout=30000").await;
            if typists(&answer, room) == Some(json!(users)) {
                return token(&answer);
            }
            since = token(&answer);
        }
    };
    let shown = tokio::time::timeout(Duration::from_millis(LONG_MS), shown).await;
    shown.unwrap_or_else(|_| panic!("nobody says that {users:?} type"))
}

#[tokio::test]
async fn who_is_out_of_a_room_stops_typing_in_it_at_once() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = room_of(&[&alice]).await;
    for way in ["leave", "kick", "ban"] {
        let bob = server.user(&format!("bob-{way}")).await;
        act(&bob, &room, "join").await;
        let since = now(&alice).await;
        let typing = in_room(&room, &format!("typing/{}", encode(&bob.user_id)));
        bob.put(&typing, json!({ "typing": true, "timeout": 120_000 })).await.ok();
        let since = until_typing(&alice, &room, &since, &[&bob]).await;
        match way {
            "leave" => act(&bob, &room, "leave").await,
            way => {
                let body = json!({ "user_id": bob.user_id });
                alice.post(&in_room(&room, way), body).await.ok();
            }
        }
        until_typing(&alice, &room, &since, &[]).await;
        let whole = sync(&alice, None).await;
        assert_eq!(typists(&whole, &room), None, "{way}: {whole}");
        bob.put(&typing, json!({ "typing": true })).await.err(403, "M_FORBIDDEN");
    }
}

async fn permit(client: &Client, content: Value) {
    let path = format!(
        "/_matrix/client/v3/user/{}/account_data/m.invite_permission_config",
        encode(&client.user_id)
    );
    client.put(&path, content).await.ok();
}

#[tokio::test]
async fn who_blocks_invitations_gets_none() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = create(&alice, json!({})).await;
    let earlier = create(&alice, json!({ "invite": [bob.user_id] })).await;
    permit(&bob, json!({ "default_action": "block" })).await;
    let invite = json!({ "user_id": bob.user_id });
    let blocked = async |path: &str, body: Value| {
        alice.post(path, body).await.err(403, "M_INVITE_BLOCKED");
    };
    blocked(&in_room(&room, "invite"), invite.clone()).await;
    let create_room = "/_matrix/client/v3/createRoom";
    blocked(create_room, json!({ "invite": [bob.user_id] })).await;
    let state = json!({
        "type": "m.room.member", "state_key": bob.user_id, "content": { "membership": "invite" },
    });
    blocked(create_room, json!({ "initial_state": [state] })).await;
    let member = in_room(&room, &format!("state/m.room.member/{}", encode(&bob.user_id)));
    let by_state = json!({ "membership": "invite" });
    alice.put(&member, by_state.clone()).await.err(403, "M_INVITE_BLOCKED");
    let answer = sync(&bob, None).await;
    assert!(answer["rooms"].get("invite").is_none(), "not even from before: {answer}");

    // Whatever else is said blocks nothing, and what waited is shown.
    permit(&bob, json!({ "default_action": "zzz" })).await;
    let answer = sync(&bob, Some(&token(&answer))).await;
    assert!(answer["rooms"]["invite"].get(&earlier).is_some(), "{answer}");
    alice.post(&in_room(&room, "invite"), invite).await.ok();
    let answer = sync(&bob, Some(&token(&answer))).await;
    assert!(answer["rooms"]["invite"].get(&room).is_some(), "{answer}");
    assert!(answer["rooms"]["invite"].get(&earlier).is_none(), "once: {answer}");
}

#[tokio::test]
async fn an_invitation_from_before_the_block_wakes_nobody() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let since = now(&bob).await;
    let room = create(&alice, json!({ "invite": [bob.user_id] })).await;
    permit(&bob, json!({ "default_action": "block" })).await;
    let answer = sync(&bob, Some(&since)).await;
    assert!(answer.get("rooms").is_none(), "{answer}");
    // By hand he can go in all the same.
    act(&bob, &room, "join").await;
    say(&alice, &room, "hello").await;
    let answer = sync(&bob, Some(&token(&answer))).await;
    assert!(joined(&answer, &room).is_object(), "{answer}");
}

#[tokio::test]
async fn presence_of_a_user_who_comes_back_within_one_gap_is_shown() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    sync_with(&bob, None, "set_presence=offline").await;
    let since = now(&alice).await;
    act(&bob, &room, "leave").await;
    let status = format!("/_matrix/client/v3/presence/{}/status", encode(&bob.user_id));
    bob.put(&status, json!({ "presence": "unavailable", "status_msg": "out" })).await.ok();
    act(&bob, &room, "join").await;
    let answer = presence_seen(&alice, &since).await;
    assert_eq!(answer["presence"]["events"][0]["content"]["status_msg"], "out", "{answer}");
}

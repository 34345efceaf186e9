//! Memberships that cross servers in other ways than one by one: what a server missed, a room that is replaced, and
//! several servers that could help.

use colonnade_testkit::{Client, federation::Federation};
use serde_json::{Value, json};

use super::rooms::{create, encode, join, membership, path, rooms_of, say, sees, until};

#[tokio::test]
async fn an_invitation_is_taken_back_although_its_server_was_away() {
    let mut servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let mut rooms = Vec::new();
    for _ in 0..2 {
        let request = json!({ "preset": "private_chat", "invite": ["@bob:hs2"] });
        rooms.push(create(&alice, request).await);
    }
    for room in &rooms {
        until(|| async { rooms_of(&bob, "invite").await[room].is_object() }).await;
    }
    servers.cut(1);
    for (room, how) in rooms.iter().zip(["kick", "ban"]) {
        alice.post(&path(room, how), json!({ "user_id": "@bob:hs2" })).await.ok();
    }
    // Nothing in memory knows of it any more.
    servers.restart(0).await;
    servers.mend(1);
    for room in &rooms {
        until(|| async { rooms_of(&bob, "invite").await[room].is_null() }).await;
    }
}

#[tokio::test]
async fn a_knock_is_turned_down_although_its_server_was_away() {
    let mut servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let state = json!([{ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }]);
    let room = create(&alice, json!({ "preset": "private_chat", "initial_state": state })).await;
    let address = format!("/_matrix/client/v3/knock/{}?via=hs1", encode(&room));
    bob.post(&address, json!({})).await.ok();
    assert!(rooms_of(&bob, "knock").await[&room].is_object());
    servers.cut(1);
    alice.post(&path(&room, "kick"), json!({ "user_id": "@bob:hs2" })).await.ok();
    servers.restart(0).await;
    servers.mend(1);
    until(|| async { rooms_of(&bob, "knock").await[&room].is_null() }).await;
}

#[tokio::test]
async fn members_on_another_server_follow_a_room_to_its_successor() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    for (from, to) in [("10", "12"), ("11", "11")] {
        let room = create(&alice, json!({ "preset": "public_chat", "room_version": from })).await;
        join(&bob, &room, "hs1").await;
        say(&bob, &room, "old room").await;
        sees(&alice, &room, "old room").await;
        let upgraded = alice.post(&path(&room, "upgrade"), json!({ "new_version": to })).await.ok();
        let new = upgraded["replacement_room"].as_str().unwrap().to_owned();
        let tombstone = path(&room, "state/m.room.tombstone");
        until(|| async { bob.get(&tombstone).await.status == 200 }).await;
        assert_eq!(bob.get(&tombstone).await.ok()["replacement_room"], json!(new));
        join(&bob, &new, "hs1").await;
        let create = bob.get(&path(&new, "state/m.room.create")).await.ok();
        assert_eq!(create["predecessor"]["room_id"], json!(room));
        say(&bob, &new, "new room").await;
        sees(&alice, &new, "new room").await;
    }
}

async fn join_by(client: &Client, room: &str, via: &[&str]) -> Value {
    let via: Vec<String> = via.iter().map(|server| format!("via={server}")).collect();
    let address = format!("/_matrix/client/v3/join/{}?{}", encode(room), via.join("&"));
    client.post(&address, json!({})).await.ok()
}

#[tokio::test]
async fn a_restricted_room_is_joined_over_whichever_server_may_let_one_in() {
    let servers = Federation::start(3).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let carol = servers[2].user("carol").await;
    let club = create(&alice, json!({ "preset": "public_chat" })).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
    let rule = json!({ "join_rule": "restricted", "allow": allow });
    let levels = json!({ "users": { "@alice:hs1": 100 }, "invite": 50 });
    let state = json!([{ "type": "m.room.join_rules", "content": rule }]);
    let request = json!({ "preset": "private_chat", "room_version": "10", "initial_state": state,
        "power_level_content_override": levels });
    let room = create(&alice, request).await;
    join(&bob, &club, "hs1").await;
    join(&bob, &room, "hs1").await;
    join(&carol, &club, "hs1").await;
    until(|| async { membership(&bob, &club, "@carol:hs3").await == "join" }).await;
    // Nobody of hs2 may invite, and hs9 is not there: hs1 lets her in.
    join_by(&carol, &room, &["hs9", "hs2", "hs1"]).await;
    assert_eq!(membership(&alice, &room, "@carol:hs3").await, "join");
    until(|| async { membership(&bob, &room, "@carol:hs3").await == "join" }).await;
    say(&carol, &room, "let in by the third").await;
    sees(&bob, &room, "let in by the third").await;
}

#[tokio::test]
async fn what_a_server_hands_over_the_other_servers_of_the_room_are_told() {
    let mut servers = Federation::start(3).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let carol = servers[2].user("carol").await;
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    join(&bob, &room, "hs1").await;
    // While one of them is away, and from the database.
    servers.cut(1);
    join(&carol, &room, "hs1").await;
    servers.restart(0).await;
    servers.mend(1);
    until(|| async { membership(&bob, &room, "@carol:hs3").await == "join" }).await;
}

#[tokio::test]
async fn whoever_is_let_in_again_is_shown_his_invitation() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    join(&bob, &room, "hs1").await;
    let about = json!({ "user_id": "@bob:hs2" });
    alice.post(&path(&room, "ban"), about.clone()).await.ok();
    until(|| async { rooms_of(&bob, "join").await[&room].is_null() }).await;
    alice.post(&path(&room, "unban"), about.clone()).await.ok();
    alice.post(&path(&room, "invite"), about).await.ok();
    until(|| async { rooms_of(&bob, "invite").await[&room].is_object() }).await;
    let shown = rooms_of(&bob, "invite").await[&room]["invite_state"]["events"].clone();
    let shown = shown.as_array().unwrap();
    let is_own = |event: &&Value| event["state_key"] == "@bob:hs2";
    let own: Vec<&Value> = shown.iter().filter(is_own).collect();
    assert_eq!(own.len(), 1, "{shown:?}");
    assert_eq!(own[0]["content"]["membership"], "invite");
    join(&bob, &room, "hs1").await;
}

#[tokio::test]
async fn whoever_knocked_may_knock_again_and_take_it_back() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let state = json!([{ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }]);
    for version in ["10", "12"] {
        let request = json!({ "preset": "private_chat", "initial_state": state,
            "room_version": version });
        let room = create(&alice, request).await;
        let address = format!("/_matrix/client/v3/knock/{}?via=hs1", encode(&room));
        for reason in ["hello", "hello again"] {
            bob.post(&address, json!({ "reason": reason })).await.ok();
            assert_eq!(membership(&alice, &room, "@bob:hs2").await, "knock");
        }
        let shown = rooms_of(&bob, "knock").await[&room]["knock_state"]["events"].clone();
        let own = shown.as_array().unwrap().iter().find(|event| event["state_key"] == "@bob:hs2");
        assert_eq!(own.unwrap()["content"]["reason"], "hello again");
        bob.post(&path(&room, "leave"), json!({})).await.ok();
        until(|| async { membership(&alice, &room, "@bob:hs2").await == "leave" }).await;
    }
}

#[tokio::test]
async fn a_room_is_joined_over_the_servers_that_are_named_and_no_others() {
    let servers = Federation::start(3).await;
    let (alice, carol) = (servers[0].user("alice").await, servers[2].user("carol").await);
    let request = json!({ "preset": "public_chat", "room_version": "10" });
    let room = create(&alice, request).await;
    let over = |via: &str| format!("/_matrix/client/v3/join/{}{via}", encode(&room));
    let refused = carol.post(&over("?via=hs2"), json!({})).await;
    assert_ne!(refused.status, 200, "hs2 does not know it");
    // Without a word about servers the one that the room is named after is asked.
    carol.post(&over(""), json!({})).await.ok();
}

#[tokio::test]
async fn what_did_not_arrive_yet_is_redacted_when_it_does() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let levels = json!({ "redact": 0 });
    let request = json!({ "preset": "public_chat", "power_level_content_override": levels });
    let room = create(&alice, request).await;
    join(&bob, &room, "hs1").await;
    servers.cut(1);
    let secret = say(&alice, &room, "a secret").await;
    let redact = |event: &str| path(&room, &format!("redact/{}/{}", encode(event), event.len()));
    bob.put(&redact(&secret), json!({})).await.ok();
    until(|| async {
        let seen = alice.get(&path(&room, &format!("event/{}", encode(&secret)))).await.ok();
        seen["content"] == json!({})
    })
    .await;
    // In a room of this server alone there is nothing that could arrive.
    let alone = create(&alice, json!({ "power_level_content_override": levels })).await;
    let nothing = path(&alone, &format!("redact/{}/1", encode("$nothing:hs1")));
    alice.put(&nothing, json!({})).await.err(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_restricted_room_that_is_here_is_joined_over_the_server_that_may_let_one_in() {
    let servers = Federation::start(3).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let (carol, dora) = (servers[1].user("carol").await, servers[2].user("dora").await);
    let club = create(&alice, json!({ "preset": "public_chat" })).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
    let rule = json!({ "join_rule": "restricted", "allow": allow });
    let state = json!([{ "type": "m.room.join_rules", "content": rule }]);
    let request = json!({ "preset": "public_chat", "room_version": "10", "initial_state": state,
        "power_level_content_override": { "invite": 50 } });
    let room = create(&alice, request).await;
    for user in [&bob, &carol, &dora] {
        join(user, &club, "hs1").await;
    }
    join(&bob, &room, "hs1").await;
    say(&alice, &room, "before").await;
    // Nobody of hs2 may invite, so hs1 lets her in; the room goes on where it stood.
    join(&carol, &room, "hs2").await;
    assert_eq!(membership(&alice, &room, "@carol:hs2").await, "join");
    say(&carol, &room, "let in").await;
    for user in [&alice, &bob, &carol] {
        sees(user, &room, "before").await;
        sees(user, &room, "let in").await;
    }
    // Who names servers asks those, whatever else is known of the room.
    join(&dora, &room, "hs1").await;
    dora.post(&path(&room, "leave"), json!({})).await.ok();
    until(|| async { membership(&bob, &room, "@dora:hs3").await == "leave" }).await;
    let over = |via: &str| format!("/_matrix/client/v3/join/{}?via={via}", encode(&room));
    dora.post(&over("hs2"), json!({})).await.err(400, "M_UNABLE_TO_GRANT_JOIN");
    dora.post(&over("hs2&via=hs1"), json!({})).await.ok();
}

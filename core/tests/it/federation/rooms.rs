//! Rooms that live on two servers: coming in, talking, going, and what an outage leaves.

use std::{panic::Location, time::Duration};

use colonnade_testkit::{Client, federation::Federation};
use serde_json::{Value, json};

/// How long something may take to arrive: much longer than it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn encode(text: &str) -> String {
    [
        ('%', "%25"),
        ('#', "%23"),
        ('!', "%21"),
        (':', "%3A"),
        ('$', "%24"),
        ('/', "%2F"),
        ('+', "%2B"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(*from, to))
}

pub(crate) fn path(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", encode(room))
}

pub(crate) async fn create(client: &Client, request: Value) -> String {
    let made = client.post("/_matrix/client/v3/createRoom", request).await.ok();
    made["room_id"].as_str().unwrap().to_owned()
}

pub(crate) async fn join(client: &Client, room: &str, via: &str) -> Value {
    let address = format!("/_matrix/client/v3/join/{}?via={via}", encode(room));
    client.post(&address, json!({})).await.ok()
}

pub(crate) async fn say(client: &Client, room: &str, text: &str) -> String {
    let address = path(room, &format!("send/m.room.message/{}", text.replace(' ', "-")));
    let body = json!({ "msgtype": "m.text", "body": text });
    client.put(&address, body).await.ok()["event_id"].as_str().unwrap().to_owned()
}

/// The texts of a room as a user sees them, oldest first.
pub(crate) async fn texts(client: &Client, room: &str) -> Vec<String> {
    let page = client.get(&path(room, "messages?dir=b&limit=100")).await.ok();
    let chunk = page["chunk"].as_array().unwrap();
    let bodies = chunk.iter().rev().filter_map(|event| event["content"]["body"].as_str());
    bodies.map(str::to_owned).collect()
}

/// Waits until a user sees a text in a room.
pub(super) async fn sees(client: &Client, room: &str, text: &str) {
    until(|| async { texts(client, room).await.iter().any(|seen| seen == text) }).await;
}

#[track_caller]
pub(crate) fn until<F: Future<Output = bool>>(holds: impl Fn() -> F) -> impl Future<Output = ()> {
    until_by(Location::caller(), holds)
}

pub(crate) async fn until_by<F: Future<Output = bool>>(at: &Location<'_>, holds: impl Fn() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(waited.await.is_ok(), "it never came to be: {at}");
}

/// What a user is to a room, as another user sees it.
pub(crate) async fn membership(client: &Client, room: &str, user: &str) -> String {
    let state = client.get(&path(room, &format!("state/m.room.member/{}", encode(user)))).await;
    let state = if state.status == 200 { state.ok() } else { Value::Null };
    state["membership"].as_str().unwrap_or("none").to_owned()
}

/// The rooms of a kind in a first sync.
pub(super) async fn rooms_of(client: &Client, kind: &str) -> Value {
    client.get("/_matrix/client/v3/sync").await.ok()["rooms"][kind].clone()
}

#[tokio::test]
async fn a_room_of_every_version_is_joined_and_goes_on_on_both_servers() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    for version in (1..=12).map(|version| version.to_string()) {
        let alias = format!("square{version}");
        let request = json!({ "room_version": version, "preset": "public_chat", "name": "Square",
            "room_alias_name": alias });
        let room = create(&alice, request).await;
        say(&alice, &room, "before").await;
        // By alias with one version, by id with the next.
        match version.len() {
            1 => join(&bob, &room, "hs1").await,
            _ => join(&bob, &format!("#{alias}:hs1"), "hs1").await,
        };
        assert_eq!(membership(&alice, &room, "@bob:hs2").await, "join", "version {version}");
        let name = bob.get(&path(&room, "state/m.room.name")).await.ok();
        assert_eq!(name["name"], "Square");
        say(&bob, &room, "hello from afar").await;
        sees(&alice, &room, "hello from afar").await;
        say(&alice, &room, "welcome").await;
        sees(&bob, &room, "welcome").await;
        let gone = say(&alice, &room, "a mistake").await;
        sees(&bob, &room, "a mistake").await;
        let redact = path(&room, &format!("redact/{}/r{version}", encode(&gone)));
        alice.put(&redact, json!({})).await.ok();
        until(|| async { !texts(&bob, &room).await.contains(&"a mistake".to_owned()) }).await;
        let topic = json!({ "topic": "far and near" });
        alice.put(&path(&room, "state/m.room.topic"), topic.clone()).await.ok();
        until(|| async { bob.get(&path(&room, "state/m.room.topic")).await.body == topic }).await;
        bob.post(&path(&room, "leave"), json!({})).await.ok();
        until(|| async { membership(&alice, &room, "@bob:hs2").await == "leave" }).await;
    }
}

#[tokio::test]
async fn an_invitation_crosses_and_is_followed_turned_down_or_taken_back() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    for end in ["join", "leave", "taken back"] {
        let request = json!({ "preset": "private_chat", "name": "Secret", "invite": ["@bob:hs2"] });
        let room = create(&alice, request).await;
        until(|| async { rooms_of(&bob, "invite").await[&room].is_object() }).await;
        let shown = rooms_of(&bob, "invite").await[&room]["invite_state"]["events"].clone();
        let name = shown.as_array().unwrap().iter().find(|event| event["type"] == "m.room.name");
        assert_eq!(name.unwrap()["content"]["name"], "Secret");
        match end {
            "join" => {
                join(&bob, &room, "hs1").await;
                say(&bob, &room, "here I am").await;
                sees(&alice, &room, "here I am").await;
            }
            "leave" => {
                bob.post(&path(&room, "leave"), json!({})).await.ok();
                until(|| async { membership(&alice, &room, "@bob:hs2").await == "leave" }).await;
                assert!(rooms_of(&bob, "invite").await[&room].is_null());
            }
            _ => {
                let kick = json!({ "user_id": "@bob:hs2" });
                alice.post(&path(&room, "kick"), kick).await.ok();
                until(|| async { rooms_of(&bob, "invite").await[&room].is_null() }).await;
                bob.post(&format!("/_matrix/client/v3/join/{}", encode(&room)), json!({}))
                    .await
                    .err(403, "M_FORBIDDEN");
            }
        }
    }
}

#[tokio::test]
async fn an_invitation_is_turned_down_though_its_server_is_away_and_the_end_is_shown() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let request = json!({ "preset": "private_chat", "invite": ["@bob:hs2"] });
    let room = create(&alice, request).await;
    until(|| async { rooms_of(&bob, "invite").await[&room].is_object() }).await;
    let since = super::edus::sync(&bob, None).await["next_batch"].as_str().unwrap().to_owned();
    servers.cut(0);
    bob.post(&path(&room, "leave"), json!({})).await.ok();
    let answer = super::edus::sync(&bob, Some(&since)).await;
    let events = &answer["rooms"]["leave"][&room]["timeline"]["events"];
    assert_eq!(events.as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(
        (&events[0]["sender"], &events[0]["state_key"]),
        (&json!("@bob:hs2"), &json!("@bob:hs2"))
    );
    assert_eq!(events[0]["content"]["membership"], "leave");
    // Nothing else of the room is to be seen.
    bob.get(&path(&room, "state/m.room.create")).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn whoever_is_banned_by_another_server_is_out_and_stays_out() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    join(&bob, &room, "hs1").await;
    alice.post(&path(&room, "ban"), json!({ "user_id": "@bob:hs2" })).await.ok();
    until(|| async {
        rooms_of(&bob, "leave").await[&room].is_object()
            || rooms_of(&bob, "join").await[&room].is_null()
    })
    .await;
    let send = path(&room, "send/m.room.message/late");
    bob.put(&send, json!({ "body": "still here" })).await.err(403, "M_FORBIDDEN");
    let again = format!("/_matrix/client/v3/join/{}?via=hs1", encode(&room));
    bob.post(&again, json!({})).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn nothing_is_lost_while_either_server_is_away() {
    let mut servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    join(&bob, &room, "hs1").await;
    servers.cut(1);
    let said: Vec<String> = (0..70).map(|number| format!("while away {number}")).collect();
    for text in &said {
        say(&alice, &room, text).await;
    }
    servers.mend(1);
    sees(&bob, &room, said.last().unwrap()).await;
    let seen = texts(&bob, &room).await;
    let seen: Vec<&String> = seen.iter().filter(|text| text.starts_with("while away")).collect();
    assert_eq!(seen, said.iter().collect::<Vec<_>>(), "all of them, in order");
    // And if the one that has to send restarts meanwhile.
    servers.cut(1);
    say(&alice, &room, "before the restart").await;
    servers.restart(0).await;
    servers.mend(1);
    sees(&bob, &room, "before the restart").await;
}

#[tokio::test]
async fn servers_that_speak_at_once_agree_in_the_end() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let levels = json!({ "users": { "@alice:hs1": 100, "@bob:hs2": 100 } });
    let request = json!({ "preset": "public_chat", "room_version": "11",
        "power_level_content_override": levels });
    let room = create(&alice, request).await;
    join(&bob, &room, "hs1").await;
    servers.cut(0);
    servers.cut(1);
    let topic = |text: &str| json!({ "topic": text });
    alice.put(&path(&room, "state/m.room.topic"), topic("of alice")).await.ok();
    bob.put(&path(&room, "state/m.room.topic"), topic("of bob")).await.ok();
    say(&alice, &room, "alice alone").await;
    say(&bob, &room, "bob alone").await;
    servers.mend(0);
    servers.mend(1);
    sees(&alice, &room, "bob alone").await;
    sees(&bob, &room, "alice alone").await;
    let of = async |client: &Client| client.get(&path(&room, "state/m.room.topic")).await.ok();
    until(|| async { of(&alice).await == of(&bob).await }).await;
}

#[tokio::test]
async fn a_restricted_room_lets_members_of_another_server_in_and_nobody_else() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let club = create(&alice, json!({ "preset": "public_chat" })).await;
    let rule = json!({ "join_rule": "restricted",
        "allow": [{ "type": "m.room_membership", "room_id": club }] });
    let state = json!([{ "type": "m.room.join_rules", "content": rule }]);
    let request = json!({ "preset": "private_chat", "room_version": "10", "initial_state": state });
    let room = create(&alice, request).await;
    let address = format!("/_matrix/client/v3/join/{}?via=hs1", encode(&room));
    bob.post(&address, json!({})).await.err(403, "M_FORBIDDEN");
    join(&bob, &club, "hs1").await;
    join(&bob, &room, "hs1").await;
    say(&bob, &room, "let in").await;
    sees(&alice, &room, "let in").await;
}

#[tokio::test]
async fn a_knock_crosses_and_is_answered() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let state = json!([{ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }]);
    let request = json!({ "preset": "private_chat", "name": "Closed", "initial_state": state });
    let room = create(&alice, request).await;
    let address = format!("/_matrix/client/v3/knock/{}?via=hs1", encode(&room));
    bob.post(&address, json!({ "reason": "please" })).await.ok();
    assert_eq!(membership(&alice, &room, "@bob:hs2").await, "knock");
    assert!(rooms_of(&bob, "knock").await[&room].is_object());
    alice.post(&path(&room, "invite"), json!({ "user_id": "@bob:hs2" })).await.ok();
    join(&bob, &room, "hs1").await;
    say(&bob, &room, "thank you").await;
    sees(&alice, &room, "thank you").await;
    // Over a server that is in the room, too, however late it hears of the invitation.
    let carol = servers[1].user("carol").await;
    carol.post(&address, json!({})).await.ok();
    until(|| async { membership(&alice, &room, "@carol:hs2").await == "knock" }).await;
    let again = format!("/_matrix/client/v3/join/{}?via=hs1", encode(&room));
    carol.post(&again, json!({})).await.err(403, "M_FORBIDDEN");
    alice.post(&path(&room, "invite"), json!({ "user_id": "@carol:hs2" })).await.ok();
    join(&carol, &room, "hs1").await;
    say(&carol, &room, "me, too").await;
    sees(&alice, &room, "me, too").await;
}

#[tokio::test]
async fn a_server_that_the_room_denies_takes_no_part() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    join(&bob, &room, "hs1").await;
    say(&bob, &room, "still allowed").await;
    sees(&alice, &room, "still allowed").await;
    let acl = json!({ "allow": ["*"], "deny": ["HS2"] });
    alice.put(&path(&room, "state/m.room.server_acl"), acl).await.ok();
    say(&bob, &room, "denied").await;
    let carol = servers[1].user("carol").await;
    let address = format!("/_matrix/client/v3/join/{}?via=hs1", encode(&room));
    assert_eq!(carol.post(&address, json!({})).await.status, 200, "her own server knows the room");
    say(&alice, &room, "a while later").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!texts(&alice, &room).await.contains(&"denied".to_owned()));
    assert_eq!(membership(&alice, &room, "@carol:hs2").await, "none");
}

#[tokio::test]
async fn history_from_before_one_came_is_fetched_when_it_is_read() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    for number in 0..5 {
        say(&alice, &room, &format!("long ago {number}")).await;
    }
    join(&bob, &room, "hs1").await;
    let seen = texts(&bob, &room).await;
    let expected: Vec<String> = (0..5).map(|number| format!("long ago {number}")).collect();
    assert_eq!(seen, expected);
    let page = bob.get(&path(&room, "messages?dir=b&limit=100")).await.ok();
    let last = page["chunk"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["type"], "m.room.create", "down to the beginning");
}

#[tokio::test]
async fn what_somebody_said_who_erased_the_account_is_not_told() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let carol = servers[0].user("carol").await;
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    join(&carol, &room, "hs1").await;
    say(&carol, &room, "forget this").await;
    say(&alice, &room, "keep this").await;
    let auth = json!({
        "type": "m.login.password", "password": "password-carol",
        "identifier": { "type": "m.id.user", "user": carol.user_id },
    });
    let erase = json!({ "auth": auth, "erase": true });
    carol.post("/_matrix/client/v3/account/deactivate", erase).await.ok();
    join(&bob, &room, "hs1").await;
    assert_eq!(texts(&bob, &room).await, ["keep this"]);
}

//! Guests: what they may do, where they come in, how they leave, and how one becomes a user.

use colonnade_testkit::{Client, TestServer, federation::Federation, server::open_settings};
use serde_json::{Value, json};

use crate::federation::rooms::{create, join, membership, path, say, texts, until};

const REGISTER: &str = "/_matrix/client/v3/register";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

async fn with_guests() -> TestServer {
    TestServer::start().await
}

async fn guest(server: &TestServer) -> Client {
    let mut client = server.anonymous();
    let body = json!({ "username": "chosen", "initial_device_display_name": "Kiosk" });
    let made = client.post(&format!("{REGISTER}?kind=guest"), body).await.ok();
    client.token = Some(made["access_token"].as_str().unwrap().to_owned());
    client.user_id = made["user_id"].as_str().unwrap().to_owned();
    client
}

/// A room that says of guests whether they may join.
async fn hall(owner: &Client, guests: &str) -> String {
    let access = json!([{ "type": "m.room.guest_access", "content": { "guest_access": guests } }]);
    create(owner, json!({ "preset": "public_chat", "initial_state": access })).await
}

async fn let_in(owner: &Client, room: &str, guests: &str) {
    let content = json!({ "guest_access": guests });
    owner.put(&path(room, "state/m.room.guest_access"), content).await.ok();
}

#[tokio::test]
async fn there_are_guests_where_the_operator_lets_them_or_anybody_may_register() {
    let guest = format!("{REGISTER}?kind=guest");
    for (open, guests, may) in [
        (Some(true), None, true),
        (Some(true), Some(false), false),
        (Some(false), None, false),
        (Some(false), Some(true), true),
    ] {
        let mut settings = open_settings();
        (settings.registration.open, settings.registration.guests) = (open, guests);
        let server = TestServer::with_settings(settings).await;
        let answer = server.anonymous().post(&guest, json!({})).await;
        match may {
            true => drop(answer.ok()),
            false => drop(answer.err(403, "M_GUEST_ACCESS_FORBIDDEN")),
        }
    }
}

#[tokio::test]
async fn a_guest_has_a_name_of_our_choice_and_may_do_little() {
    let server = with_guests().await;
    let guest = guest(&server).await;
    assert!(!guest.user_id.contains("chosen"), "{}", guest.user_id);
    let who = guest.get(WHOAMI).await.ok();
    assert_eq!((&who["user_id"], &who["is_guest"]), (&json!(guest.user_id), &json!(true)));
    let devices = guest.get("/_matrix/client/v3/devices").await.ok();
    assert_eq!(devices["devices"][0]["display_name"], "Kiosk");
    let name = format!("/_matrix/client/v3/profile/{}/displayname", guest.user_id);
    assert_eq!(guest.get(&name).await.status, 404, "a guest begins without a name");
    guest.put(&name, json!({ "displayname": "Visitor" })).await.ok();
    assert_eq!(guest.get(&name).await.ok()["displayname"], "Visitor");
    guest.get("/_matrix/client/v3/sync").await.ok();
    let refused = "M_GUEST_ACCESS_FORBIDDEN";
    let avatar = format!("/_matrix/client/v3/profile/{}/avatar_url", guest.user_id);
    guest.put(&avatar, json!({ "avatar_url": "mxc://a/b" })).await.err(403, refused);
    guest.delete(&avatar, None).await.err(403, refused);
    guest.delete(&name, None).await.ok();
    guest.post("/_matrix/client/v3/createRoom", json!({})).await.err(403, refused);
    guest.post("/_matrix/client/v3/account/password", json!({})).await.err(403, refused);
    let data = format!("/_matrix/client/v3/user/{}/account_data/a", guest.user_id);
    guest.put(&data, json!({})).await.err(403, refused);
    // What asks for nobody is for guests, too.
    guest.get("/_matrix/client/v3/publicRooms").await.ok();
    // Nobody finds him by his name.
    let alice = server.user("alice").await;
    let search = json!({ "search_term": &guest.user_id[1..6] });
    let found = alice.post("/_matrix/client/v3/user_directory/search", search).await.ok();
    assert_eq!(found["results"], json!([]));
    guest.post("/_matrix/client/v3/logout", json!({})).await.ok();
    guest.get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn guests_come_in_where_they_are_welcome_and_leave_when_they_are_no_more() {
    let server = with_guests().await;
    let (alice, guest) = (server.user("alice").await, guest(&server).await);
    let refused = "M_GUEST_ACCESS_FORBIDDEN";
    let silent = create(&alice, json!({ "preset": "public_chat" })).await;
    let closed = hall(&alice, "forbidden").await;
    let open = hall(&alice, "can_join").await;
    for room in [&silent, &closed] {
        guest.post(&path(room, "join"), json!({})).await.err(403, refused);
        let itself = path(room, &format!("state/m.room.member/{}", guest.user_id));
        guest.put(&itself, json!({ "membership": "join" })).await.err(403, refused);
        // An invitation changes nothing.
        alice.post(&path(room, "invite"), json!({ "user_id": guest.user_id })).await.ok();
        guest.post(&path(room, "join"), json!({})).await.err(403, refused);
    }
    join(&guest, &open, "localhost").await;
    say(&guest, &open, "hello").await;
    assert_eq!(texts(&alice, &open).await, ["hello"]);
    let bob = server.user("bob").await;
    join(&bob, &open, "localhost").await;
    guest.post(&path(&open, "invite"), json!({ "user_id": "@x:y" })).await.err(403, refused);
    let_in(&alice, &open, "forbidden").await;
    until(|| async { membership(&alice, &open, &guest.user_id).await == "leave" }).await;
    assert_eq!(membership(&alice, &open, &bob.user_id).await, "join", "users stay");
    guest.post(&path(&open, "join"), json!({})).await.err(403, refused);
    let_in(&alice, &open, "can_join").await;
    join(&guest, &open, "localhost").await;
    // Also when the event that says so goes.
    let events = alice.get(&path(&open, "state")).await.ok();
    let is_it = |event: &&Value| event["type"] == "m.room.guest_access";
    let event = events.as_array().unwrap().iter().find(is_it).unwrap()["event_id"].clone();
    let redact = path(&open, &format!("redact/{}/t", event.as_str().unwrap()));
    alice.put(&redact, json!({})).await.ok();
    guest.get(&path(&open, "state")).await.ok();
}

#[tokio::test]
async fn a_guest_becomes_a_user_under_the_same_name() {
    let server = with_guests().await;
    let (alice, guest, other) =
        (server.user("alice").await, guest(&server).await, guest(&server).await);
    let room = hall(&alice, "can_join").await;
    join(&guest, &room, "localhost").await;
    let name = guest.user_id[1..].split(':').next().unwrap().to_owned();
    let anybody = server.anonymous();
    let upgrade = |username: Value, token: &Option<String>| {
        json!({ "username": username, "password": "secret", "guest_access_token": token,
            "auth": { "type": "m.login.dummy" } })
    };
    let refused = |body: Value| anybody.post(REGISTER, body);
    refused(upgrade(json!(name), &other.token)).await.err(403, "M_FORBIDDEN");
    refused(upgrade(json!(name), &alice.token)).await.err(403, "M_FORBIDDEN");
    refused(upgrade(json!(name), &Some("none".to_owned()))).await.err(403, "M_FORBIDDEN");
    refused(upgrade(Value::Null, &guest.token)).await.err(400, "M_MISSING_PARAM");
    // Without the token the name is taken.
    let taken = json!({ "username": name, "password": "x", "auth": { "type": "m.login.dummy" } });
    refused(taken).await.err(400, "M_USER_IN_USE");
    let made = anybody.post(REGISTER, upgrade(json!(name), &guest.token)).await.ok();
    assert_eq!(made["user_id"], json!(guest.user_id));
    let mut user = server.anonymous();
    user.token = Some(made["access_token"].as_str().unwrap().to_owned());
    for client in [&user, &guest] {
        assert_ne!(client.get(WHOAMI).await.ok()["is_guest"], true);
        client.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
    }
    refused(upgrade(json!(name), &guest.token)).await.err(403, "M_FORBIDDEN");
    let login = json!({ "type": "m.login.password", "password": "secret",
        "identifier": { "type": "m.id.user", "user": name } });
    anybody.post("/_matrix/client/v3/login", login).await.ok();
    // A user stays where guests are not welcome.
    let_in(&alice, &room, "forbidden").await;
    join(&other, &hall(&alice, "can_join").await, "localhost").await;
    assert_eq!(membership(&alice, &room, &guest.user_id).await, "join");
}

#[tokio::test]
async fn guests_read_what_is_open_to_the_world_and_nothing_else() {
    let server = with_guests().await;
    let (alice, guest) = (server.user("alice").await, guest(&server).await);
    for (visibility, may) in [("world_readable", true), ("shared", false), ("joined", false)] {
        let history = json!([{ "type": "m.room.history_visibility",
            "content": { "history_visibility": visibility } }]);
        let room =
            create(&alice, json!({ "preset": "public_chat", "initial_state": history })).await;
        let event = say(&alice, &room, "words").await;
        for rest in ["messages?dir=b", "state", "members", "initialSync", "state/m.room.join_rules"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("event/{event}"), format!("context/{event}")])
        {
            let answer = guest.get(&path(&room, &rest)).await;
            let shows = rest.ends_with("join_rules") || answer.body.to_string().contains("sender");
            let read = answer.status == 200 && shows;
            assert_eq!(read, may, "{visibility} {rest}: {} {}", answer.status, answer.body);
        }
        let send = path(&room, "send/m.room.message/1");
        guest.put(&send, json!({ "body": "no" })).await.err(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn guests_of_one_server_are_seen_out_of_rooms_of_another() {
    let servers = Federation::start(2).await;
    let (alice, guest) = (servers[0].user("alice").await, guest(&servers[1]).await);
    let open = hall(&alice, "can_join").await;
    let closed = hall(&alice, "forbidden").await;
    join(&guest, &open, "hs1").await;
    say(&guest, &open, "from afar").await;
    let_in(&alice, &open, "forbidden").await;
    until(|| async { membership(&alice, &open, &guest.user_id).await == "leave" }).await;
    // Only who is in a room of another server knows whether guests may be.
    let address = format!("/_matrix/client/v3/join/{closed}?via=hs1");
    guest.post(&address, json!({})).await.err(403, "M_GUEST_ACCESS_FORBIDDEN");
    until(|| async { membership(&alice, &closed, &guest.user_id).await == "leave" }).await;
}

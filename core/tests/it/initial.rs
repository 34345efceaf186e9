//! `/initialSync`, the first sync from before there was `/sync`, of all rooms and of one.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::{create, encode, in_room, room_of, say};

async fn initial(client: &Client, query: &str) -> Value {
    client.get(&format!("/_matrix/client/v3/initialSync?{query}")).await.ok()
}

async fn of_room(client: &Client, room: &str, query: &str) -> Value {
    client.get(&in_room(room, &format!("initialSync?{query}"))).await.ok()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn room_in<'a>(answer: &'a Value, room: &str) -> Option<&'a Value> {
    list(&answer["rooms"]).iter().find(|one| one["room_id"] == room)
}

fn bodies(room: &Value) -> Vec<String> {
    let bodies = list(&room["messages"]["chunk"]).iter();
    let bodies = bodies.filter_map(|event| event["content"]["body"].as_str());
    bodies.map(str::to_owned).collect()
}

fn names(room: &Value) -> Vec<&Value> {
    let names = list(&room["state"]).iter().filter(|event| event["type"] == "m.room.name");
    names.map(|event| &event["content"]["name"]).collect()
}

async fn rename(client: &Client, room: &str, name: &str) {
    client.put(&in_room(room, "state/m.room.name"), json!({ "name": name })).await.ok();
}

async fn read(client: &Client, room: &str, event: &str) {
    let path = in_room(room, &format!("receipt/m.read/{}", encode(event)));
    client.post(&path, json!({})).await.ok();
}

fn has_receipt(answer: &Value, room: &str, event: &str, user: &Client) -> bool {
    list(&answer["receipts"]).iter().any(|receipt| {
        let read = &receipt["content"][event]["m.read"][&user.user_id]["ts"];
        receipt["room_id"] == room && read.is_i64()
    })
}

fn is_present(answer: &Value, user: &Client) -> bool {
    list(&answer["presence"]).iter().any(|event| {
        event["content"]["user_id"] == user.user_id.as_str()
            && event["content"]["presence"] == "online"
    })
}

#[tokio::test]
async fn all_rooms_are_shown_as_they_are() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let path = format!("/_matrix/client/v3/directory/list/room/{}", encode(&room));
    alice.put(&path, json!({ "visibility": "public" })).await.ok();
    rename(&alice, &room, "Square").await;
    for n in 0..4 {
        say(&bob, &room, &n.to_string()).await;
    }
    let last = say(&bob, &room, "4").await;
    read(&bob, &room, &last).await;
    let own = format!("/_matrix/client/v3/user/{}", encode(&alice.user_id));
    let tag = format!("{own}/rooms/{}/tags/u.work", encode(&room));
    alice.put(&tag, json!({ "order": 0.5 })).await.ok();
    alice.put(&format!("{own}/account_data/org.example.pets"), json!({ "cats": 2 })).await.ok();
    let quiet = create(&alice, json!({})).await;
    let answer = initial(&alice, "limit=3").await;
    assert_eq!(list(&answer["rooms"]).len(), 2);
    let shown = room_in(&answer, &room).unwrap();
    assert_eq!((&shown["membership"], &shown["visibility"]), (&json!("join"), &json!("public")));
    assert_eq!(bodies(shown), ["2", "3", "4"]);
    assert_eq!(shown["messages"]["chunk"][0]["room_id"], room.as_str());
    assert_eq!(names(shown), ["Square"]);
    let data = json!([{ "type": "m.tag", "content": { "tags": { "u.work": { "order": 0.5 } } } }]);
    assert_eq!(shown["account_data"], data);
    assert_eq!(room_in(&answer, &quiet).unwrap()["visibility"], "private");
    let pets = json!({ "type": "org.example.pets", "content": { "cats": 2 } });
    assert!(list(&answer["account_data"]).contains(&pets), "{answer}");
    assert!(has_receipt(&answer, &room, &last, &bob), "{answer}");
    assert!(is_present(&answer, &alice), "{answer}");
    // What comes before is where the chunk begins, what comes after where it ends.
    let start = shown["messages"]["start"].as_str().unwrap();
    let page = in_room(&room, &format!("messages?dir=b&limit=2&from={start}"));
    let page = alice.get(&page).await.ok();
    assert_eq!(page["chunk"][0]["content"]["body"], "1");
    let later = say(&bob, &room, "later").await;
    for end in [&answer["end"], &shown["messages"]["end"]] {
        let path =
            format!("/_matrix/client/v3/events?timeout=30000&from={}", end.as_str().unwrap());
        let news = alice.get(&path).await.ok();
        let events = list(&news["chunk"]).iter();
        let mut events = events.filter(|event| event.get("event_id").is_some());
        assert_eq!(events.next().unwrap()["event_id"], later, "{news}");
    }
    let none = initial(&alice, "limit=0").await;
    let shown = room_in(&none, &room).unwrap();
    assert_eq!(shown["messages"]["chunk"], json!([]));
    assert_eq!(names(shown), ["Square"], "the state is whole whatever is said: {shown}");
    alice.get("/_matrix/client/v3/initialSync?limit=hello").await.err(400, "M_INVALID_PARAM");
    alice.get("/_matrix/client/r0/initialSync?archived=maybe").await.err(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn the_invited_are_shown_who_invites_them() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = create(&alice, json!({ "name": "Square" })).await;
    alice.post(&in_room(&room, "invite"), json!({ "user_id": bob.user_id })).await.ok();
    let answer = initial(&bob, "").await;
    let shown = room_in(&answer, &room).unwrap();
    assert_eq!(shown["membership"], "invite");
    assert_eq!(shown["inviter"], alice.user_id.as_str());
    assert_eq!(shown["invite"]["state_key"], bob.user_id.as_str());
    assert_eq!(shown["invite"]["content"]["membership"], "invite");
    let stripped = list(&shown["invite"]["unsigned"]["invite_room_state"]);
    assert!(stripped.iter().any(|event| event["content"]["name"] == "Square"), "{shown}");
    assert_eq!(shown.get("messages"), None, "{shown}");
    bob.get(&in_room(&room, "initialSync")).await.err(403, "M_FORBIDDEN");
    // Not of whom he ignores.
    let ignored = json!({ "ignored_users": { &alice.user_id: {} } });
    let path = format!("/_matrix/client/v3/user/{}", encode(&bob.user_id));
    bob.put(&format!("{path}/account_data/m.ignored_user_list"), ignored).await.ok();
    assert!(room_in(&initial(&bob, "").await, &room).is_none());
}

#[tokio::test]
async fn who_left_is_shown_the_room_as_it_was_then() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    rename(&alice, &room, "Before").await;
    let said = say(&alice, &room, "before").await;
    read(&alice, &room, &said).await;
    bob.post(&in_room(&room, "leave"), json!({})).await.ok();
    rename(&alice, &room, "After").await;
    say(&alice, &room, "after").await;
    assert!(room_in(&initial(&bob, "").await, &room).is_none(), "only if he asks for it");
    let answer = initial(&bob, "archived=true&limit=2").await;
    let alone = of_room(&bob, &room, "limit=2").await;
    for shown in [room_in(&answer, &room).unwrap(), &alone] {
        assert_eq!(shown["membership"], "leave");
        assert_eq!(bodies(shown), ["before"], "{shown}");
        assert_eq!(shown["messages"]["chunk"][1]["content"]["membership"], "leave");
        assert_eq!(names(shown), ["Before"], "{shown}");
    }
    assert_eq!((&alone["presence"], &alone["receipts"]), (&json!([]), &json!([])));
    assert_eq!(answer["receipts"], json!([]));
    bob.post(&in_room(&room, "forget"), json!({})).await.ok();
    assert!(room_in(&initial(&bob, "archived=true").await, &room).is_none());
    bob.get(&in_room(&room, "initialSync")).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn one_room_is_shown_to_members_and_to_all_who_may_look_in() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let stranger = server.user("stranger").await;
    let room = room_of(&[&alice, &bob]).await;
    let private = say(&alice, &room, "for members").await;
    read(&bob, &room, &private).await;
    let data = format!(
        "/_matrix/client/v3/user/{}/rooms/{}/account_data/org.example.pets",
        encode(&alice.user_id),
        encode(&room)
    );
    alice.put(&data, json!({ "cats": 2 })).await.ok();
    let shown = of_room(&alice, &room, "").await;
    assert_eq!((&shown["room_id"], &shown["membership"]), (&json!(room), &json!("join")));
    assert!(bodies(&shown).contains(&"for members".to_owned()), "{shown}");
    let pets = json!([{ "type": "org.example.pets", "content": { "cats": 2 } }]);
    assert_eq!(shown["account_data"], pets);
    assert!(has_receipt(&shown, &room, &private, &bob), "{shown}");
    assert!(is_present(&shown, &alice), "{shown}");
    stranger.get(&in_room(&room, "initialSync")).await.err(403, "M_FORBIDDEN");
    let none = "/_matrix/client/v3/rooms/!nothing%3Alocalhost/initialSync";
    stranger.get(none).await.err(403, "M_FORBIDDEN");
    let open = json!({ "history_visibility": "world_readable" });
    alice.put(&in_room(&room, "state/m.room.history_visibility"), open).await.ok();
    say(&alice, &room, "for all").await;
    let shown = of_room(&stranger, &room, "").await;
    assert_eq!(shown.get("membership"), None, "{shown}");
    let chunk = list(&shown["messages"]["chunk"]);
    assert_eq!(chunk.len(), 2, "nothing from before it was open: {shown}");
    assert_eq!(chunk[0]["type"], "m.room.history_visibility");
    assert_eq!(bodies(&shown), ["for all"]);
    assert!(list(&shown["state"]).iter().any(|event| event["type"] == "m.room.create"));
    assert_eq!(shown["account_data"], json!([]));
}

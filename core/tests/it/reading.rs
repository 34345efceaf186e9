//! Reading a timeline: which edits are in force, what filters keep of rooms, and where pages end.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::{create, encode, filter, in_room, room_of, say, send, sync_with};

fn edit_of(event: &str, body: &str) -> Value {
    json!({
        "msgtype": "m.text", "body": format!("* {body}"),
        "m.new_content": { "msgtype": "m.text", "body": body },
        "m.relates_to": { "rel_type": "m.replace", "event_id": event },
    })
}

async fn edit_in_force(client: &Client, room: &str, event: &str) -> Value {
    let event = client.get(&in_room(room, &format!("event/{}", encode(event)))).await.ok();
    event["unsigned"]["m.relations"]["m.replace"]["event_id"].clone()
}

#[tokio::test]
async fn an_invalid_edit_displaces_no_valid_one() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room_of(&[&alice, &bob]).await;
    let message = "m.room.message";
    let event = say(&alice, &room, "first").await;
    let valid = send(&alice, &room, message, edit_of(&event, "second")).await;
    for new_content in [None, Some(json!("text")), Some(json!(null)), Some(json!(["a"]))] {
        let mut edit = edit_of(&event, "broken");
        match new_content {
            Some(value) => edit["m.new_content"] = value,
            None => drop(edit.as_object_mut().unwrap().remove("m.new_content")),
        }
        send(&alice, &room, message, edit).await;
    }
    for _ in 0..20 {
        let mut edit = edit_of(&event, "broken");
        edit["m.new_content"] = json!(1);
        send(&alice, &room, message, edit).await;
    }
    send(&bob, &room, message, edit_of(&event, "not his")).await;
    send(&alice, &room, "m.sticker", edit_of(&event, "of another type")).await;
    assert_eq!(edit_in_force(&alice, &room, &event).await, valid.as_str());
    // An edit of an edit is in force for neither.
    send(&alice, &room, message, edit_of(&valid, "third")).await;
    assert_eq!(edit_in_force(&alice, &room, &valid).await, Value::Null);
    assert_eq!(edit_in_force(&bob, &room, &event).await, valid.as_str());
    let alone = say(&alice, &room, "alone").await;
    let mut edit = edit_of(&alone, "broken");
    edit["m.new_content"] = json!(false);
    send(&alice, &room, message, edit).await;
    assert_eq!(edit_in_force(&alice, &room, &alone).await, Value::Null);
}

#[tokio::test]
async fn state_events_and_events_of_other_rooms_are_not_edited() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let (room, other) = (create(&alice, json!({})).await, create(&alice, json!({})).await);
    let topic = alice.put(&in_room(&room, "state/m.room.topic"), json!({ "topic": "t" })).await;
    let topic = topic.ok()["event_id"].as_str().unwrap().to_owned();
    send(&alice, &room, "m.room.topic", edit_of(&topic, "no")).await;
    assert_eq!(edit_in_force(&alice, &room, &topic).await, Value::Null);
    let event = say(&alice, &room, "here").await;
    // A relation to an event of another room is none: it is sent, as one to an unknown event is.
    send(&alice, &other, "m.room.message", edit_of(&event, "from elsewhere")).await;
    assert_eq!(edit_in_force(&alice, &room, &event).await, Value::Null);
}

#[tokio::test]
async fn an_encrypted_edit_has_its_new_content_inside() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let secret = |more: Value| {
        let mut content = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AA" });
        content.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        content
    };
    let event = send(&alice, &room, "m.room.encrypted", secret(json!({}))).await;
    let relates_to = json!({ "rel_type": "m.replace", "event_id": event });
    let edit = secret(json!({ "m.relates_to": relates_to }));
    let edit = send(&alice, &room, "m.room.encrypted", edit).await;
    assert_eq!(edit_in_force(&alice, &room, &event).await, edit.as_str());
}

#[tokio::test]
async fn filters_choose_rooms_wherever_they_are_taken() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let (room, other) = (create(&alice, json!({})).await, create(&alice, json!({})).await);
    say(&alice, &room, "a needle").await;
    let centre = say(&alice, &room, "the centre").await;
    say(&alice, &room, "a needle later").await;
    let context = format!("context/{}?limit=10&", encode(&centre));
    for (narrowed, shown) in [
        (json!({ "rooms": [room] }), true),
        (json!({ "rooms": [other] }), false),
        (json!({ "rooms": [] }), false),
        (json!({ "not_rooms": [room] }), false),
        (json!({ "not_rooms": [other] }), true),
        (json!({ "rooms": [room], "not_rooms": [room] }), false),
    ] {
        let query = filter(narrowed.clone());
        let page = alice.get(&in_room(&room, &format!("messages?dir=b&{query}"))).await.ok();
        assert_eq!(!page["chunk"].as_array().unwrap().is_empty(), shown, "{narrowed}: {page}");
        assert!(shown || page.get("end").is_none(), "{narrowed}: {page}");
        let found = alice.get(&in_room(&room, &format!("{context}{query}"))).await.ok();
        assert_eq!(found["event"]["event_id"], centre.as_str(), "{narrowed}");
        for part in ["events_before", "events_after", "state"] {
            let empty = found[part].as_array().is_none_or(Vec::is_empty);
            assert_eq!(!empty, shown, "{narrowed} {part}: {found}");
        }
        let body = json!({ "search_categories": { "room_events": {
            "search_term": "needle", "filter": narrowed,
        } } });
        let found = alice.post("/_matrix/client/v3/search", body).await.ok();
        let count = found["search_categories"]["room_events"]["count"].as_i64().unwrap();
        assert_eq!(count > 0, shown, "{narrowed}: {found}");
        let query = filter(json!({ "room": { "timeline": narrowed, "state": narrowed } }));
        let answer = sync_with(&alice, None, &query).await;
        let joined = &answer["rooms"]["join"][&room];
        for part in [&joined["timeline"]["events"], &joined["state"]["events"]] {
            let empty = part.as_array().is_none_or(Vec::is_empty);
            assert!(shown || empty, "{narrowed}: {joined}");
        }
    }
}

#[tokio::test]
async fn a_context_has_the_state_the_filter_wants() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({ "name": "Square" })).await;
    let centre = encode(&say(&alice, &room, "the centre").await);
    let query = filter(json!({ "types": ["m.room.name"] }));
    let found = alice.get(&in_room(&room, &format!("context/{centre}?{query}"))).await.ok();
    let state = found["state"].as_array().unwrap();
    assert_eq!((state.len(), &state[0]["type"]), (1, &json!("m.room.name")), "{found}");
}

#[tokio::test]
async fn pages_end_with_an_empty_one_both_ways() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    for n in 0..7 {
        say(&alice, &room, &format!("m{n}")).await;
    }
    for dir in ["b", "f"] {
        for limit in [3, 7, 100] {
            let (mut from, mut seen, mut pages) = (String::new(), 0, 0);
            loop {
                let query = format!("messages?dir={dir}&limit={limit}{from}");
                let page = alice.get(&in_room(&room, &query)).await.ok();
                let count = page["chunk"].as_array().unwrap().len();
                seen += count;
                pages += 1;
                assert!(pages < 20, "{dir} {limit}: it never ends");
                match page["end"].as_str() {
                    Some(end) => from = format!("&from={end}"),
                    None => {
                        assert_eq!(count, 0, "{dir} {limit}: {page}");
                        break;
                    }
                }
            }
            let all = alice.get(&in_room(&room, "messages?dir=b&limit=1000")).await.ok();
            assert_eq!(seen, all["chunk"].as_array().unwrap().len(), "{dir} {limit}");
        }
    }
}

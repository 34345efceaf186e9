//! `/events`, the stream from before `/sync`, and single events by their id alone.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::{create, encode, in_room, room_of, say, sync, token};

/// A page of the stream; without waiting unless `more` says so.
async fn page(client: &Client, from: Option<&str>, more: &str) -> Value {
    let from = from.map(|from| format!("from={from}&")).unwrap_or_default();
    client.get(&format!("/_matrix/client/v3/events?{from}{more}")).await.ok()
}

fn end(page: &Value) -> String {
    page["end"].as_str().unwrap().to_owned()
}

async fn now(client: &Client) -> String {
    end(&page(client, None, "timeout=0").await)
}

fn chunk(page: &Value) -> Vec<Value> {
    page["chunk"].as_array().unwrap().clone()
}

/// Reads on until there is an event of a kind, and returns it.
async fn next(client: &Client, from: &str, kind: &str) -> Value {
    let mut from = from.to_owned();
    loop {
        let answer = page(client, Some(&from), "timeout=30000").await;
        let found = chunk(&answer).into_iter().find(|event| event["type"] == kind);
        if let Some(found) = found {
            return found;
        }
        from = end(&answer);
    }
}

fn ids(events: &[Value]) -> Vec<String> {
    let ids = events.iter().filter_map(|event| event["event_id"].as_str());
    ids.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_stream_is_one_list_of_all_rooms_in_order() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let rooms = [room_of(&[&alice, &bob]).await, room_of(&[&bob, &alice]).await];
    let first = page(&alice, None, "timeout=0").await;
    assert_eq!(first["chunk"], json!([]), "the stream begins now");
    let mut said = Vec::new();
    for n in 0..12 {
        said.push(say(&bob, &rooms[n % 2], &n.to_string()).await);
    }
    let whole = page(&alice, first["end"].as_str(), "").await;
    assert_eq!(ids(&chunk(&whole)), said);
    assert_eq!(whole["start"], first["end"]);
    let event = &whole["chunk"][3];
    assert_eq!(event["room_id"], rooms[1].as_str());
    assert_eq!(event["sender"], bob.user_id.as_str());
    assert_eq!(event["content"]["body"], "3");
    assert!(event["unsigned"]["age"].is_i64());
    // By parts it is the same, and each begins where the one before ended.
    let (mut from, mut told) = (end(&first), Vec::new());
    while told.len() < said.len() {
        let part = page(&alice, Some(&from), "limit=5&timeout=30000").await;
        let events: Vec<Value> =
            chunk(&part).into_iter().filter(|event| event.get("event_id").is_some()).collect();
        assert!((1..=5).contains(&events.len()), "{part}");
        told.extend(ids(&events));
        from = end(&part);
    }
    assert_eq!(told, said);
    assert!(ids(&chunk(&page(&alice, Some(&from), "timeout=0").await)).is_empty());
    // The older path is the same.
    let old = alice.get(&format!("/_matrix/client/r0/events?from={}", end(&first))).await.ok();
    assert_eq!(ids(&chunk(&old)), said);
}

#[tokio::test]
async fn who_waits_is_woken_by_every_kind_of_news() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let from = now(&alice).await;
    let (waited, said) =
        tokio::join!(next(&alice, &from, "m.room.message"), say(&bob, &room, "hello"));
    assert_eq!(waited["event_id"], said);
    let from = now(&alice).await;
    let typing = in_room(&room, &format!("typing/{}", encode(&bob.user_id)));
    bob.put(&typing, json!({ "typing": true, "timeout": 30000 })).await.ok();
    let event = next(&alice, &from, "m.typing").await;
    assert_eq!(event["room_id"], room.as_str());
    assert_eq!(event["content"]["user_ids"], json!([bob.user_id]));
    let receipt = in_room(&room, &format!("receipt/m.read/{}", encode(&said)));
    bob.post(&receipt, json!({})).await.ok();
    let event = next(&alice, &from, "m.receipt").await;
    assert_eq!(event["room_id"], room.as_str());
    assert!(event["content"][&said]["m.read"][&bob.user_id]["ts"].is_i64(), "{event}");
    let status = format!("/_matrix/client/v3/presence/{}/status", encode(&bob.user_id));
    bob.put(&status, json!({ "presence": "online", "status_msg": "here" })).await.ok();
    let event = next(&alice, &from, "m.presence").await;
    assert_eq!(event["sender"], bob.user_id.as_str());
    assert_eq!(event["content"]["user_id"], bob.user_id.as_str());
    let own = format!("/_matrix/client/v3/user/{}", encode(&alice.user_id));
    let tag = format!("{own}/rooms/{}/tags/u.work", encode(&room));
    alice.put(&tag, json!({ "order": 0.5 })).await.ok();
    let event = next(&alice, &from, "m.tag").await;
    let expected = json!({ "tags": { "u.work": { "order": 0.5 } } });
    assert_eq!((&event["room_id"], &event["content"]), (&json!(room), &expected));
    alice.put(&format!("{own}/account_data/org.example.pets"), json!({ "cats": 2 })).await.ok();
    let event = next(&alice, &from, "org.example.pets").await;
    assert_eq!(event, json!({ "type": "org.example.pets", "content": { "cats": 2 } }));
}

#[tokio::test]
async fn a_user_is_told_what_becomes_of_himself() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = create(&alice, json!({ "name": "Square" })).await;
    let said_before = say(&alice, &room, "before").await;
    let from = now(&bob).await;
    alice.post(&in_room(&room, "invite"), json!({ "user_id": bob.user_id })).await.ok();
    let between = say(&alice, &room, "not for the invited").await;
    let told = page(&bob, Some(&from), "").await;
    let events: Vec<Value> =
        chunk(&told).into_iter().filter(|event| event["type"] == "m.room.member").collect();
    assert_eq!(ids(&chunk(&told)), ids(&events), "nothing but the invitation: {told}");
    let [invite] = &events[..] else { panic!("one invitation: {told}") };
    assert_eq!(invite["state_key"], bob.user_id.as_str());
    assert_eq!(invite["content"]["membership"], "invite");
    let shown = invite["unsigned"]["invite_room_state"].as_array().unwrap();
    assert!(shown.iter().any(|event| event["content"]["name"] == "Square"), "{invite}");
    bob.post(&in_room(&room, "join"), json!({})).await.ok();
    let inside = say(&alice, &room, "for members").await;
    let told = page(&bob, Some(&from), "").await;
    let seen = ids(&chunk(&told));
    assert!(seen.contains(&inside) && seen.contains(&between), "shared with who joined: {told}");
    assert!(!seen.contains(&said_before), "before the token: {told}");
    let kick = json!({ "user_id": bob.user_id, "reason": "noise" });
    alice.post(&in_room(&room, "kick"), kick).await.ok();
    let outside = say(&alice, &room, "for those who stayed").await;
    let told = page(&bob, Some(&end(&told)), "").await;
    let last = chunk(&told).into_iter().rfind(|event| event.get("event_id").is_some()).unwrap();
    assert_eq!(last["content"]["membership"], "leave", "{told}");
    assert_eq!(last["content"]["reason"], "noise");
    assert!(!ids(&chunk(&told)).contains(&outside));
    say(&alice, &room, "still not").await;
    assert!(ids(&chunk(&page(&bob, Some(&end(&told)), "timeout=0").await)).is_empty());
    // Whom he ignores he hears nothing of.
    let ignored = json!({ "ignored_users": { &alice.user_id: {} } });
    let path = format!("/_matrix/client/v3/user/{}", encode(&bob.user_id));
    bob.put(&format!("{path}/account_data/m.ignored_user_list"), ignored).await.ok();
    let from = now(&bob).await;
    alice.post(&in_room(&room, "invite"), json!({ "user_id": bob.user_id })).await.ok();
    assert!(ids(&chunk(&page(&bob, Some(&from), "timeout=0").await)).is_empty());
}

#[tokio::test]
async fn what_everybody_may_read_everybody_may_listen_to() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let stranger = server.user("stranger").await;
    let open = json!({
        "preset": "public_chat",
        "initial_state": [{
            "type": "m.room.history_visibility", "state_key": "",
            "content": { "history_visibility": "world_readable" },
        }],
    });
    let room = create(&alice, open).await;
    let closed = create(&alice, json!({ "preset": "public_chat" })).await;
    let here = format!("room_id={}", encode(&room));
    let from = end(&page(&stranger, None, &format!("{here}&timeout=0")).await);
    let wait_here = format!("{here}&timeout=30000");
    let (waited, said) =
        tokio::join!(page(&stranger, Some(&from), &wait_here), say(&alice, &room, "hello"));
    assert_eq!(ids(&chunk(&waited)), [said]);
    let from = end(&waited);
    let typing = in_room(&room, &format!("typing/{}", encode(&alice.user_id)));
    alice.put(&typing, json!({ "typing": true, "timeout": 30000 })).await.ok();
    let heard = page(&stranger, Some(&from), &wait_here).await;
    assert_eq!(heard["chunk"][0]["content"]["user_ids"], json!([alice.user_id]), "{heard}");
    // Of his own rooms he hears all the while, and of this one nothing there.
    let own = create(&stranger, json!({})).await;
    say(&alice, &room, "again").await;
    let all = chunk(&page(&stranger, Some(&from), "").await);
    let events = all.iter().filter(|event| event.get("event_id").is_some());
    assert!(events.clone().count() > 0 && events.clone().all(|e| e["room_id"] == own.as_str()));
    // And of one room nothing of others.
    let both = chunk(&page(&alice, Some(&from), &format!("room_id={}", encode(&closed))).await);
    assert_eq!(both, [] as [Value; 0], "nothing happened there");
    for room in [&closed, "!nothing:localhost"] {
        let path = format!("/_matrix/client/v3/events?room_id={}", encode(room));
        stranger.get(&path).await.err(403, "M_FORBIDDEN");
    }
    // Once only members may read it, what is said is not heard any more.
    let shut = json!({ "history_visibility": "joined" });
    let from = end(&page(&stranger, None, &format!("{here}&timeout=0")).await);
    alice.put(&in_room(&room, "state/m.room.history_visibility"), shut).await.ok();
    say(&alice, &room, "for members").await;
    let path = format!("/_matrix/client/v3/events?from={from}&{here}");
    stranger.get(&path).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn the_tokens_of_the_stream_and_of_sync_are_the_same() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let from = token(&sync(&alice, None).await);
    let said = say(&bob, &room, "hello").await;
    let message = json!({ "messages": { &alice.user_id: { "*": { "secret": 1 } } } });
    bob.put("/_matrix/client/v3/sendToDevice/org.example.secret/t1", message).await.ok();
    let told = page(&alice, Some(&from), "").await;
    assert_eq!(ids(&chunk(&told)), [said]);
    let later = say(&bob, &room, "later").await;
    let answer = sync(&alice, Some(&end(&told))).await;
    let timeline = &answer["rooms"]["join"][&room]["timeline"]["events"];
    assert_eq!(ids(timeline.as_array().unwrap()), [later]);
    let secret = &answer["to_device"]["events"][0]["content"];
    assert_eq!(*secret, json!({ "secret": 1 }), "the stream did not pass over it: {answer}");
}

#[tokio::test]
async fn what_the_stream_cannot_read_it_refuses() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for wrong in [
        "from=nonsense",
        "from=t12",
        "timeout=hello",
        "timeout=-1",
        "limit=hello",
        "limit=-2",
        "room_id=nonsense",
    ] {
        let path = format!("/_matrix/client/v3/events?{wrong}");
        alice.get(&path).await.err(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn an_event_is_found_by_its_id_alone() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let stranger = server.user("stranger").await;
    let room = create(&alice, json!({})).await;
    let said = say(&alice, &room, "hello").await;
    for version in ["v3", "r0"] {
        let path = format!("/_matrix/client/{version}/events/{}", encode(&said));
        let found = alice.get(&path).await.ok();
        assert_eq!((&found["event_id"], &found["room_id"]), (&json!(said), &json!(room)));
        assert_eq!(found["content"]["body"], "hello");
        let hidden = stranger.get(&path).await.err(404, "M_NOT_FOUND");
        let none = format!("/_matrix/client/{version}/events/%24nothing");
        assert_eq!(hidden, alice.get(&none).await.err(404, "M_NOT_FOUND"));
    }
    alice.get("/_matrix/client/v3/events/nonsense").await.err(400, "M_INVALID_PARAM");
}

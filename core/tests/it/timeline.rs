//! Reading a room's past through the API: pages both ways, context, single events, relations,
//! threads, members, and who may see what.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

fn encode(text: &str) -> String {
    text.replace('#', "%23").replace('!', "%21").replace(':', "%3A").replace('$', "%24")
}

fn path(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", encode(room))
}

fn path_v1(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v1/rooms/{}/{rest}", encode(room))
}

async fn room_of(client: &Client, request: Value) -> String {
    let made = client.post("/_matrix/client/v3/createRoom", request).await.ok();
    made["room_id"].as_str().unwrap().to_owned()
}

async fn say(client: &Client, room: &str, txn: &str, content: Value) -> String {
    let sent = client.put(&path(room, &format!("send/m.room.message/{txn}")), content).await.ok();
    sent["event_id"].as_str().unwrap().to_owned()
}

fn text(body: &str) -> Value {
    json!({ "msgtype": "m.text", "body": body })
}

fn bodies(chunk: &Value) -> Vec<String> {
    let events = chunk.as_array().unwrap().iter();
    events.filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn pages_go_both_ways_and_meet() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = room_of(&alice, json!({})).await;
    let said: Vec<String> = (0..25).map(|n| format!("m{n}")).collect();
    for (n, body) in said.iter().enumerate() {
        say(&alice, &room, &format!("t{n}"), text(body)).await;
    }
    let (mut backward, mut from) = (Vec::new(), String::new());
    loop {
        let page = alice.get(&path(&room, &format!("messages?dir=b&limit=7{from}"))).await.ok();
        assert!(page["chunk"].as_array().unwrap().len() <= 7);
        backward.extend(bodies(&page["chunk"]));
        let Some(end) = page["end"].as_str() else { break };
        from = format!("&from={end}");
    }
    backward.reverse();
    assert_eq!(backward, said);
    let page = alice.get(&path(&room, "messages?dir=f&limit=100")).await.ok();
    assert_eq!(bodies(&page["chunk"]), said);
    assert_eq!(page["chunk"][0]["type"], "m.room.create");
    // What the timeline of a sync leaves out is before its prev_batch, without gap or overlap.
    let filter = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A4%7D%7D%7D";
    let sync = alice.get(&format!("/_matrix/client/v3/sync?filter={filter}")).await.ok();
    let timeline = &sync["rooms"]["join"][&room]["timeline"];
    assert_eq!(timeline["limited"], true);
    assert_eq!(bodies(&timeline["events"]), said[21..]);
    let prev = timeline["prev_batch"].as_str().unwrap();
    let page = alice.get(&path(&room, &format!("messages?dir=b&limit=3&from={prev}"))).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["m20", "m19", "m18"]);
    // A sync token is a place, too.
    let next = sync["next_batch"].as_str().unwrap();
    say(&alice, &room, "later", text("later")).await;
    let page = alice.get(&path(&room, &format!("messages?dir=f&from={next}"))).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["later"]);
    alice.get(&path(&room, "messages?dir=b&from=nonsense")).await.err(400, "M_INVALID_PARAM");
    alice.get(&path(&room, "messages?dir=sideways")).await.err(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn an_event_with_its_surroundings() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let stranger = server.user("stranger").await;
    let room = room_of(&alice, json!({ "name": "Square" })).await;
    let mut ids = Vec::new();
    for n in 0..9 {
        ids.push(say(&alice, &room, &format!("t{n}"), text(&format!("m{n}"))).await);
    }
    let middle = encode(&ids[4]);
    let found = alice.get(&path(&room, &format!("context/{middle}?limit=4"))).await.ok();
    assert_eq!(found["event"]["content"]["body"], "m4");
    assert_eq!(bodies(&found["events_before"]), ["m3", "m2"]);
    assert_eq!(bodies(&found["events_after"]), ["m5", "m6"]);
    let state = found["state"].as_array().unwrap();
    assert!(state.iter().any(|event| event["type"] == "m.room.name"));
    let start = found["start"].as_str().unwrap();
    let page = alice.get(&path(&room, &format!("messages?dir=b&limit=2&from={start}"))).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["m1", "m0"]);
    let end = found["end"].as_str().unwrap();
    let page = alice.get(&path(&room, &format!("messages?dir=f&limit=2&from={end}"))).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["m7", "m8"]);
    let event = alice.get(&path(&room, &format!("event/{middle}"))).await.ok();
    assert_eq!(event["unsigned"]["transaction_id"], "t4");
    assert_eq!(event["room_id"], room.as_str());
    let other = alice.another_device().await;
    let event = other.get(&path(&room, &format!("event/{middle}"))).await.ok();
    assert_eq!(event["unsigned"].get("transaction_id"), None);
    stranger.get(&path(&room, &format!("event/{middle}"))).await.err(404, "M_NOT_FOUND");
    stranger.get(&path(&room, &format!("context/{middle}"))).await.err(403, "M_FORBIDDEN");
    stranger.get(&path(&room, "messages?dir=b")).await.err(403, "M_FORBIDDEN");
    alice.get(&path(&room, "event/%24nonsense")).await.err(404, "M_NOT_FOUND");
    let at = event["origin_server_ts"].as_i64().unwrap();
    let near = path_v1(&room, &format!("timestamp_to_event?dir=f&ts={at}"));
    assert_eq!(alice.get(&near).await.ok()["origin_server_ts"], at);
    let early = path_v1(&room, "timestamp_to_event?dir=b&ts=0");
    alice.get(&early).await.err(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn edits_references_and_threads_are_bundled() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&alice, json!({ "preset": "public_chat" })).await;
    bob.post(&path(&room, "join"), json!({})).await.ok();
    let root = say(&alice, &room, "t1", text("root")).await;
    let edit = |body: &str| {
        json!({
            "msgtype": "m.text", "body": format!("* {body}"), "m.new_content": text(body),
            "m.relates_to": { "rel_type": "m.replace", "event_id": root },
        })
    };
    say(&alice, &room, "e1", edit("first edit")).await;
    let latest = say(&alice, &room, "e2", edit("second edit")).await;
    say(&bob, &room, "e3", edit("not my event")).await;
    let related = |kind: &str| json!({ "rel_type": kind, "event_id": root });
    let mut reply = text("in thread");
    reply["m.relates_to"] = related("m.thread");
    let in_thread = say(&bob, &room, "th1", reply.clone()).await;
    let mut pointer = text("see there");
    pointer["m.relates_to"] = related("m.reference");
    let pointing = say(&bob, &room, "r1", pointer).await;
    let shown = alice.get(&path(&room, &format!("event/{}", encode(&root)))).await.ok();
    let relations = &shown["unsigned"]["m.relations"];
    assert_eq!(shown["content"]["body"], "root");
    assert_eq!(relations["m.replace"]["event_id"], latest.as_str());
    assert_eq!(relations["m.thread"]["latest_event"]["event_id"], in_thread.as_str());
    assert_eq!(relations["m.thread"]["count"], 1);
    assert_eq!(relations["m.thread"]["current_user_participated"], true);
    assert_eq!(relations["m.reference"]["chunk"], json!([{ "event_id": pointing }]));

    let list = |rest: &str| path_v1(&room, &format!("relations/{}{rest}", encode(&root)));
    let all = alice.get(&list("")).await.ok();
    assert_eq!(all["chunk"].as_array().unwrap().len(), 5);
    assert_eq!(all["chunk"][0]["event_id"], pointing.as_str(), "newest first");
    let replies = alice.get(&list("/m.thread/m.room.message")).await.ok();
    assert_eq!(replies["chunk"].as_array().unwrap().len(), 1);
    let page = alice.get(&list("/m.replace?limit=2")).await.ok();
    let next = page["next_batch"].as_str().unwrap();
    let rest = alice.get(&list(&format!("/m.replace?limit=2&from={next}"))).await.ok();
    assert_eq!(bodies(&rest["chunk"]), ["* first edit"]);
    assert_eq!(rest.get("next_batch"), None);
    let oldest = alice.get(&list("/m.replace?dir=f&limit=1")).await.ok();
    assert_eq!(bodies(&oldest["chunk"]), ["* first edit"]);
    alice.get(&path_v1(&room, "relations/%24no")).await.err(404, "M_NOT_FOUND");

    let threads = alice.get(&path_v1(&room, "threads")).await.ok();
    assert_eq!(threads["chunk"][0]["event_id"], root.as_str());
    let mine = alice.get(&path_v1(&room, "threads?include=participated")).await.ok();
    assert_eq!(mine["chunk"].as_array().unwrap().len(), 1);

    // A redacted reply is no longer counted, a redacted edit no longer in force.
    let redact = |id: &str, txn: &str| path(&room, &format!("redact/{}/{txn}", encode(id)));
    bob.put(&redact(&in_thread, "x1"), json!({})).await.ok();
    alice.put(&redact(&latest, "x2"), json!({})).await.ok();
    let shown = alice.get(&path(&room, &format!("event/{}", encode(&root)))).await.ok();
    let relations = &shown["unsigned"]["m.relations"];
    assert_eq!(relations["m.replace"]["content"]["body"], "* first edit");
    assert_eq!(relations.get("m.thread"), None, "{relations}");
    let gone = alice.get(&path(&room, &format!("event/{}", encode(&latest)))).await.ok();
    assert_eq!(gone["content"], json!({}));
    assert_eq!(gone["unsigned"]["redacted_because"]["type"], "m.room.redaction");
}

#[tokio::test]
async fn history_is_seen_by_whom_it_may_be() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let late = server.user("late").await;
    for (visibility, sees) in [("shared", true), ("joined", false), ("invited", false)] {
        let state = json!([{
            "type": "m.room.history_visibility", "content": { "history_visibility": visibility },
        }]);
        let request = json!({ "preset": "public_chat", "initial_state": state });
        let room = room_of(&alice, request).await;
        let before = say(&alice, &room, "t1", text("before")).await;
        late.post(&path(&room, "join"), json!({})).await.ok();
        say(&alice, &room, "t2", text("while in")).await;
        late.post(&path(&room, "leave"), json!({})).await.ok();
        let after = say(&alice, &room, "t3", text("after")).await;
        let page = late.get(&path(&room, "messages?dir=b&limit=50")).await.ok();
        let seen = bodies(&page["chunk"]);
        assert_eq!(seen.contains(&"before".to_owned()), sees, "{visibility}: {seen:?}");
        assert!(seen.contains(&"while in".to_owned()), "{visibility}: {seen:?}");
        assert!(!seen.contains(&"after".to_owned()), "{visibility}: {seen:?}");
        let event = late.get(&path(&room, &format!("event/{}", encode(&before)))).await;
        assert_eq!(event.status, if sees { 200 } else { 404 }, "{visibility}");
        let hidden = path(&room, &format!("event/{}", encode(&after)));
        late.get(&hidden).await.err(404, "M_NOT_FOUND");
        // The state stays as it was when he left.
        let topic = path(&room, "state/m.room.topic");
        alice.put(&topic, json!({ "topic": "new" })).await.ok();
        late.get(&topic).await.err(404, "M_NOT_FOUND");
        late.post(&path(&room, "forget"), json!({})).await.ok();
        late.get(&path(&room, "messages?dir=b")).await.err(403, "M_FORBIDDEN");
        late.get(&path(&room, "state")).await.err(403, "M_FORBIDDEN");
    }
    let state = json!([{
        "type": "m.room.history_visibility", "content": { "history_visibility": "world_readable" },
    }]);
    let room = room_of(&alice, json!({ "initial_state": state })).await;
    say(&alice, &room, "t1", text("to the world")).await;
    let page = late.get(&path(&room, "messages?dir=b&limit=1")).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["to the world"]);
    late.get(&path(&room, "state/m.room.create")).await.ok();
    late.get(&path(&room, "joined_members")).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn state_and_members() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&alice, json!({ "preset": "public_chat", "name": "Square" })).await;
    let token = alice.get("/_matrix/client/v3/sync").await.ok();
    bob.post(&path(&room, "join"), json!({})).await.ok();
    let state = alice.get(&path(&room, "state")).await.ok();
    let names = state.as_array().unwrap().iter().filter(|event| event["type"] == "m.room.name");
    assert_eq!(names.count(), 1);
    let name = alice.get(&path(&room, "state/m.room.name")).await.ok();
    assert_eq!(name, json!({ "name": "Square" }));
    let whole = alice.get(&path(&room, "state/m.room.name/?format=event")).await.ok();
    assert_eq!(whole["sender"], alice.user_id.as_str());
    alice.get(&path(&room, "state/no.such.type/x")).await.err(404, "M_NOT_FOUND");
    let joined = bob.get(&path(&room, "joined_members")).await.ok();
    assert_eq!(joined["joined"].as_object().unwrap().len(), 2);
    let count = |answer: Value| answer["chunk"].as_array().unwrap().len();
    assert_eq!(count(alice.get(&path(&room, "members")).await.ok()), 2);
    let at = token["next_batch"].as_str().unwrap();
    assert_eq!(count(alice.get(&path(&room, &format!("members?at={at}"))).await.ok()), 1);
    bob.post(&path(&room, "leave"), json!({})).await.ok();
    assert_eq!(count(alice.get(&path(&room, "members?membership=join")).await.ok()), 1);
    assert_eq!(count(alice.get(&path(&room, "members?not_membership=join")).await.ok()), 1);
    assert_eq!(count(bob.get(&path(&room, "members?membership=join")).await.ok()), 1);
}

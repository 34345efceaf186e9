//! Pages end at a number of bytes, too, whatever was asked for, and go on where they ended: every event is
//! told once, in order, on every way there is to read them.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::create;

const V3: &str = "/_matrix/client/v3";
const V1: &str = "/_matrix/client/v1";
/// Bytes that hardly anything may have beside its page.
const PAGE_BYTES: usize = 1024 * 1024;
/// The largest event, and what is said of a page beside its events.
const MORE_BYTES: usize = 200 * 1024;
/// A text with which an event is nearly as large as it may be.
const FAT_BYTES: usize = 60_000;

async fn say(client: &Client, room: &str, txn: &str, content: Value) -> String {
    let path = format!("{V3}/rooms/{room}/send/m.room.message/{txn}");
    client.put(&path, content).await.ok()["event_id"].as_str().unwrap().to_owned()
}

fn fat(body: &str) -> Value {
    json!({ "msgtype": "m.text", "body": body, "org.example.fat": "x".repeat(FAT_BYTES) })
}

/// Says fat things, and returns their ids.
async fn said(client: &Client, room: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(say(client, room, &format!("fat{n}"), fat(&format!("word number{n}"))).await);
    }
    ids
}

fn ids(chunk: &Value) -> Vec<String> {
    let events = chunk.as_array().unwrap().iter();
    events.map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

/// Checks that something is not much larger than a page.
#[track_caller]
fn fits(answer: &Value) {
    let bytes = answer.to_string().len();
    assert!(bytes < PAGE_BYTES + MORE_BYTES, "{bytes} bytes");
}

/// Reads page after page until there is no token to go on with; returns the ids, and how many pages had any.
async fn all(client: &Client, path: &str, (token, next): (&str, &str)) -> (Vec<String>, usize) {
    let (mut found, mut pages, mut from) = (Vec::new(), 0, String::new());
    loop {
        let page = client.get(&format!("{path}{from}")).await.ok();
        fits(&page);
        let shown = ids(&page["chunk"]);
        pages += usize::from(!shown.is_empty());
        found.extend(shown);
        let Some(end) = page[next].as_str() else { return (found, pages) };
        from = format!("&{token}={end}");
    }
}

#[tokio::test]
async fn pages_of_a_timeline_end_at_their_bytes_and_go_on() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let mut said = said(&alice, &room, 40).await;
    let path = format!("{V3}/rooms/{room}/messages?limit=1000");
    let (mut found, pages) = all(&alice, &format!("{path}&dir=f"), ("from", "end")).await;
    assert!(pages >= 3, "{pages} pages");
    assert_eq!(found.split_off(found.len() - 40), said);
    said.reverse();
    let (mut found, pages) = all(&alice, &format!("{path}&dir=b"), ("from", "end")).await;
    assert!(pages >= 3, "{pages} pages");
    found.truncate(40);
    assert_eq!(found, said);
    // A filter that wants none of them finds what is between and behind them.
    let filter = "%7B%22types%22%3A%5B%22m.room.create%22%5D%7D";
    let wanted = format!("{path}&dir=b&filter={filter}");
    let (found, _) = all(&alice, &wanted, ("from", "end")).await;
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn what_hangs_on_events_counts_for_their_page() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let mut said = Vec::new();
    for n in 0..40 {
        let thin = json!({ "msgtype": "m.text", "body": format!("thin {n}") });
        said.push(say(&alice, &room, &format!("t{n}"), thin).await);
    }
    for (n, id) in said.iter().enumerate() {
        let mut edit = fat("* edit");
        edit["m.new_content"] = json!({ "msgtype": "m.text", "body": "edit" });
        edit["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": id });
        say(&alice, &room, &format!("e{n}"), edit).await;
    }
    let path = format!("{V3}/rooms/{room}/messages?limit=1000&dir=f");
    let (found, pages) = all(&alice, &path, ("from", "end")).await;
    assert!(pages >= 5, "{pages} pages");
    let at = found.iter().position(|id| *id == said[0]).unwrap();
    assert_eq!(found[at..at + 40], said);
    assert_eq!(found.len(), at + 80);
}

#[tokio::test]
async fn surroundings_end_at_their_bytes_and_go_on() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let said = said(&alice, &room, 41).await;
    let path = format!("{V3}/rooms/{room}/context/{}?limit=100", said[20]);
    let around = alice.get(&path).await.ok();
    fits(&around);
    let (mut before, after) = (ids(&around["events_before"]), ids(&around["events_after"]));
    assert!((5..20).contains(&before.len()) && (5..20).contains(&after.len()));
    let on = |dir: &str, from: &Value| {
        let from = from.as_str().unwrap();
        format!("{V3}/rooms/{room}/messages?limit=1000&dir={dir}&from={from}")
    };
    let older = alice.get(&on("b", &around["start"])).await.ok();
    let newer = alice.get(&on("f", &around["end"])).await.ok();
    before.reverse();
    assert_eq!(ids(&older["chunk"])[0], said[19 - before.len()]);
    assert_eq!(before, said[20 - before.len()..20]);
    assert_eq!(after, said[21..21 + after.len()]);
    assert_eq!(ids(&newer["chunk"])[0], said[21 + after.len()]);
}

#[tokio::test]
async fn timelines_of_a_sync_end_at_their_bytes_and_go_on() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let since = alice.get(&format!("{V3}/sync")).await.ok()["next_batch"].clone();
    let said = said(&alice, &room, 40).await;
    let filter = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A1000%7D%7D%7D";
    for since in [String::new(), format!("&since={}", since.as_str().unwrap())] {
        let answer = alice.get(&format!("{V3}/sync?filter={filter}{since}")).await.ok();
        let timeline = &answer["rooms"]["join"][&room]["timeline"];
        fits(timeline);
        assert_eq!(timeline["limited"], true);
        let shown = ids(&timeline["events"]);
        assert!(shown.len() > 10, "{} events", shown.len());
        assert_eq!(shown, said[40 - shown.len()..]);
        let from = timeline["prev_batch"].as_str().unwrap();
        let older = format!("{V3}/rooms/{room}/messages?limit=1&dir=b&from={from}");
        let older = alice.get(&older).await.ok();
        assert_eq!(ids(&older["chunk"]), [said[39 - shown.len()].as_str()]);
    }
}

#[tokio::test]
async fn timelines_of_many_rooms_have_a_bound_together() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut rooms = Vec::new();
    for _ in 0..20 {
        let room = create(&alice, json!({})).await;
        said(&alice, &room, 18).await;
        rooms.push(room);
    }
    let filter = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A1000%7D%7D%7D";
    let answer = alice.get(&format!("{V3}/sync?filter={filter}")).await.ok();
    let bytes = answer.to_string().len();
    assert!(bytes < 18 * PAGE_BYTES, "{bytes} bytes");
    let timeline = |room: &String| answer["rooms"]["join"][room]["timeline"].clone();
    assert!(rooms.iter().all(|room| !ids(&timeline(room)["events"]).is_empty()));
    let thin = rooms.iter().find(|room| ids(&timeline(room)["events"]).len() == 1).unwrap();
    assert_eq!(timeline(thin)["limited"], true);
    let from = timeline(thin)["prev_batch"].as_str().unwrap().to_owned();
    let older = format!("{V3}/rooms/{thin}/messages?limit=1&dir=b&from={from}");
    let older = alice.get(&older).await.ok();
    assert_eq!(older["chunk"][0]["content"]["body"], "word number16");
}

#[tokio::test]
async fn related_events_and_threads_end_at_their_bytes_and_go_on() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let root = say(&alice, &room, "root", json!({ "msgtype": "m.text", "body": "root" })).await;
    let mut answers = Vec::new();
    for n in 0..30 {
        let mut answer = fat(&format!("answer {n}"));
        answer["m.relates_to"] = json!({ "rel_type": "m.reference", "event_id": root });
        answers.push(say(&alice, &room, &format!("r{n}"), answer).await);
    }
    let path = format!("{V1}/rooms/{room}/relations/{root}?limit=100");
    let (found, pages) = all(&alice, &format!("{path}&dir=f"), ("from", "next_batch")).await;
    assert_eq!((&found, pages), (&answers, 2));
    answers.reverse();
    let (found, _) = all(&alice, &path, ("from", "next_batch")).await;
    assert_eq!(found, answers);
    // What answers in a thread is shown with its root.
    let mut roots = Vec::new();
    for n in 0..30 {
        let thin = json!({ "msgtype": "m.text", "body": format!("root {n}") });
        let root = say(&alice, &room, &format!("root{n}"), thin).await;
        let mut answer = fat("in the thread");
        answer["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": root });
        say(&alice, &room, &format!("thread{n}"), answer).await;
        roots.insert(0, root);
    }
    let path = format!("{V1}/rooms/{room}/threads?limit=100");
    let (found, pages) = all(&alice, &path, ("from", "next_batch")).await;
    assert_eq!((found, pages), (roots, 2));
}

#[tokio::test]
async fn finds_end_at_their_bytes_and_go_on() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let mut said = said(&alice, &room, 30).await;
    said.reverse();
    for order in ["recent", "rank"] {
        for around in [0, 20] {
            let request = json!({ "search_categories": { "room_events": {
                "search_term": "word", "order_by": order, "filter": { "limit": 100 },
                "include_state": true,
                "event_context": { "before_limit": around, "after_limit": around },
            } } });
            let (mut found, mut from) = (Vec::new(), String::new());
            loop {
                let answer = alice.post(&format!("{V3}/search{from}"), request.clone()).await.ok();
                let finds = &answer["search_categories"]["room_events"];
                // And what was said around the last one.
                assert!(finds.to_string().len() < PAGE_BYTES + 2 * MORE_BYTES);
                assert_eq!(finds["count"], 30);
                let results = finds["results"].as_array().unwrap().iter();
                found.extend(results.map(|find| find["result"]["event_id"].clone()));
                let Some(next) = finds["next_batch"].as_str() else { break };
                from = format!("?next_batch={next}");
            }
            assert_eq!(found, said, "{order} {around}");
        }
    }
}

//! Searching for events: what is found, in which order, and by whom.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::{create, say};

const V3: &str = "/_matrix/client/v3";

async fn search(client: &Client, criteria: Value, from: Option<&str>) -> Value {
    let from = from.map(|from| format!("?next_batch={from}")).unwrap_or_default();
    let body = json!({ "search_categories": { "room_events": criteria } });
    let answer = client.post(&format!("{V3}/search{from}"), body).await.ok();
    answer["search_categories"]["room_events"].clone()
}

fn found(answer: &Value) -> Vec<&str> {
    let results = answer["results"].as_array().unwrap().iter();
    results.map(|find| find["result"]["event_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn words_find_events_by_those_who_may_see_them() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = create(&alice, json!({ "preset": "private_chat", "name": "Garden party" })).await;
    let hello = say(&alice, &room, "Hello, big World").await;
    let longer = say(&alice, &room, "hello again, this is a far longer one about the world").await;
    say(&alice, &room, "goodbye").await;
    let request = |term: &str| json!({ "search_term": term, "order_by": "recent" });
    assert_eq!(found(&search(&alice, request("WORLD hello!"), None).await), [&*longer, &*hello]);
    let ranked = search(&alice, json!({ "search_term": "world hello" }), None).await;
    assert_eq!(found(&ranked), [&*hello, &*longer]);
    assert_eq!((&ranked["count"], &ranked["highlights"]), (&json!(2), &json!(["hello", "world"])));
    assert!(found(&search(&alice, request("worl"), None).await).is_empty());
    assert!(found(&search(&alice, request(""), None).await).is_empty());
    assert_eq!(found(&search(&alice, request("garden"), None).await).len(), 1);
    let mut body_only = request("garden");
    body_only["keys"] = json!(["content.body"]);
    assert!(found(&search(&alice, body_only, None).await).is_empty());
    assert!(found(&search(&bob, request("hello"), None).await).is_empty());
    // What was redacted is not found any more.
    let redact = format!("{V3}/rooms/{room}/redact/{hello}/1");
    alice.put(&redact, json!({})).await.ok();
    assert_eq!(found(&search(&alice, request("hello"), None).await), [&*longer]);
}

#[tokio::test]
async fn finds_come_in_pages_with_what_was_said_around_them() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let mut said = Vec::new();
    for number in 0..6 {
        said.push(say(&alice, &room, &format!("Message {number}")).await);
    }
    said.reverse();
    for order in ["recent", "rank"] {
        let request = json!({
            "search_term": "message", "order_by": order, "include_state": true,
            "filter": { "limit": 3, "rooms": [room] },
            "groupings": { "group_by": [{ "key": "room_id" }, { "key": "sender" }] },
            "event_context": { "before_limit": 1, "after_limit": 1, "include_profile": true },
        });
        let first = search(&alice, request.clone(), None).await;
        assert_eq!(found(&first), said[..3]);
        let (top, context) = (&first["results"][1], &first["results"][1]["context"]);
        assert_eq!(top["result"]["content"]["body"], "Message 4");
        assert_eq!(context["events_before"][0]["content"]["body"], "Message 3");
        assert_eq!(context["events_after"][0]["content"]["body"], "Message 5");
        assert!(context["profile_info"].get(&alice.user_id).is_some());
        assert_eq!(first["groups"]["room_id"][&room]["results"].as_array().unwrap().len(), 3);
        assert_eq!(first["groups"]["sender"][&alice.user_id]["order"], 0);
        assert!(first["state"][&room].as_array().unwrap().len() > 3);
        let second = search(&alice, request.clone(), first["next_batch"].as_str()).await;
        assert_eq!(found(&second), said[3..]);
        let last = search(&alice, request, second["next_batch"].as_str()).await;
        assert!(found(&last).is_empty() && last.get("next_batch").is_none(), "{last}");
    }
    let body = json!({ "search_categories": { "room_events": { "search_term": "message" } } });
    let path = format!("{V3}/search?next_batch=nonsense");
    alice.post(&path, body).await.err(400, "M_INVALID_PARAM");
}

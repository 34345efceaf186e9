//! What is done for whom before he is known, and what of a body is held in memory: strangers are counted by
//! their address, are answered before their bodies are read, and nobody fills the memory with bodies.

use std::{net::SocketAddr, time::Duration};

use colonnade_testkit::{
    Client, TestServer,
    openapi::{Operation, SPEC},
    server::{is_of_processes, open_settings},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::conformance::{Place, served};

/// Less than a server waits for a body, and much for an answer on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(20);
const V3: &str = "/_matrix/client/v3";

/// Sends the head of a request and as much of its body as is given, and nothing more.
async fn begin(client: &Client, head: &str, announced: usize, body: &[u8]) -> TcpStream {
    let address: SocketAddr = client.url.trim_start_matches("http://").parse().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token = client.token.as_ref();
    let token = token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
    let head = format!("{head} HTTP/1.1\r\nhost: x\r\n{token}content-length: {announced}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream
}

/// Reads the status and the errcode of an answer.
async fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).await.unwrap_or(0);
        text.extend_from_slice(&piece[..count]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        let body = whole.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        if let Ok(body) = serde_json::from_str::<Value>(body) {
            let status = whole.split(' ').nth(1).unwrap().parse().unwrap();
            return (status, body["errcode"].as_str().unwrap_or_default().to_owned());
        }
        assert!(count > 0, "no answer: {whole}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_before_the_body_is_read() {
    let server = TestServer::start().await;
    let place = Place::new(&server, 0).await;
    let nobody = server.anonymous();
    let mut bogus = server.anonymous();
    bogus.token = Some("bogus".to_owned());
    let is_served = served();
    let takes_a_body = |operation: &&Operation| {
        let method = operation.method.as_str();
        operation.authenticated && ["POST", "PUT"].contains(&method) && is_served(operation)
    };
    let mut asked = 0;
    for operation in SPEC.operations.iter().filter(takes_a_body) {
        let head = format!("{} {}", operation.method, place.path(operation));
        for (client, errcode) in [(&nobody, "M_MISSING_TOKEN"), (&bogus, "M_UNKNOWN_TOKEN")] {
            // Without a token some ask for another proof, which is in the body.
            if client.token.is_none() && operation.token_optional {
                continue;
            }
            asked += 1;
            let mut waiting = begin(client, &head, 1_000, b"").await;
            let answered = tokio::time::timeout(AT_ONCE, answer(&mut waiting)).await;
            assert_eq!(answered.ok(), Some((401, errcode.to_owned())), "{head} for {errcode}");
        }
    }
    assert!(asked > 100, "only {asked}");
}

#[tokio::test]
async fn a_stranger_sends_a_few_kilobytes() {
    let server = TestServer::start().await;
    let nobody = server.anonymous();
    for path in [
        "v3/refresh",
        "v3/login",
        "v3/register",
        "v3/account/password",
        "v3/account/deactivate",
        "v3/register/email/requestToken",
        "v3/account/password/email/requestToken",
    ] {
        let head = format!("POST /_matrix/client/{path}");
        // Announced; the server does not wait for it.
        let mut waiting = begin(&nobody, &head, 9_000, b"").await;
        assert_eq!(answer(&mut waiting).await, (413, "M_TOO_LARGE".to_owned()), "{path}");
    }
    let fits = json!({ "refresh_token": "x".repeat(8_000) });
    nobody.post(&format!("{V3}/refresh"), fits).await.err(401, "M_UNKNOWN_TOKEN");
    let user = server.user("alice").await;
    let large = json!({ "x": "y".repeat(100_000) });
    let path = format!("{V3}/user/{}/account_data/org.example.large", user.user_id);
    user.put(&path, large).await.ok();
}

#[tokio::test]
async fn strangers_are_limited_by_their_address_and_users_beside_them_are_not() {
    let mut settings = open_settings();
    settings.rate_limits.enabled = true;
    settings.rate_limits.stranger.burst = 6;
    settings.rate_limits.stranger.per_second = 0.001;
    let server = TestServer::with_settings(settings).await;
    if server.has_gateway() || server.takes_turns() {
        // Others hear of it in a moment (docs/operating/cluster.md), and here they take turns.
        return;
    }
    // Registering is the first two: it asks what is wanted, or proves it at once.
    let alice = server.user("alice").await;
    alice.get(&format!("{V3}/account/whoami")).await.ok();
    let mut bogus = server.anonymous();
    bogus.token = Some("bogus".to_owned());
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(bogus.get(&format!("{V3}/account/whoami")).await.status);
        let refresh = json!({ "refresh_token": "guess" });
        answers.push(server.anonymous().post(&format!("{V3}/refresh"), refresh).await.status);
    }
    assert_eq!(answers.last(), Some(&429), "{answers:?}");
    assert!(answers.contains(&401), "{answers:?}");
    for path in
        ["profile/@alice:localhost", "login", "publicRooms", "directory/room/%23x:localhost"]
    {
        let refused = server.anonymous().get(&format!("{V3}/{path}")).await;
        assert!(refused.err(429, "M_LIMIT_EXCEEDED")["retry_after_ms"].as_u64().unwrap() > 0);
    }
    alice.get(&format!("{V3}/account/whoami")).await.ok();
}

#[tokio::test]
async fn all_bodies_together_fit_the_budget_and_nobody_holds_more_than_a_share() {
    if is_of_processes() {
        // Each process has a budget of its own, and gateways collect small bodies first.
        return;
    }
    let mut settings = open_settings();
    settings.requests.bodies_bytes_max = 400_000;
    let server = TestServer::with_settings(settings).await;
    if server.takes_turns() {
        return;
    }
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let path = |user: &Client| format!("{V3}/user/{}/account_data/org.example.x", user.user_id);
    let head = format!("PUT {}", path(&alice));
    let half = json!({ "x": "y".repeat(60_000) });
    let text = half.to_string();
    // Two begin what together is more than a quarter, and fall silent.
    let silent = begin(&alice, &head, text.len(), &text.as_bytes()[..60_000]).await;
    let bodies = std::sync::Arc::clone(&server.inside().await.services.bodies);
    while bodies.bytes() < 60_000 {
        tokio::task::yield_now().await;
    }
    let mut second = begin(&alice, &head, text.len(), &text.as_bytes()[..60_000]).await;
    assert_eq!(answer(&mut second).await, (429, "M_LIMIT_EXCEEDED".to_owned()));
    bob.put(&path(&bob), half.clone()).await.ok();
    drop((silent, second));
    while bodies.bytes() > 0 {
        tokio::task::yield_now().await;
    }
    alice.put(&path(&alice), half).await.ok();
    assert_eq!(bodies.bytes(), 0, "what was answered is not held");
}

#[tokio::test]
async fn too_many_names_are_refused_before_they_are_looked_for() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let named = |count: usize, value: Value| -> Value {
        (0..count).map(|n| (format!("@u{n}:localhost"), value.clone())).collect()
    };
    let query = format!("{V3}/keys/query");
    alice
        .post(&query, json!({ "device_keys": named(10_001, json!([])) }))
        .await
        .err(413, "M_TOO_LARGE");
    alice.post(&query, json!({ "device_keys": named(10_000, json!([])) })).await.ok();
    let send = format!("{V3}/sendToDevice/m.dummy/txn");
    let message = json!({ "*": {} });
    alice
        .put(&send, json!({ "messages": named(20_001, message.clone()) }))
        .await
        .err(413, "M_TOO_LARGE");
    alice.put(&send, json!({ "messages": named(20_000, message) })).await.ok();
    let claim = format!("{V3}/keys/claim");
    let devices = json!({ "D": "signed_curve25519" });
    alice
        .post(&claim, json!({ "one_time_keys": named(20_001, devices) }))
        .await
        .err(413, "M_TOO_LARGE");
    // All of those who exist are found, however many do not.
    let bob = server.user("bob").await;
    let mut among = named(9_998, json!([]));
    among[&alice.user_id] = json!([]);
    among[&bob.user_id] = json!([]);
    let found = alice.post(&query, json!({ "device_keys": among })).await.ok();
    assert_eq!(found["device_keys"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn a_search_costs_what_it_asks_for() {
    let mut settings = open_settings();
    settings.rate_limits.enabled = true;
    settings.rate_limits.other.burst = 40;
    settings.rate_limits.other.per_second = 0.001;
    let server = TestServer::with_settings(settings).await;
    if server.takes_turns() {
        return;
    }
    let request = |term: &str, limit: u32, around: u32| {
        json!({ "search_categories": { "room_events": {
            "search_term": term,
            "filter": { "limit": limit },
            "event_context": { "before_limit": around, "after_limit": around },
        } } })
    };
    let path = format!("{V3}/search");
    let alice = server.user("alice").await;
    for n in 0..8 {
        let answer = alice.post(&path, request("hello", 10, 1)).await;
        assert_eq!(answer.status, 200, "small search {n}: {}", answer.body);
    }
    let bob = server.user("bob").await;
    let words: Vec<String> = (0..30).map(|n| format!("word{n}")).collect();
    bob.post(&path, request(&words.join(" "), 10, 1)).await.ok();
    bob.post(&path, request(&words.join(" "), 10, 1)).await.err(429, "M_LIMIT_EXCEEDED");
    let carol = server.user("carol").await;
    carol.post(&path, request("hello", 100, 20)).await.ok();
    carol.post(&path, request("hello", 1, 0)).await.err(429, "M_LIMIT_EXCEEDED");
}

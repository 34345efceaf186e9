//! Answers that nobody takes, and requests that are answered before they are there: who asks and does not
//! read holds no more than a share, and nobody has to send what is refused.

use std::{net::SocketAddr, time::Duration};

use colonnade_testkit::{Client, Method, TestServer, server::open_settings};
use colonnade_users::answers::PIECES_BYTES;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::sync::{create, encode, filter, in_room};

const V3: &str = "/_matrix/client/v3";
const UPLOAD: &str = "/_matrix/media/v3/upload";
const MIB: usize = 1024 * 1024;
/// State events of a large room, of 60 kB each, and how many types they have.
const EVENTS: usize = 150;
const TYPES: usize = 50;
/// An answer that waits for nothing takes less, on the busiest machine.
const AT_ONCE: Duration = Duration::from_secs(4);

/// Sends the head of a request, and nothing after it.
async fn begin(client: &Client, head: &str) -> TcpStream {
    let address: SocketAddr = client.url.trim_start_matches("http://").parse().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token = client.token.as_ref();
    let token = token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
    stream.write_all(format!("{head}\r\nhost: x\r\n{token}\r\n").as_bytes()).await.unwrap();
    stream
}

/// Reads until the other side closes.
async fn whole(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn an_upload_without_a_token_is_refused_before_it_is_sent() {
    let server = TestServer::start().await;
    let nobody = server.anonymous();
    let mut bogus = server.anonymous();
    bogus.token = Some("bogus".to_owned());
    for (client, errcode) in [(&nobody, "M_MISSING_TOKEN"), (&bogus, "M_UNKNOWN_TOKEN")] {
        for request in [format!("POST {UPLOAD}"), format!("PUT {UPLOAD}/localhost/abc")] {
            for expects in ["", "\r\nexpect: 100-continue"] {
                let head = format!("{request} HTTP/1.1\r\ncontent-length: 50000000{expects}");
                let mut stream = begin(client, &head).await;
                let answer = tokio::time::timeout(AT_ONCE, whole(&mut stream)).await;
                let answer = answer.unwrap_or_else(|_| panic!("{head}: no answer at once"));
                assert!(answer.starts_with("HTTP/1.1 401"), "{head}: {answer}");
                assert!(answer.contains(errcode), "{head}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn who_sends_a_refused_upload_sees_why() {
    let server = TestServer::start().await;
    let nobody = server.anonymous();
    let body = vec![b'x'; 8 * MIB];
    nobody.raw(Method::POST, UPLOAD, &[], body.clone()).await.answer().err(401, "M_MISSING_TOKEN");
    if server.takes_turns() {
        // Whose door is the test's own.
        return;
    }
    // This one does not even look before everything is sent.
    let head = format!("POST {UPLOAD} HTTP/1.1\r\ncontent-length: {}", body.len());
    let mut stream = begin(&nobody, &head).await;
    stream.write_all(&body).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn who_does_not_take_his_answers_holds_a_share_until_he_needs_it_himself() {
    let mut settings = open_settings();
    settings.requests.answers_bytes_max = 64 * MIB as u64;
    let server = TestServer::with_settings(settings).await;
    if server.has_gateway() || server.takes_turns() {
        // Each process has a budget of its own.
        return;
    }
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for n in 0..16 {
        let path = format!("{V3}/user/{}/account_data/org.example.{n}", alice.user_id);
        alice.put(&path, json!({ "x": "y".repeat(500_000) })).await.ok();
    }
    let answers = std::sync::Arc::clone(&server.inside().await.services.answers);
    while answers.bytes() > 0 {
        tokio::task::yield_now().await;
    }
    // What the system keeps for a connection is less than half of each. Two are her share.
    let sync = format!("GET {V3}/sync HTTP/1.1");
    let mut untaken = Vec::new();
    for held in 1..3 {
        untaken.push(begin(&alice, &sync).await);
        while answers.bytes() != held * PIECES_BYTES {
            tokio::task::yield_now().await;
        }
    }
    alice.get(&format!("{V3}/account/whoami")).await.ok();
    bob.get(&format!("{V3}/sync")).await.ok();
    assert_eq!(answers.bytes(), 2 * PIECES_BYTES, "nobody waited for it");
    // Another device of hers waits, until those that take nothing are cut off.
    alice.get(&format!("{V3}/sync")).await.ok();
    drop(untaken);
    while answers.bytes() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_few_who_do_not_take_their_answers_keep_nobody_from_reading() {
    let mut settings = open_settings();
    settings.requests.answers_bytes_max = 32 * MIB as u64;
    let server = TestServer::with_settings(settings).await;
    if server.has_gateway() || server.takes_turns() {
        // Each process has a budget of its own.
        return;
    }
    let victim = server.user("victim").await;
    let room = large_room(&victim).await;
    let answers = std::sync::Arc::clone(&server.inside().await.services.answers);
    let sync = format!("GET {V3}/sync HTTP/1.1");
    let mut untaken = Vec::new();
    for n in 1..=8 {
        let user = server.user(&format!("greedy{n}")).await;
        user.post(&in_room(&room, "join"), json!({})).await.ok();
        untaken.push(begin(&user, &sync).await);
        while answers.bytes() != n * PIECES_BYTES {
            tokio::task::yield_now().await;
        }
    }
    // That is all the room there is for first syncs: until those who take nothing are cut off.
    let devices = format!("{V3}/devices");
    let page = victim.get(&devices);
    tokio::time::timeout(AT_ONCE, page).await.expect("pages have room of their own").ok();
    victim.get(&format!("{V3}/sync")).await.ok();
    drop(untaken);
}

/// Makes a room with 9 MB of state.
async fn large_room(creator: &Client) -> String {
    let room = create(creator, json!({ "preset": "public_chat" })).await;
    for n in 0..EVENTS {
        let path = in_room(&room, &format!("state/org.example.large{}/{n}", n % TYPES));
        creator.put(&path, json!({ "n": n, "x": "y".repeat(60_000) })).await.ok();
    }
    room
}

/// The state of a room is made a piece at a time: whoever asks for all of it holds two.
#[tokio::test]
async fn lists_without_a_bound_are_sent_whole_and_held_a_piece_at_a_time() {
    let mut settings = open_settings();
    settings.requests.answers_bytes_max = 64 * MIB as u64;
    let server = TestServer::with_settings(settings).await;
    let alice = server.user("alice").await;
    let room = large_room(&alice).await;
    let bob = server.user("bob").await;
    bob.post(&in_room(&room, "join"), json!({})).await.ok();
    let path = in_room(&room, "send/m.room.message/t");
    let event = alice.put(&path, json!({ "body": "x" })).await.ok()["event_id"].clone();
    let event = encode(event.as_str().unwrap());
    let whole = |list: &Value| {
        let mut keys: Vec<_> =
            list.as_array().unwrap().iter().filter_map(|e| e["content"]["n"].as_u64()).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..EVENTS as u64).collect::<Vec<_>>());
    };
    whole(&bob.get(&in_room(&room, "state")).await.ok());
    let around = bob.get(&in_room(&room, &format!("context/{event}?limit=0"))).await.ok();
    whole(&around["state"]);
    assert_eq!(around["event"]["content"]["body"], "x");
    let members = bob.get(&in_room(&room, "members")).await.ok();
    assert_eq!(members["chunk"].as_array().unwrap().len(), 2);
    let joined = bob.get(&in_room(&room, "joined_members")).await.ok();
    assert_eq!(joined["joined"].as_object().unwrap().len(), 2);
    if server.has_gateway() || server.takes_turns() {
        // Each process has a budget of its own.
        return;
    }
    let answers = std::sync::Arc::clone(&server.inside().await.services.answers);
    let mut untaken = Vec::new();
    for held in 1..3 {
        untaken.push(begin(&bob, &format!("GET {} HTTP/1.1", in_room(&room, "state"))).await);
        while answers.bytes() != held * PIECES_BYTES {
            tokio::task::yield_now().await;
        }
    }
    bob.get(&in_room(&room, "state")).await.ok();
    drop(untaken);
}

/// Strips what differs from one answer to the next, and sorts events, whose order is not said.
fn comparable(answer: &mut Value) {
    match answer {
        Value::Object(fields) => {
            fields.remove("age");
            fields.remove("next_batch");
            // Told as of the moment.
            fields.remove("last_active_ago");
            fields.values_mut().for_each(comparable);
        }
        Value::Array(list) => {
            list.iter_mut().for_each(comparable);
            list.sort_by_key(Value::to_string);
        }
        _ => {}
    }
}

/// Adds the events of a list to those of another answer.
fn merge(into: &mut Value, from: &Value, list: &[&str]) {
    let find = |answer: &Value| {
        let found = list.iter().try_fold(answer, |part, name| part.get(*name));
        found.and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let both: Vec<Value> = find(into).into_iter().chain(find(from)).collect();
    let mut place = into;
    for name in list {
        place = &mut place[*name];
    }
    *place = both.into();
}

/// A first sync is made a piece at a time, too, and says what answers say that are made whole: those of
/// the same user, of which filters let pass a little each.
#[tokio::test]
async fn a_large_first_sync_says_what_small_ones_say() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = large_room(&alice).await;
    let small_room = create(&bob, json!({ "name": "small", "invite": [alice.user_id] })).await;
    bob.post(&in_room(&room, "join"), json!({})).await.ok();
    for n in 0..12 {
        let path = in_room(&room, &format!("send/m.room.message/t{n}"));
        bob.put(&path, json!({ "msgtype": "m.text", "body": "x" })).await.ok();
    }
    let user = format!("{V3}/user/{}", alice.user_id);
    for n in 0..4 {
        let data = format!("account_data/org.example.{n}");
        for path in [data.clone(), format!("rooms/{}/{data}", encode(&room))] {
            let body = json!({ "x": "y".repeat(150_000) });
            alice.put(&format!("{user}/{path}"), body).await.ok();
        }
    }
    let sync = async |query: String| {
        let path = format!("{V3}/sync?{query}");
        let answer = alice.raw(Method::GET, &path, &[], Vec::new()).await;
        (answer.header("content-length").is_empty(), answer.answer().ok())
    };
    let (is_sent_by_pieces, mut large) = sync(String::new()).await;
    assert!(is_sent_by_pieces, "nobody knows its size before it is made");
    let since = large["next_batch"].as_str().unwrap().to_owned();

    let none = json!({ "types": ["none"] });
    let (of_room, of_data) =
        (["rooms", "join", &room, "state", "events"], ["account_data", "events"]);
    let of_room_data = ["rooms", "join", &room, "account_data", "events"];
    let not_large = json!({ "not_types": ["org.example.large*"] });
    let filtered = async |state: Value, room_data: Value, data: Value, timeline: Value| {
        let room = json!({ "state": state, "account_data": room_data, "timeline": timeline });
        let (is_sent_by_pieces, answer) =
            sync(filter(json!({ "room": room, "account_data": data }))).await;
        assert!(!is_sent_by_pieces);
        answer
    };
    let not_ours = json!({ "not_types": ["org.example.*"] });
    let mut merged = filtered(not_large, not_ours.clone(), not_ours, json!({})).await;
    for n in 0..TYPES {
        let types = json!({ "types": [format!("org.example.large{n}")] });
        let part = filtered(types, none.clone(), none.clone(), none.clone()).await;
        merge(&mut merged, &part, &of_room);
    }
    for n in 0..4 {
        let types = json!({ "types": [format!("org.example.{n}")] });
        let part = filtered(none.clone(), types.clone(), none.clone(), none.clone()).await;
        merge(&mut merged, &part, &of_room_data);
        let part = filtered(none.clone(), none.clone(), types, none.clone()).await;
        merge(&mut merged, &part, &of_data);
    }
    comparable(&mut large);
    comparable(&mut merged);
    assert_eq!(large["rooms"]["join"][&room]["state"]["events"].as_array().unwrap().len(), 157);
    assert!(large["rooms"]["invite"][&small_room].is_object());
    assert!(large == merged, "the large answer and the small ones say the same");

    // And a later one that has all the state.
    let (is_sent_by_pieces, mut full) = sync(format!("full_state=true&since={since}")).await;
    assert!(is_sent_by_pieces);
    comparable(&mut full);
    let told = |answer: &Value, part: &str| answer["rooms"]["join"][&room][part].clone();
    let mut state = told(&large, "state");
    merge(&mut state, &told(&large, "timeline"), &["events"]);
    state["events"].as_array_mut().unwrap().retain(|event| event["state_key"].is_string());
    comparable(&mut state);
    assert!(told(&full, "state") == state, "all the state, once");
    assert_eq!(told(&full, "timeline")["events"], json!([]));
}

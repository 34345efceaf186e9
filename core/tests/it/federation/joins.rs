//! What a server is answered whose user joins, and what it makes of an answer: with all members or without.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use colonnade_federation::transport::Request;
use colonnade_model::ruma::{CanonicalJsonObject, RoomVersionId, ServerName};
use colonnade_rules::event::complete;
use colonnade_testkit::{
    Client, TestServer,
    federation::Federation,
    peer::{self, Asked, PeerAddress},
};
use serde_json::{Value, json};

use super::rooms::{create, encode, join, membership, path, say, sees, until};

/// Has a user of a server join a room of `hs1`, and returns the whole answer. Room version 1 says ids in its events.
async fn joined(from: &TestServer, room: &str, user: &str, query: &str) -> Value {
    let services = &from.inside().await.services;
    let (transport, context) = (&services.transport, &services.context);
    let hs1: &ServerName = "hs1".try_into().unwrap();
    let (room, who) = (encode(room), encode(user));
    let address = format!("/_matrix/federation/v1/make_join/{room}/{who}?ver=1");
    let made: Value =
        transport.send(hs1, Request::get(address)).await.unwrap().json().await.unwrap();
    let template: CanonicalJsonObject = serde_json::from_value(made["event"].clone()).unwrap();
    let rules = RoomVersionId::V1.rules().unwrap();
    let (key, random) = (context.signing_key.current(), &*context.random);
    let event = complete(template, &context.server_name, &*key, &rules, random).unwrap();
    let id = encode(event.event_id().as_str());
    let body: Value = serde_json::from_str(event.json()).unwrap();
    let address = format!("/_matrix/federation/v2/send_join/{room}/{id}{query}");
    let request = Request::put(address, &body).unwrap();
    transport.send(hs1, request).await.unwrap().json().await.unwrap()
}

fn ids(events: &Value) -> BTreeSet<String> {
    let events = events.as_array().unwrap().iter();
    events.map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

/// Whose memberships a state has.
fn members(answer: &Value) -> BTreeSet<&str> {
    let state = answer["state"].as_array().unwrap().iter();
    let members = state.filter(|event| event["type"] == "m.room.member");
    members.map(|event| event["state_key"].as_str().unwrap()).collect()
}

/// Makes sure that everything is there that allows the join and the events of the state.
fn allowed(answer: &Value) {
    let known: BTreeSet<String> =
        ids(&answer["state"]).into_iter().chain(ids(&answer["auth_chain"])).collect();
    let lists = [&answer["state"], &answer["auth_chain"]].map(|list| list.as_array().unwrap());
    for event in lists.into_iter().flatten().chain([&answer["event"]]) {
        for auth in event["auth_events"].as_array().unwrap() {
            assert!(known.contains(auth[0].as_str().unwrap()), "{auth} of {event}");
        }
    }
}

#[tokio::test]
async fn an_answer_without_members_has_what_allows_the_rest() {
    let servers = Federation::start(2).await;
    let (alice, carol) = (servers[0].user("alice").await, servers[0].user("carol").await);
    let request = json!({ "preset": "public_chat", "room_version": "1" });
    let room = create(&alice, request).await;
    join(&carol, &room, "hs1").await;
    // Without a name it is named after its members.
    let answer = joined(&servers[1], &room, "@bob:hs2", "?omit_members=true").await;
    assert_eq!(answer["members_omitted"], true);
    assert_eq!(answer["servers_in_room"], json!(["hs1"]), "those from before");
    assert_eq!(members(&answer), BTreeSet::from(["@alice:hs1", "@carol:hs1"]));
    assert!(ids(&answer["state"]).is_disjoint(&ids(&answer["auth_chain"])));
    allowed(&answer);
    alice.put(&path(&room, "state/m.room.name"), json!({ "name": "Square" })).await.ok();
    let answer = joined(&servers[1], &room, "@dave:hs2", "?omit_members=true").await;
    assert_eq!((members(&answer), &answer["members_omitted"]), (BTreeSet::new(), &json!(true)));
    assert_eq!(answer["servers_in_room"], json!(["hs2", "hs1"]));
    allowed(&answer);
    for query in ["", "?omit_members=false"] {
        let user = format!("@erin{}:hs2", query.len());
        let answer = joined(&servers[1], &room, &user, query).await;
        assert_eq!(answer["members_omitted"], false);
        let present = ["@alice:hs1", "@carol:hs1", "@bob:hs2", "@dave:hs2"];
        assert!(members(&answer).is_superset(&present.into()), "{answer}");
        allowed(&answer);
    }
}

/// Passes a request on to a homeserver and returns its answer, head and body.
fn passed_on(url: &str, asked: &Asked) -> (String, Vec<u8>) {
    // Whoever answers meanwhile is in this process.
    tokio::task::block_in_place(|| pass_on(url, asked))
}

fn pass_on(url: &str, asked: &Asked) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.write_all(asked.head.as_bytes()).unwrap();
    stream.write_all(&asked.body).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// Leaves members out of the answer to a join, whatever was asked for.
fn without_members(body: &[u8]) -> Vec<u8> {
    let mut answer: Value = serde_json::from_slice(body).unwrap();
    answer["members_omitted"] = true.into();
    let state = answer["state"].as_array_mut().unwrap();
    state.retain(|event| event["type"] != "m.room.member" || event["state_key"] == "@alice:hs1");
    answer.to_string().into_bytes()
}

async fn all_members(client: &Client, room: &str) -> BTreeSet<String> {
    let joined = client.get(&path(room, "joined_members")).await.ok();
    joined["joined"].as_object().unwrap().keys().cloned().collect()
}

/// Lets `hs2` reach `hs1` through a server of which the test says what it does with each answer to a join.
async fn through(
    make: impl Fn(&Asked, &str) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (Federation, peer::Peer) {
    let middle = PeerAddress::at("127.0.0.12", "hs1").await;
    let change = |number, settings: &mut _| {
        if number == 1 {
            middle.tell(settings);
        }
    };
    let servers = Federation::with(2, change).await;
    let url = Arc::new(OnceLock::new());
    url.set(servers[0].url.clone()).unwrap();
    let peer = middle.answer(&servers.authority, move |asked| {
        let url = url.get().unwrap();
        make(asked, url).unwrap_or_else(|| {
            let (head, body) = passed_on(url, asked);
            [head.into_bytes(), body].concat()
        })
    });
    (servers, peer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_that_an_answer_lacks_are_fetched_before_the_join_ends() {
    let (servers, middle) = through(|asked, url| {
        let is_join = asked.target.contains("/v2/send_join/");
        is_join.then(|| {
            let (_, body) = passed_on(url, asked);
            peer::ok("content-type: application/json\r\n", &without_members(&body))
        })
    })
    .await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    for version in ["1", "11", "12"] {
        let request = json!({ "preset": "public_chat", "room_version": version });
        let room = create(&alice, request).await;
        let names = ["carol", "dave", "erin"].map(|name| format!("{name}{version}"));
        let mut expected = BTreeSet::from(["@alice:hs1", "@bob:hs2"].map(str::to_owned));
        for name in names {
            let member = servers[0].user(&name).await;
            join(&member, &room, "hs1").await;
            expected.insert(member.user_id);
        }
        join(&bob, &room, "hs1").await;
        assert_eq!(all_members(&bob, &room).await, expected, "version {version}");
        say(&bob, &room, "all of you").await;
        sees(&alice, &room, "all of you").await;
    }
    let asked = middle.asked();
    let asked = |part: &str| asked.iter().filter(|asked| asked.target.contains(part)).count();
    assert!(asked("/state_ids/") >= 3, "the state without members is no state");
    assert_eq!(asked("omit_members"), 0, "nobody asked for an answer without them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_old_server_is_joined_over_the_first_form() {
    let (servers, middle) = through(|asked, _| {
        let is_new = asked.target.contains("/v2/send_join/");
        is_new.then(|| peer::error("404 Not Found", "M_UNRECOGNIZED"))
    })
    .await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat", "room_version": "1" })).await;
    join(&bob, &room, "hs1").await;
    assert_eq!(all_members(&bob, &room).await.len(), 2);
    assert!(middle.asked().iter().any(|asked| asked.target.contains("/v1/send_join/")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_that_is_no_state_joins_nobody() {
    let turn = AtomicUsize::new(0);
    let (servers, _middle) = through(move |asked, url| {
        let is_join = asked.target.contains("/v2/send_join/");
        is_join.then(|| {
            let (_, body) = passed_on(url, asked);
            let mut answer: Value = serde_json::from_slice(&body).unwrap();
            let answer = match turn.fetch_add(1, Ordering::Relaxed) {
                0 => json!({ "state": [], "auth_chain": [] }),
                1 => json!({ "state": "none" }),
                2 => json!([200, answer]),
                // Of a room of another version.
                _ => {
                    for event in answer["state"].as_array_mut().unwrap() {
                        event["content"]["room_version"] = "9".into();
                    }
                    answer
                }
            };
            let mut text = answer.to_string();
            if turn.load(Ordering::Relaxed) == 5 {
                text.truncate(text.len() / 2);
            }
            peer::ok("content-type: application/json\r\n", text.as_bytes())
        })
    })
    .await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat", "room_version": "11" })).await;
    let address = format!("/_matrix/client/v3/join/{}?via=hs1", encode(&room));
    for number in 0..5 {
        assert_eq!(bob.post(&address, json!({})).await.status, 502, "answer {number}");
        let rooms = bob.get("/_matrix/client/v3/joined_rooms").await.ok();
        assert_eq!(rooms["joined_rooms"], json!([]), "answer {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_happens_while_a_join_is_answered_is_not_missed() {
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let (go, gone) = std::sync::mpsc::channel();
    let gone = Mutex::new(gone);
    let (servers, _middle) = through(move |asked, url| {
        let is_join = asked.target.contains("/v2/send_join/");
        is_join.then(|| {
            let (head, body) = passed_on(url, asked);
            arrived.send(()).unwrap();
            let fails: bool = tokio::task::block_in_place(|| gone.lock().unwrap().recv().unwrap());
            match fails {
                true => peer::error("502 Bad Gateway", "M_UNKNOWN"),
                false => [head.into_bytes(), body].concat(),
            }
        })
    })
    .await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let public = || json!({ "preset": "public_chat" });
    let known = create(&alice, public()).await;
    go.send(false).unwrap();
    join(&bob, &known, "hs1").await;
    arrivals.recv().await.unwrap();
    // Once a second event is here, the transaction with what was before the first has ended.
    let all_is_sent = async |time: u8| {
        for text in [format!("first {time}"), format!("second {time}")] {
            say(&alice, &known, &text).await;
            sees(&bob, &known, &text).await;
        }
    };

    let room = create(&alice, public()).await;
    let entering = tokio::spawn({
        let (bob, room) = (bob.clone(), room.clone());
        async move { join(&bob, &room, "hs1").await }
    });
    arrivals.recv().await.unwrap();
    let out = json!({ "user_id": bob.user_id, "reason": "a mistake" });
    alice.post(&path(&room, "kick"), out).await.ok();
    all_is_sent(1).await;
    go.send(false).unwrap();
    entering.await.unwrap();
    until(|| async { membership(&bob, &room, &bob.user_id).await == "leave" }).await;

    // An attempt that fails leaves nothing that holds up the next one.
    let room = create(&alice, public()).await;
    let address = format!("/_matrix/client/v3/join/{}?via=hs1", encode(&room));
    go.send(true).unwrap();
    assert_eq!(bob.post(&address, json!({})).await.status, 502);
    arrivals.recv().await.unwrap();
    say(&alice, &room, "nobody hears").await;
    all_is_sent(2).await;
    go.send(false).unwrap();
    join(&bob, &room, "hs1").await;
    say(&alice, &room, "somebody hears").await;
    sees(&bob, &room, "somebody hears").await;
}

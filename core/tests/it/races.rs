//! Requests that change the same thing at the same time: what is read, changed and written back is done
//! in one step, so that nobody's change is lost and nothing is made twice.

use std::sync::atomic::{AtomicBool, Ordering};

use colonnade_testkit::{Answer, Client, TestServer};
use futures_util::future::join_all;
use serde_json::{Value, json};

const V3: &str = "/_matrix/client/v3";

async fn room(client: &Client, body: Value) -> String {
    let answer = client.post(&format!("{V3}/createRoom"), body).await.ok();
    answer["room_id"].as_str().unwrap().to_owned()
}

fn profile(client: &Client, field: &str) -> String {
    format!("{V3}/profile/{}/{field}", client.user_id)
}

/// What a room shows of a user.
async fn shown(room: &str, user: &Client) -> (Value, Value) {
    let path = format!("{V3}/rooms/{room}/state/m.room.member/{}", user.user_id);
    let member = user.get(&path).await.ok();
    (member["displayname"].clone(), member["avatar_url"].clone())
}

fn succeeded(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.status == 200).count()
}

#[tokio::test]
async fn a_name_and_a_picture_set_at_once_both_reach_every_room() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut rooms = Vec::new();
    for _ in 0..3 {
        rooms.push(room(&alice, json!({})).await);
    }
    for round in 0..8 {
        let (name, url) = (format!("Alice {round}"), format!("mxc://localhost/{round}"));
        let (names, urls) = (profile(&alice, "displayname"), profile(&alice, "avatar_url"));
        let (first, second) = tokio::join!(
            alice.put(&names, json!({ "displayname": name })),
            alice.put(&urls, json!({ "avatar_url": url })),
        );
        first.ok();
        second.ok();
        for room in &rooms {
            assert_eq!(shown(room, &alice).await, (json!(name), json!(url)), "round {round}");
        }
    }
}

#[tokio::test]
async fn a_room_that_is_joined_while_a_name_changes_shows_the_new_one() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for round in 0..8 {
        let public = room(&bob, json!({ "preset": "public_chat" })).await;
        let (name, names) = (format!("Alice {round}"), profile(&alice, "displayname"));
        let join = format!("{V3}/join/{public}");
        let request = json!({ "displayname": name });
        let own = json!({});
        let (joined, named, made) = tokio::join!(
            alice.post(&join, json!({})),
            alice.put(&names, request),
            room(&alice, own),
        );
        joined.ok();
        named.ok();
        for room in [&public, &made] {
            assert_eq!(shown(room, &alice).await.0, json!(name), "round {round}");
        }
    }
}

#[tokio::test]
async fn fields_set_at_once_are_all_there_and_within_the_limit_together() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let put = |field: String, value: Value| {
        let (alice, path) = (alice.clone(), profile(&alice, &field));
        async move { alice.put(&path, json!({ field: value })).await }
    };
    let small = (0..10).map(|n| put(format!("org.example.small{n}"), json!(n)));
    assert_eq!(succeeded(&join_all(small).await), 10);
    let whole = alice.get(&format!("{V3}/profile/{}", alice.user_id)).await.ok();
    assert_eq!(whole.as_object().unwrap().len(), 10);
    let big = (0..4).map(|n| put(format!("org.example.big{n}"), json!("x".repeat(30_000))));
    assert_eq!(succeeded(&join_all(big).await), 2, "64 KiB hold two of them");
}

#[tokio::test]
async fn four_who_replace_a_room_at_once_make_one() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for from in ["10", "12"] {
        let old = room(&alice, json!({ "room_version": from })).await;
        let before = alice.get(&format!("{V3}/joined_rooms")).await.ok();
        let before = before["joined_rooms"].as_array().unwrap().len();
        let path = format!("{V3}/rooms/{old}/upgrade");
        let upgrade = || alice.post(&path, json!({ "new_version": "11" }));
        let answers = join_all((0..4).map(|_| upgrade())).await;
        let mut made: Vec<String> = Vec::new();
        for answer in answers {
            assert!(answer.status < 500, "{}", answer.body);
            made.extend(answer.body["replacement_room"].as_str().map(str::to_owned));
        }
        made.push(upgrade().await.ok()["replacement_room"].as_str().unwrap().to_owned());
        made.dedup();
        assert_eq!(made.len(), 1, "{made:?}");
        let tombstone = alice.get(&format!("{V3}/rooms/{old}/state/m.room.tombstone")).await.ok();
        assert_eq!(tombstone["replacement_room"], json!(made[0]));
        let after = alice.get(&format!("{V3}/joined_rooms")).await.ok();
        assert_eq!(after["joined_rooms"].as_array().unwrap().len(), before + 1);
    }
}

#[tokio::test]
async fn of_rooms_made_at_once_with_one_alias_there_is_one() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let path = format!("{V3}/createRoom");
    let make = || alice.post(&path, json!({ "room_alias_name": "one" }));
    let answers = join_all((0..4).map(|_| make())).await;
    assert_eq!(succeeded(&answers), 1);
    for answer in answers.into_iter().filter(|answer| answer.status != 200) {
        answer.err(400, "M_ROOM_IN_USE");
    }
    let rooms = alice.get(&format!("{V3}/joined_rooms")).await.ok();
    assert_eq!(rooms["joined_rooms"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn of_registrations_of_one_name_at_once_there_is_one() {
    let server = TestServer::start().await;
    let client = server.anonymous();
    let auth = json!({ "type": "m.login.dummy" });
    let request = json!({ "username": "alice", "password": "x", "auth": auth });
    let path = format!("{V3}/register");
    let answers = join_all((0..4).map(|_| client.post(&path, request.clone()))).await;
    assert_eq!(succeeded(&answers), 1);
    for answer in answers.into_iter().filter(|answer| answer.status != 200) {
        answer.err(400, "M_USER_IN_USE");
    }
}

#[tokio::test]
async fn claims_at_once_get_different_keys_and_uploads_at_once_are_all_there() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let upload = |n: usize| {
        let key = format!("signed_curve25519:KEY{n}");
        let body =
            json!({ "one_time_keys": { key: { "key": format!("k{n}"), "signatures": {} } } });
        let bob = bob.clone();
        async move { bob.post(&format!("{V3}/keys/upload"), body).await }
    };
    assert_eq!(succeeded(&join_all((0..6).map(upload)).await), 6);
    let counts = bob.post(&format!("{V3}/keys/upload"), json!({})).await.ok();
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 6);
    let devices = json!({ bob.device_id.clone(): "signed_curve25519" });
    let request = json!({ "one_time_keys": { bob.user_id.clone(): devices } });
    let path = format!("{V3}/keys/claim");
    let answers = join_all((0..6).map(|_| alice.post(&path, request.clone()))).await;
    let mut keys: Vec<String> = Vec::new();
    for answer in answers {
        let body = answer.ok();
        let claimed = &body["one_time_keys"][&bob.user_id][&bob.device_id];
        keys.extend(claimed.as_object().unwrap().keys().cloned());
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 6, "{keys:?}");
}

#[tokio::test]
async fn tags_and_push_rules_set_at_once_are_all_there() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let here = room(&alice, json!({})).await;
    let tags = format!("{V3}/user/{}/rooms/{here}/tags", alice.user_id);
    let tag = |n: usize| {
        let (alice, path) = (alice.clone(), format!("{tags}/u.tag{n}"));
        async move { alice.put(&path, json!({})).await }
    };
    assert_eq!(succeeded(&join_all((0..8).map(tag)).await), 8);
    assert_eq!(alice.get(&tags).await.ok()["tags"].as_object().unwrap().len(), 8);
    let rule = |n: usize| {
        let (alice, path) = (alice.clone(), format!("{V3}/pushrules/global/override/rule{n}"));
        async move { alice.put(&path, json!({ "conditions": [], "actions": [] })).await }
    };
    assert_eq!(succeeded(&join_all((0..8).map(rule)).await), 8);
    let rules = alice.get(&format!("{V3}/pushrules/global/")).await.ok();
    let rules = rules["override"].as_array().unwrap();
    let own = rules.iter().filter(|rule| rule["rule_id"].as_str().unwrap().starts_with("rule"));
    assert_eq!(own.count(), 8);
}

#[tokio::test]
async fn aliases_deleted_at_once_all_leave_the_room_s_list() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let here = room(&alice, json!({})).await;
    let alias = |n: usize| format!("#alias{n}:localhost");
    let path = |n: usize| format!("{V3}/directory/room/%23alias{n}:localhost");
    for n in 0..6 {
        alice.put(&path(n), json!({ "room_id": here })).await.ok();
    }
    let list = format!("{V3}/rooms/{here}/state/m.room.canonical_alias");
    let names: Vec<String> = (1..6).map(alias).collect();
    alice.put(&list, json!({ "alias": alias(0), "alt_aliases": names })).await.ok();
    let delete = |n: usize| {
        let alice = alice.clone();
        async move { alice.delete(&path(n), None).await }
    };
    assert_eq!(succeeded(&join_all((0..6).map(delete)).await), 6);
    assert_eq!(alice.get(&list).await.ok(), json!({ "alt_aliases": [] }));
}

#[tokio::test]
async fn who_logs_in_by_a_password_that_is_being_changed_does_not_stay() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let by_password = |password: &str| {
        let identifier = json!({ "type": "m.id.user", "user": "alice" });
        json!({ "type": "m.login.password", "password": password, "identifier": identifier })
    };
    let (stranger, login) = (server.anonymous(), format!("{V3}/login"));
    let is_over = AtomicBool::new(false);
    // Whenever the change takes hold, some have proven the old password and are not in yet.
    let log_in = async || {
        let mut answers = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            answers.push(stranger.post(&login, by_password("password-alice")).await);
        }
        answers
    };
    let change = async {
        let mut auth = by_password("password-alice");
        auth["session"] = Value::Null;
        let change = json!({ "new_password": "second", "auth": auth });
        let changed = alice.post(&format!("{V3}/account/password"), change).await;
        is_over.store(true, Ordering::Relaxed);
        changed
    };
    let (changed, logins) = tokio::join!(change, join_all((0..6).map(|_| log_in())));
    changed.ok();
    for answer in logins.into_iter().flatten().filter(|answer| answer.status == 200) {
        let mut client = server.anonymous();
        client.token = Some(answer.body["access_token"].as_str().unwrap().to_owned());
        client.get(&format!("{V3}/account/whoami")).await.err(401, "M_UNKNOWN_TOKEN");
    }
    alice.get(&format!("{V3}/account/whoami")).await.ok();
}

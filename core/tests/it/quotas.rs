//! What one owner may keep: each kind is filled up to its bound and no further, by requests that come
//! together, too; what is there can be made smaller or deleted; another owner has all of his own.

use colonnade_api::bounds::{self, Rate};
use colonnade_rooms::settings::{OwnerLimits, Rate as Often};
use colonnade_testkit::{Answer, Client, Method, TestServer, server::open_settings};
use futures_util::future::join_all;
use serde_json::{Value, json};

const V3: &str = "/_matrix/client/v3";

async fn server(narrow: impl FnOnce(&mut OwnerLimits)) -> TestServer {
    let mut settings = open_settings();
    narrow(&mut settings.limits);
    TestServer::with_settings(settings).await
}

fn data(user: &Client, kind: &str) -> String {
    format!("{V3}/user/{}/account_data/{kind}", user.user_id)
}

async fn room(user: &Client, request: Value) -> String {
    let made = user.post(&format!("{V3}/createRoom"), request).await.ok();
    made["room_id"].as_str().unwrap().to_owned()
}

/// Asserts that the bound of a setting was met.
#[track_caller]
fn over(answer: Answer, status: u16, errcode: &str, setting: &str) {
    let error = answer.err(status, errcode);
    assert!(error["error"].as_str().unwrap().contains(setting), "{error}");
}

#[tokio::test]
async fn account_data_is_bounded_by_number() {
    let server = server(|limits| limits.account_data_items_max = 5).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room(&alice, json!({})).await;
    let tag = format!("{V3}/user/{}/rooms/{room}/tags", alice.user_id);
    alice.put(&format!("{tag}/a"), json!({})).await.ok();
    let names: Vec<String> = (0..12).map(|n| data(&alice, &format!("org.example.{n}"))).collect();
    let together = join_all(names.iter().map(|name| alice.put(name, json!({ "n": 1 })))).await;
    let taken = together.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(taken, 4, "and the tags");
    let refused = together.into_iter().find(|answer| answer.status != 200).unwrap();
    over(refused, 403, "M_FORBIDDEN", "limits.account_data_items_max");
    let of_room = format!("{V3}/user/{}/rooms/{room}/account_data/org.example.x", alice.user_id);
    over(alice.put(&of_room, json!({})).await, 403, "M_FORBIDDEN", "account_data_items_max");
    alice.put(&format!("{tag}/b"), json!({})).await.ok();
    alice.delete(&format!("{tag}/a"), None).await.ok();
    bob.put(&data(&bob, "org.example.x"), json!({})).await.ok();
}

#[tokio::test]
async fn account_data_is_bounded_by_bytes() {
    let server = server(|limits| limits.account_data_bytes_max = 10_000).await;
    let alice = server.user("alice").await;
    let fat = |bytes: usize| json!({ "x": "x".repeat(bytes) });
    alice.put(&data(&alice, "org.example.a"), fat(5_000)).await.ok();
    alice.put(&data(&alice, "org.example.b"), fat(4_000)).await.ok();
    let more = alice.put(&data(&alice, "org.example.c"), fat(2_000)).await;
    over(more, 413, "M_TOO_LARGE", "limits.account_data_bytes_max");
    let more = alice.put(&data(&alice, "org.example.b"), fat(5_000)).await;
    over(more, 413, "M_TOO_LARGE", "limits.account_data_bytes_max");
    alice.put(&data(&alice, "org.example.a"), json!({})).await.ok();
    alice.put(&data(&alice, "org.example.c"), fat(2_000)).await.ok();
}

#[tokio::test]
async fn full_account_data_keeps_nobody_from_reading_on_or_ignoring_somebody() {
    let server = server(|limits| limits.account_data_bytes_max = 3_000).await;
    let alice = server.user("alice").await;
    let room = room(&alice, json!({})).await;
    alice.put(&data(&alice, "org.example.a"), json!({ "x": "x".repeat(2_900) })).await.ok();
    let more = alice.put(&data(&alice, "org.example.b"), json!({ "x": "x".repeat(200) })).await;
    over(more, 413, "M_TOO_LARGE", "limits.account_data_bytes_max");
    let tag = format!("{V3}/user/{}/rooms/{room}/tags/u.x", alice.user_id);
    let tagged = alice.put(&tag, json!({ "why": "x".repeat(200) })).await;
    over(tagged, 413, "M_TOO_LARGE", "limits.account_data_bytes_max");
    let send = format!("{V3}/rooms/{room}/send/m.room.message/1");
    let sent = alice.put(&send, json!({ "msgtype": "m.text", "body": "a" })).await.ok();
    let markers = json!({ "m.fully_read": sent["event_id"], "m.read": sent["event_id"] });
    alice.post(&format!("{V3}/rooms/{room}/read_markers"), markers).await.ok();
    let rule = json!({ "pattern": "y".repeat(300), "actions": [] });
    alice.put(&format!("{V3}/pushrules/global/content/fat"), rule).await.ok();
    let ignored = json!({ "ignored_users": { "@mallory:elsewhere.example": {} } });
    alice.put(&data(&alice, "m.ignored_user_list"), ignored).await.ok();
}

#[tokio::test]
async fn filters_and_pushers_are_bounded() {
    let server = server(|limits| {
        limits.filters_max = 3;
        limits.filters_bytes_max = 2_000;
        limits.pushers_max = 2;
    })
    .await;
    let alice = server.user("alice").await;
    let filter = format!("{V3}/user/{}/filter", alice.user_id);
    let by_limit = |n: usize| json!({ "room": { "timeline": { "limit": n } } });
    let together = join_all((1..8).map(|n| alice.post(&filter, by_limit(n)))).await;
    assert_eq!(together.iter().filter(|answer| answer.status == 200).count(), 3);
    let refused = together.into_iter().find(|answer| answer.status != 200).unwrap();
    over(refused, 403, "M_FORBIDDEN", "limits.filters_max");
    let bob = server.user("bob").await;
    let wide = json!({ "room": { "rooms": ["!".to_owned() + &"x".repeat(2_000)] } });
    let wide = bob.post(&format!("{V3}/user/{}/filter", bob.user_id), wide).await;
    over(wide, 413, "M_TOO_LARGE", "limits.filters_bytes_max");
    let set = format!("{V3}/pushers/set");
    let pusher = |key: &str, more: &str| {
        json!({
            "kind": "http", "app_id": "org.example", "pushkey": key, "app_display_name": "App",
            "device_display_name": "Phone", "lang": "en",
            "data": { "url": "https://push.example.org/_matrix/push/v1/notify", "more": more },
        })
    };
    alice.post(&set, pusher("a", "")).await.ok();
    alice.post(&set, pusher("b", "")).await.ok();
    over(alice.post(&set, pusher("c", "")).await, 403, "M_FORBIDDEN", "limits.pushers_max");
    alice.post(&set, pusher("a", "changed")).await.ok();
    alice.post(&set, pusher("a", &"x".repeat(9_000))).await.err(413, "M_TOO_LARGE");
    let gone = json!({ "kind": null, "app_id": "org.example", "pushkey": "b" });
    alice.post(&set, gone).await.ok();
    alice.post(&set, pusher("c", "")).await.ok();
}

#[tokio::test]
async fn uploads_have_a_quota() {
    let server = server(|limits| {
        limits.media_files_max = 4;
        limits.media_bytes_max = 1_000;
    })
    .await;
    let alice = server.user("alice").await;
    let upload = async |user: &Client, bytes: usize| {
        let body = vec![b'x'; bytes];
        user.raw(Method::POST, "/_matrix/media/v3/upload", &[], body).await.answer()
    };
    upload(&alice, 900).await.ok();
    over(upload(&alice, 200).await, 403, "M_FORBIDDEN", "limits.media_bytes_max");
    let together = join_all((0..6).map(|_| upload(&alice, 30))).await;
    assert_eq!(together.iter().filter(|answer| answer.status == 200).count(), 3);
    over(upload(&alice, 1).await, 403, "M_FORBIDDEN", "limits.media_");
    upload(&server.user("bob").await, 900).await.ok();
}

#[tokio::test]
async fn a_login_beyond_the_bound_takes_the_place_of_the_device_seen_longest_ago() {
    let server = server(|limits| limits.devices_max = 3).await;
    let alice = server.user("alice").await;
    let second = alice.another_device().await;
    let third = alice.another_device().await;
    let fourth = third.another_device().await;
    let whoami = format!("{V3}/account/whoami");
    alice.get(&whoami).await.err(401, "M_UNKNOWN_TOKEN");
    for present in [&second, &third, &fourth] {
        present.get(&whoami).await.ok();
    }
    let devices = fourth.get(&format!("{V3}/devices")).await.ok();
    assert_eq!(devices["devices"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn reports_beyond_the_bound_take_the_place_of_the_reporters_oldest() {
    let server = server(|limits| limits.reports_max = 3).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room(&alice, json!({})).await;
    let report = format!("{V3}/rooms/{room}/report");
    bob.post(&report, json!({ "reason": "of bob" })).await.ok();
    for n in 0..5 {
        alice.post(&report, json!({ "reason": format!("number {n}") })).await.ok();
    }
    let kept = server.inside().await.services.reports.newest(100).await.unwrap();
    let reasons: Vec<_> = kept.iter().map(|report| report.reason.as_str()).collect();
    assert_eq!(reasons, ["number 4", "number 3", "number 2", "of bob"]);
}

#[tokio::test]
async fn aliases_are_bounded_however_they_are_made() {
    let server = server(|limits| limits.aliases_max = 2).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let home = room(&alice, json!({ "room_alias_name": "home" })).await;
    let alias = |name: &str| format!("{V3}/directory/room/%23{name}:localhost");
    alice.put(&alias("a"), json!({ "room_id": home })).await.ok();
    let third = alice.put(&alias("b"), json!({ "room_id": home })).await;
    over(third, 403, "M_FORBIDDEN", "limits.aliases_max");
    let create = format!("{V3}/createRoom");
    let third = alice.post(&create, json!({ "room_alias_name": "c" })).await;
    over(third, 403, "M_FORBIDDEN", "limits.aliases_max");
    alice.delete(&alias("a"), None).await.ok();
    alice.put(&alias("b"), json!({ "room_id": home })).await.ok();
    room(&bob, json!({ "room_alias_name": "c" })).await;
}

#[tokio::test]
async fn one_time_and_fallback_keys_are_bounded() {
    let server = server(|limits| {
        limits.one_time_keys_max = 5;
        limits.one_time_keys_bytes_max = 1_000;
    })
    .await;
    let alice = server.user("alice").await;
    let path = format!("{V3}/keys/upload");
    let keys = |names: std::ops::Range<usize>, bytes: usize| {
        let keys = names.map(|n| (format!("curve25519:{n}"), json!("x".repeat(bytes))));
        json!({ "one_time_keys": keys.collect::<serde_json::Map<_, _>>() })
    };
    alice.post(&path, keys(0..4, 20)).await.ok();
    let more = alice.post(&path, keys(4..6, 20)).await;
    over(more, 403, "M_FORBIDDEN", "limits.one_time_keys_max");
    let counts = alice.post(&path, json!({})).await.ok();
    assert_eq!(counts["one_time_key_counts"]["curve25519"], 4, "all or none");
    alice.post(&path, keys(0..4, 20)).await.ok();
    let more = alice.post(&path, keys(4..5, 2_000)).await;
    over(more, 413, "M_TOO_LARGE", "limits.one_time_keys_bytes_max");
    let fallback = (0..17).map(|n| (format!("org.example.{n}:a"), json!("x")));
    let fallback = json!({ "fallback_keys": fallback.collect::<serde_json::Map<_, _>>() });
    alice.post(&path, fallback).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn backups_are_bounded_and_read_whole() {
    let server = server(|limits| {
        limits.backup_versions_max = 2;
        limits.backup_keys_max = 450;
        limits.backup_bytes_max = 100_000;
    })
    .await;
    let alice = server.user("alice").await;
    let versions = format!("{V3}/room_keys/version");
    let request = json!({
        "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
        "auth_data": { "public_key": "abc", "signatures": {} },
    });
    alice.post(&versions, request.clone()).await.ok();
    alice.post(&versions, request.clone()).await.ok();
    let third = alice.post(&versions, request.clone()).await;
    over(third, 403, "M_FORBIDDEN", "limits.backup_versions_max");
    let key = |bytes: usize| {
        json!({
            "first_message_index": 0, "forwarded_count": 0, "is_verified": true,
            "session_data": {
                "ciphertext": "c".repeat(bytes), "ephemeral": "e", "mac": "m",
            },
        })
    };
    let keys = |room: &str, names: std::ops::Range<usize>, bytes: usize| {
        let sessions = names.map(|n| (format!("session{n:04}"), key(bytes)));
        let sessions: serde_json::Map<_, _> = sessions.collect();
        json!({ "rooms": { format!("!{room}:localhost"): { "sessions": sessions } } })
    };
    let path = format!("{V3}/room_keys/keys?version=2");
    let empty = alice.get(&path).await.ok();
    assert_eq!(empty, json!({ "rooms": {} }));
    alice.put(&path, keys("a", 0..250, 10)).await.ok();
    alice.put(&path, keys("b", 0..200, 10)).await.ok();
    let more = alice.put(&path, keys("c", 0..1, 10)).await;
    over(more, 403, "M_FORBIDDEN", "limits.backup_keys_max");
    let all = alice.get(&path).await.ok();
    assert_eq!(all["rooms"]["!a:localhost"]["sessions"].as_object().unwrap().len(), 250);
    assert_eq!(all["rooms"]["!b:localhost"]["sessions"].as_object().unwrap().len(), 200);
    assert_eq!(all["rooms"]["!b:localhost"]["sessions"]["session0199"], key(10));
    let of_room = format!("{V3}/room_keys/keys/!a:localhost?version=2");
    let of_room = alice.get(&of_room).await.ok();
    assert_eq!(of_room["sessions"].as_object().unwrap().len(), 250);
    let nothing = format!("{V3}/room_keys/keys/!none:localhost?version=2");
    assert_eq!(alice.get(&nothing).await.ok(), json!({ "sessions": {} }));
    alice.get(&format!("{V3}/room_keys/keys")).await.err(400, "M_MISSING_PARAM");
    alice.get(&format!("{V3}/room_keys/keys?version=9")).await.err(404, "M_NOT_FOUND");
    let deleted = alice.delete(&path, None).await.ok();
    assert_eq!(deleted["count"], 0);
    let fat = alice.put(&path, keys("a", 0..10, 15_000)).await;
    over(fat, 413, "M_TOO_LARGE", "limits.backup_bytes_max");
    alice.put(&path, keys("a", 0..5, 15_000)).await.ok();
    alice.delete(&format!("{versions}/1"), None).await.ok();
    alice.post(&versions, request).await.ok();
}

#[tokio::test]
async fn a_stranger_cannot_fill_an_inbox() {
    let server = server(|limits| limits.to_device_sender_items_max = 5).await;
    let (alice, stranger, friend) =
        (server.user("alice").await, server.user("stranger").await, server.user("friend").await);
    let send = async |sender: &Client, txn: String| {
        let path = format!("{V3}/sendToDevice/org.example.hello/{txn}");
        let to = json!({ "*": { "from": sender.user_id } });
        sender.put(&path, json!({ "messages": { alice.user_id.clone(): to } })).await.ok();
    };
    for n in 0..12 {
        send(&stranger, format!("t{n}")).await;
    }
    send(&friend, "t".to_owned()).await;
    let other = alice.another_device().await;
    for n in 0..7 {
        send(&other, format!("t{n}")).await;
    }
    let sync = alice.get(&format!("{V3}/sync")).await.ok();
    let count = |sync: &Value, sender: &Client| {
        let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
        events.iter().filter(|event| event["sender"] == sender.user_id).count()
    };
    assert_eq!(count(&sync, &stranger), 5);
    assert_eq!(count(&sync, &friend), 1, "a friend is not shut out");
    assert_eq!(count(&sync, &other), 7, "one's own devices have no share");
    let since = sync["next_batch"].as_str().unwrap();
    alice.get(&format!("{V3}/sync?since={since}")).await.ok();
    send(&stranger, "later".to_owned()).await;
    let sync = alice.get(&format!("{V3}/sync?since={since}")).await.ok();
    assert_eq!(count(&sync, &stranger), 1, "what was acknowledged is deleted and makes room");
}

#[tokio::test]
async fn invitations_that_wait_are_bounded_however_they_are_sent() {
    let server = server(|limits| {
        limits.invites_max = 4;
        limits.invites_sender_max = 3;
    })
    .await;
    let (alice, stranger, friend) =
        (server.user("alice").await, server.user("stranger").await, server.user("friend").await);
    let of_alice = json!({ "user_id": alice.user_id });
    let mut rooms = Vec::new();
    for _ in 0..4 {
        rooms.push(room(&stranger, json!({})).await);
    }
    for room in &rooms[..2] {
        stranger.post(&format!("{V3}/rooms/{room}/invite"), of_alice.clone()).await.ok();
    }
    let third = room(&stranger, json!({ "invite": [alice.user_id] })).await;
    let fourth = stranger.post(&format!("{V3}/rooms/{}/invite", rooms[2]), of_alice.clone()).await;
    over(fourth, 403, "M_FORBIDDEN", "limits.invites_sender_max");
    let by_state = format!("{V3}/rooms/{}/state/m.room.member/{}", rooms[2], alice.user_id);
    let fourth = stranger.put(&by_state, json!({ "membership": "invite" })).await;
    over(fourth, 403, "M_FORBIDDEN", "limits.invites_sender_max");
    let create = json!({ "invite": [alice.user_id] });
    let fourth = stranger.post(&format!("{V3}/createRoom"), create.clone()).await;
    over(fourth, 403, "M_FORBIDDEN", "limits.invites_sender_max");
    room(&friend, create.clone()).await;
    let fifth = friend.post(&format!("{V3}/createRoom"), create.clone()).await;
    over(fifth, 403, "M_FORBIDDEN", "limits.invites_max");
    alice.post(&format!("{V3}/rooms/{third}/leave"), json!({})).await.ok();
    room(&friend, create).await;
}

#[tokio::test]
async fn nobody_is_in_more_rooms_than_may_be() {
    let server = server(|limits| limits.rooms_max = 2).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let open = json!({ "preset": "public_chat" });
    let (first, second) = (room(&bob, open.clone()).await, room(&bob, open.clone()).await);
    room(&alice, json!({})).await;
    let join = |room: &str| format!("{V3}/join/{room}");
    alice.post(&join(&first), json!({})).await.ok();
    over(alice.post(&join(&second), json!({})).await, 403, "M_FORBIDDEN", "limits.rooms_max");
    let third = bob.post(&format!("{V3}/createRoom"), open).await;
    over(third, 403, "M_FORBIDDEN", "limits.rooms_max");
    let name = format!("{V3}/profile/{}/displayname", alice.user_id);
    alice.put(&name, json!({ "displayname": "Alice" })).await.ok();
    alice.post(&format!("{V3}/rooms/{first}/leave"), json!({})).await.ok();
    alice.post(&join(&second), json!({})).await.ok();
}

#[tokio::test]
async fn a_fat_invitation_is_thin_in_a_first_sync() {
    let server = server(|limits| {
        limits.invite_state_bytes_max = 8_000;
        limits.invite_states_bytes_max = 20_000;
    })
    .await;
    let (alice, stranger) = (server.user("alice").await, server.user("stranger").await);
    let fat = "x".repeat(25_000);
    for _ in 0..8 {
        let room = room(&stranger, json!({ "name": "Named", "topic": fat })).await;
        let path = format!("{V3}/rooms/{room}/state/m.room.member/{}", alice.user_id);
        let invite = json!({ "membership": "invite", "reason": "come", "org.example.fat": fat });
        stranger.put(&path, invite).await.ok();
    }
    let sync = alice.get(&format!("{V3}/sync")).await.ok();
    let invites = sync["rooms"]["invite"].as_object().unwrap();
    assert_eq!(invites.len(), 8, "all of them are told");
    let mut named = 0;
    for invite in invites.values() {
        let state = invite["invite_state"]["events"].as_array().unwrap();
        let itself = state.iter().find(|event| event["state_key"] == alice.user_id).unwrap();
        assert_eq!(itself["content"], json!({ "membership": "invite", "reason": "come" }));
        named += usize::from(state.iter().any(|event| event["content"]["name"] == "Named"));
    }
    assert!(named > 0, "what fits is shown");
    let bytes = sync["rooms"]["invite"].to_string().len();
    assert!(bytes < 25_000, "{bytes} bytes");
}

#[tokio::test]
async fn receipts_are_kept_of_so_many_threads() {
    let server = server(|limits| limits.receipt_threads_max = 2).await;
    let alice = server.user("alice").await;
    let room = room(&alice, json!({})).await;
    let mut roots = Vec::new();
    for n in 0..4 {
        let send = |txn: String, content: Value| {
            let path = format!("{V3}/rooms/{room}/send/m.room.message/{txn}");
            let alice = alice.clone();
            async move {
                let sent = alice.put(&path, content).await.ok();
                sent["event_id"].as_str().unwrap().to_owned()
            }
        };
        let text = json!({ "msgtype": "m.text", "body": "hello" });
        let root = send(format!("root{n}"), text.clone()).await;
        let mut reply = text;
        reply["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": root });
        let reply = send(format!("reply{n}"), reply).await;
        let path = format!("{V3}/rooms/{room}/receipt/m.read/{reply}");
        alice.post(&path, json!({ "thread_id": root })).await.ok();
        roots.push(root);
    }
    let sync = alice.get(&format!("{V3}/sync")).await.ok();
    let ephemeral = sync["rooms"]["join"][&room]["ephemeral"]["events"].to_string();
    let kept: Vec<bool> = roots.iter().map(|root| ephemeral.contains(root.as_str())).collect();
    assert_eq!(kept, [false, false, true, true], "the newest");
}

#[tokio::test]
async fn everything_that_writes_is_rated() {
    let mut settings = open_settings();
    let never = Often { per_second: 0.001, burst: 0 };
    settings.rate_limits.enabled = true;
    settings.rate_limits.message = never;
    settings.rate_limits.join = never;
    settings.rate_limits.media = never;
    settings.rate_limits.other = never;
    let server = TestServer::with_settings(settings).await;
    let alice = server.user("alice").await;
    let mut counted = 0;
    for endpoint in bounds::all() {
        if !matches!(endpoint.rate, Rate::Each(_) | Rate::Address(_)) {
            continue;
        }
        let parts = endpoint.path.split('/').map(|part| match part {
            "{userId}" => alice.user_id.as_str(),
            part if part.starts_with('{') => "x",
            part => part,
        });
        let path = parts.collect::<Vec<_>>().join("/");
        let answer = alice.send(endpoint.method.clone(), &path, Some(b"{}".to_vec())).await;
        assert_eq!(answer.status, 429, "{} {path}: {}", endpoint.method, answer.body);
        answer.err(429, "M_LIMIT_EXCEEDED");
        counted += 1;
    }
    assert!(counted > 60, "only {counted}");
}

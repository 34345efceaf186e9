//! Bounds that count across rooms hold for requests that come together, too, and aliases that rooms call
//! their own point to them: what was looked at before the transaction is looked at in it once more.

use colonnade_rooms::settings::OwnerLimits;
use colonnade_testkit::{Answer, Client, TestServer, server::open_settings};
use futures_util::future::join_all;
use serde_json::{Value, json};

const V3: &str = "/_matrix/client/v3";

async fn server(narrow: impl FnOnce(&mut OwnerLimits)) -> TestServer {
    let mut settings = open_settings();
    narrow(&mut settings.limits);
    TestServer::with_settings(settings).await
}

async fn rooms(user: &Client, count: usize, request: Value) -> Vec<String> {
    let path = format!("{V3}/createRoom");
    let mut rooms = Vec::new();
    for _ in 0..count {
        let made = user.post(&path, request.clone()).await.ok();
        rooms.push(made["room_id"].as_str().unwrap().to_owned());
    }
    rooms
}

/// Asserts that so many of these succeeded, and the others met a bound.
#[track_caller]
fn bounded(answers: &[Answer], succeeded: usize, setting: &str) {
    let good = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(good, succeeded, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status, &answer.body["errcode"]), (403, &json!("M_FORBIDDEN")));
        let why = answer.body["error"].as_str().unwrap();
        assert!(why.contains(setting), "{why}");
    }
}

#[tokio::test]
async fn invitations_sent_together_are_no_more_than_may_wait() {
    let server = server(|limits| {
        limits.invites_max = 5;
        limits.invites_sender_max = 3;
    })
    .await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let invite = |by: &Client, room: &str| {
        let (by, path) = (by.clone(), format!("{V3}/rooms/{room}/invite"));
        let body = json!({ "user_id": carol.user_id });
        async move { by.post(&path, body).await }
    };
    let of_alice = rooms(&alice, 12, json!({})).await;
    let answers = join_all(of_alice.iter().map(|room| invite(&alice, room))).await;
    bounded(&answers, 3, "limits.invites_sender_max");
    let create = format!("{V3}/createRoom");
    let make = || bob.post(&create, json!({ "invite": [carol.user_id] }));
    let answers = join_all((0..12).map(|_| make())).await;
    bounded(&answers, 2, "limits.invites_");
}

#[tokio::test]
async fn rooms_joined_together_are_no_more_than_may_be() {
    let server = server(|limits| limits.rooms_max = 20).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let open = rooms(&alice, 20, json!({ "preset": "public_chat" })).await;
    rooms(&bob, 16, json!({})).await;
    let join = |room: &String| {
        let (bob, path) = (bob.clone(), format!("{V3}/join/{room}"));
        async move { bob.post(&path, json!({})).await }
    };
    let answers = join_all(open.iter().map(join)).await;
    bounded(&answers, 4, "limits.rooms_max");
    // Of two who come into one room together, one may be refused and the other not.
    let joined = bob.get(&format!("{V3}/joined_rooms")).await.ok();
    let into = open.iter().find(|room| !joined.to_string().contains(*room)).unwrap();
    let carol = server.user("carol").await;
    let (path, send) =
        (format!("{V3}/join/{into}"), format!("{V3}/rooms/{into}/send/m.room.message/1"));
    let (of_bob, of_carol, said) = tokio::join!(
        join(into),
        carol.post(&path, json!({})),
        alice.put(&send, json!({ "msgtype": "m.text", "body": "x" })),
    );
    bounded(&[of_bob], 0, "limits.rooms_max");
    of_carol.ok();
    said.ok();
}

#[tokio::test]
async fn aliases_made_together_are_no_more_than_may_be() {
    let server = server(|limits| limits.aliases_max = 4).await;
    let alice = server.user("alice").await;
    let home = rooms(&alice, 1, json!({})).await.remove(0);
    let create = format!("{V3}/createRoom");
    let with_room = |n: usize| {
        let (alice, path) = (alice.clone(), create.clone());
        async move { alice.post(&path, json!({ "room_alias_name": format!("new{n}") })).await }
    };
    let of_room = |n: usize| {
        let (alice, home) = (alice.clone(), home.clone());
        let path = format!("{V3}/directory/room/%23old{n}:localhost");
        async move { alice.put(&path, json!({ "room_id": home })).await }
    };
    let (made, named) =
        tokio::join!(join_all((0..8).map(with_room)), join_all((0..8).map(of_room)));
    let all: Vec<Answer> = made.into_iter().chain(named).collect();
    bounded(&all, 4, "limits.aliases_max");
}

/// The alias and alternative aliases that a room calls its own.
async fn called(user: &Client, room: &str) -> Vec<String> {
    let state = user.get(&format!("{V3}/rooms/{room}/state/m.room.canonical_alias")).await;
    let others = state.body["alt_aliases"].as_array().cloned().unwrap_or_default();
    let all = others.iter().chain([&state.body["alias"]]);
    all.filter_map(|alias| alias.as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn an_alias_deleted_while_a_room_calls_it_its_own_does_not_dangle() {
    let server = server(|_| {}).await;
    let alice = server.user("alice").await;
    let room = rooms(&alice, 1, json!({})).await.remove(0);
    for round in 0..20 {
        let (alias, other) = (format!("#a{round}:localhost"), format!("#b{round}:localhost"));
        let of = |alias: &str| format!("{V3}/directory/room/{}", alias.replace('#', "%23"));
        for alias in [&alias, &other] {
            alice.put(&of(alias), json!({ "room_id": room })).await.ok();
        }
        let state = format!("{V3}/rooms/{room}/state/m.room.canonical_alias");
        let request = json!({ "alias": alias, "alt_aliases": [other] });
        let path = of(&alias);
        let (set, deleted) = tokio::join!(alice.put(&state, request), alice.delete(&path, None));
        deleted.ok();
        if set.status != 200 {
            set.err(400, "M_BAD_ALIAS");
        }
        for alias in called(&alice, &room).await {
            let target = alice.get(&of(&alias)).await;
            assert_eq!(target.status, 200, "round {round}: {alias} dangles: {}", target.body);
        }
    }
}

#[tokio::test]
async fn a_new_room_calls_no_alias_its_own_that_points_elsewhere() {
    let server = server(|_| {}).await;
    let alice = server.user("alice").await;
    let create = format!("{V3}/createRoom");
    let request = |alias: &str| {
        let content = json!({ "alias": alias });
        json!({
            "room_alias_name": "mine",
            "initial_state": [{ "type": "m.room.canonical_alias", "content": content }],
        })
    };
    alice.post(&create, request("#other:localhost")).await.err(400, "M_BAD_ALIAS");
    let made = alice.post(&create, request("#mine:localhost")).await.ok();
    let room = made["room_id"].as_str().unwrap();
    assert_eq!(called(&alice, room).await, ["#mine:localhost"]);
}

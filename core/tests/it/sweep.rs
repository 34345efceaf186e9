//! Every mounted endpoint is asked by those who may not: without a token, with one nobody has and with
//! one that was logged out; and every endpoint that writes to a room by those who are not in it. What is
//! asked comes from the table of routes, so a new endpoint is asked, too. Where somebody may, a list says
//! so, with the reason.

use std::collections::BTreeMap;

use colonnade_api::{routes, table::Route};
use colonnade_testkit::{
    Client, Method, TestServer,
    openapi::{Operation, SPEC},
    server::open_settings,
};
use serde_json::{Value, json};

use crate::{
    conformance::encoded,
    sync::{encode, in_room, say},
};

mod rooms;

/// Endpoints the specification does not have, who may ask them, and why they are there.
const OUTSIDE: &[(&str, Access, &str)] = &[
    (
        "/_synapse/admin/v1/register",
        Access::Anybody,
        "it takes a proof by the secret the server shares with its operator",
    ),
    (
        "/_matrix/client/unstable/uk.tcpip.msc4133/profile/{user_id}",
        Access::Token,
        "several fields of one's profile at once, which did not become part of the specification",
    ),
    (
        "/_matrix/client/v3/profile/{user_id}",
        Access::Token,
        "the same, where matrix-js-sdk asks for it",
    ),
    (
        "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/account_data/{event_type}",
        Access::Token,
        DELETION,
    ),
    (
        "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/rooms/{room_id}/account_data/{event_type}",
        Access::Token,
        DELETION,
    ),
    ("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", Access::Token, SLIDING),
    ("/_matrix/client/v4/sync", Access::Token, SLIDING),
    ("/_matrix/client/v3/rooms/{room_id}/send/{event_type}", Access::Token, WITHOUT_TXN),
    ("/_matrix/client/r0/rooms/{room_id}/send/{event_type}", Access::Token, WITHOUT_TXN),
    ("/_matrix/client/v3/rooms/{room_id}/redact/{event_id}", Access::Token, WITHOUT_TXN),
    ("/_matrix/client/r0/rooms/{room_id}/redact/{event_id}", Access::Token, WITHOUT_TXN),
];
/// Why there is another way to sync.
const SLIDING: &str = "sliding sync is a proposal that was accepted, MSC4186";
/// Why account data is deleted at a path of its own.
const DELETION: &str = "deleting one's own data is a proposal, MSC3391";
/// Why requests that add events have a path without a transaction id.
const WITHOUT_TXN: &str =
    "clients from before the specification asked for transaction ids send none";
/// Paths from before an endpoint was in the specification, and that which it has now.
const RENAMED: &[(&str, &str)] = &[
    (
        "/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}",
        "/_matrix/client/v1/room_summary/{room_id_or_alias}",
    ),
    (
        "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms",
        "/_matrix/client/v1/mutual_rooms",
    ),
];
/// Operations of the specification that answer without a token, too, each with the reason.
const OPEN: &[(&str, &str)] =
    &[("getRoomSummary", "the specification lets servers show public rooms to anybody")];
/// Where `M_UNKNOWN_TOKEN` is about a token in the body.
const TOKEN_IN_BODY: &[&str] = &["refresh"];

/// Returns a value for each name in the path of a route.
fn path_of(route: &Route, names: &BTreeMap<&str, String>) -> String {
    let segments = route.path.split('/').map(|segment| {
        let name = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
        let Some(name) = name else { return segment.to_owned() };
        match names.get(name) {
            Some(value) => encoded(value),
            None => panic!("the sweep does not know what to put for {name} in {}", route.path),
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Values for names that need no room.
fn plain_names() -> BTreeMap<&'static str, String> {
    let names = [
        ("event_type", "org.example.swept"),
        ("field", "displayname"),
        ("filter_id", "0"),
        ("kind", "override"),
        ("media_id", "nothing"),
        ("name", "name"),
        ("receipt_type", "m.read"),
        ("rel_type", "m.thread"),
        ("room_alias", "#swept:localhost"),
        ("rule_id", "swept"),
        ("server_name", "localhost"),
        ("session_id", "swept"),
        ("state_key", ""),
        ("tag", "u.swept"),
        ("txn_id", "swept"),
        ("version", "1"),
    ];
    names.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

/// Finds what the specification says of a route: under its own path, or the one it had a name for before
/// that was stable.
fn operation(route: &Route) -> Option<&'static Operation> {
    let method = route.method.as_str();
    let stable = |path: &str| SPEC.find(method, path);
    // Old versions of an endpoint, and a state key that is left out.
    let renamed = RENAMED.iter().find(|(before, _)| *before == route.path);
    let path = renamed.map_or(route.path.as_str(), |(_, now)| *now);
    let others = [path.to_owned(), path.replacen("/v1/", "/v3/", 1), format!("{path}/")];
    stable(route.name).or_else(|| others.iter().find_map(|path| stable(path))).or_else(|| {
        let (api, rest) = route.path.split_once("/unstable/")?;
        let without_vendor = rest.split_once('/').map_or(rest, |(_, rest)| rest);
        let versions = ["v1", "v3"].into_iter().flat_map(|version| {
            [rest, without_vendor].map(|rest| format!("{api}/{version}/{rest}"))
        });
        let media = without_vendor.strip_prefix("media/");
        let media = media.map(|rest| format!("/_matrix/client/v1/media/{rest}"));
        versions.chain(media).find_map(|path| SPEC.find(method, &path))
    })
}

/// What an endpoint asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Token,
    TokenOrNone,
    Anybody,
}

fn access(route: &Route) -> Access {
    match operation(route) {
        Some(operation) if OPEN.iter().any(|(id, _)| *id == operation.id) => Access::TokenOrNone,
        Some(operation) if operation.token_optional => Access::TokenOrNone,
        Some(operation) if operation.authenticated => Access::Token,
        Some(_) => Access::Anybody,
        None => {
            let known = OUTSIDE.iter().find(|(path, ..)| *path == route.path);
            let Some((_, access, _)) = known else {
                panic!("{} is in no specification, and who may ask it in no list", route.path);
            };
            *access
        }
    }
}

fn body_of(route: &Route) -> Option<Value> {
    let takes = !matches!(route.method, Method::GET | Method::DELETE);
    let example = operation(route).and_then(|operation| operation.example.clone());
    takes.then(|| example.unwrap_or_else(|| json!({})))
}

/// Who asks without the right to.
struct Nobody {
    who: &'static str,
    client: Client,
    errcode: &'static str,
}

impl Nobody {
    /// Says what is wrong with the answer; `None` when nothing is.
    async fn asks(&self, route: &Route, path: &str) -> Option<String> {
        let body = body_of(route).map(|body| body.to_string().into_bytes());
        let answer = self.client.send(route.method.clone(), path, body).await;
        let errcode = answer.body["errcode"].as_str().unwrap_or_default();
        let is_refused = answer.status == 401
            && errcode == self.errcode
            && answer.body["soft_logout"] != json!(true);
        let id = operation(route).map_or("", |operation| operation.id.as_str());
        let is_about_the_token = ["M_MISSING_TOKEN", "M_UNKNOWN_TOKEN"].contains(&errcode)
            && !TOKEN_IN_BODY.contains(&id);
        // A name for a file that nobody filled yet is a 504 of the specification's own.
        let is_broken = answer.status >= 500 && errcode != "M_NOT_YET_UPLOADED";
        let is_right = match access(route) {
            Access::Token => is_refused,
            // Who gives a token gives a valid one; who gives none changes nothing.
            Access::TokenOrNone => match self.client.token {
                Some(_) => is_refused || route.method == Method::GET && answer.status == 200,
                None => route.method == Method::GET || answer.status >= 400,
            },
            Access::Anybody => !is_about_the_token,
        };
        let Self { who, .. } = self;
        (!is_right || is_broken)
            .then(|| format!("{who}: {} {path}: {} {}", route.method, answer.status, answer.body))
    }
}

#[tokio::test]
async fn no_endpoint_takes_a_token_that_is_none() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let gone = alice.another_device().await;
    gone.post("/_matrix/client/v3/logout", json!({})).await.ok();
    let mut bogus = server.anonymous();
    bogus.token = Some("nobody_ever_had_this_one".to_owned());
    let nobodies = [
        Nobody { who: "no token", client: server.anonymous(), errcode: "M_MISSING_TOKEN" },
        Nobody { who: "a bogus token", client: bogus, errcode: "M_UNKNOWN_TOKEN" },
        Nobody { who: "a logged-out token", client: gone, errcode: "M_UNKNOWN_TOKEN" },
    ];
    let mut names = plain_names();
    let room = alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
    let room = room["room_id"].as_str().unwrap().to_owned();
    names.insert("event_id", say(&alice, &room, "hello").await);
    names.insert("room_id_or_alias", room.clone());
    names.insert("room_id", room);
    names.insert("user_id", alice.user_id.clone());
    names.insert("device_id", alice.device_id.clone());
    let mut problems = Vec::new();
    let mut guarded = 0;
    for route in routes::of_clients().routes {
        let path = path_of(&route, &names);
        guarded += usize::from(access(&route) == Access::Token);
        for nobody in &nobodies {
            problems.extend(nobody.asks(&route, &path).await);
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(guarded > 200, "only {guarded} endpoints take a token");
    alice.get("/_matrix/client/v3/account/whoami").await.ok();
}

#[tokio::test]
async fn every_endpoint_says_that_an_expired_token_can_be_refreshed() {
    let mut settings = open_settings();
    settings.sessions.access_token_ms = 0;
    let server = TestServer::with_settings(settings).await;
    let alice = server.user("alice").await;
    let login = json!({
        "type": "m.login.password", "password": "password-alice", "refresh_token": true,
        "identifier": { "type": "m.id.user", "user": "alice" },
    });
    let answer = server.anonymous().post("/_matrix/client/v3/login", login).await.ok();
    let mut expired = server.anonymous();
    expired.token = Some(answer["access_token"].as_str().unwrap().to_owned());
    let mut names = plain_names();
    for name in ["event_id", "room_id", "room_id_or_alias", "device_id"] {
        names.insert(name, "!nothing:localhost".to_owned());
    }
    names.insert("user_id", alice.user_id.clone());
    let mut problems = Vec::new();
    for route in routes::of_clients().routes {
        if access(&route) != Access::Token {
            continue;
        }
        let path = path_of(&route, &names);
        let body = body_of(&route).map(|body| body.to_string().into_bytes());
        let answer = expired.send(route.method.clone(), &path, body).await;
        let is_soft = answer.body["soft_logout"] == json!(true);
        if answer.status != 401 || answer.body["errcode"] != "M_UNKNOWN_TOKEN" || !is_soft {
            problems.push(format!("{} {path}: {} {}", route.method, answer.status, answer.body));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

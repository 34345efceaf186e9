//! U+0000 in every string a client can send: PostgreSQL keeps no text with it, so what is a name, an id or
//! a key is refused, on both databases alike, and what is the content of JSON is kept. Never an error of ours.

use std::collections::BTreeSet;

use colonnade_api::routes;
use colonnade_testkit::{
    Client, Method, TestServer,
    openapi::{Operation, SPEC},
};
use serde_json::{Map, Value, json};

use crate::conformance::shape;

const V3: &str = "/_matrix/client/v3";
const NUL: &str = "a\0b";

/// What paths and query strings are filled with.
struct World {
    user: Client,
    room: String,
    event: String,
}

impl World {
    async fn new(server: &TestServer, number: usize) -> Self {
        let user = server.user(&format!("user{number}")).await;
        let made = user.post(&format!("{V3}/createRoom"), json!({})).await.ok();
        let room = made["room_id"].as_str().unwrap().to_owned();
        let send = format!("{V3}/rooms/{room}/send/m.room.message/first");
        let sent = user.put(&send, json!({ "msgtype": "m.text", "body": "hello" })).await.ok();
        let backup = json!({
            "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
            "auth_data": { "public_key": "abc", "signatures": {} },
        });
        user.post(&format!("{V3}/room_keys/version"), backup).await.ok();
        Self { user, room, event: sent["event_id"].as_str().unwrap().to_owned() }
    }

    /// The requests of an operation, each with U+0000 in one parameter or in one string of the body.
    fn requests(&self, operation: &Operation) -> Vec<(String, Option<Value>)> {
        let example = operation.example.as_ref();
        let example = example.map_or_else(|| json!({}), |example| self.of_today(example));
        let body = operation.takes_json.then_some(&example);
        let parameters = operation.parameters.iter().map(|parameter| parameter.name.as_str());
        let paths = parameters.map(|name| (self.path(operation, Some(name)), body.cloned()));
        let mut requests: Vec<_> = paths.collect();
        if operation.takes_json {
            let path = self.path(operation, None);
            let mut bodies = spoilt(&example);
            for text in &operation.texts {
                let plain = self.of_today(&json!(text.values.first().map_or("x", String::as_str)));
                let plain = plain.as_str().unwrap_or_default();
                bodies.push(text.put(&example, &format!("{plain}\0")));
            }
            requests.extend(bodies.into_iter().map(|body| (path.clone(), Some(body))));
        }
        requests
    }

    /// Tells whether the user is still logged in, in the room, and has a backup.
    async fn is_whole(&self) -> bool {
        let room = format!("{V3}/rooms/{}/joined_members", self.room);
        for path in [room, format!("{V3}/room_keys/version/1")] {
            if self.user.get(&path).await.status != 200 {
                return false;
            }
        }
        true
    }

    fn value(&self, name: &str, example: Option<&Value>) -> String {
        match name {
            "roomId" | "roomIdOrAlias" => self.room.clone(),
            "eventId" => self.event.clone(),
            "userId" => self.user.user_id.clone(),
            "deviceId" => self.user.device_id.clone(),
            "version" => "1".to_owned(),
            "receiptType" => "m.read".to_owned(),
            _ => match example {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(values)) => values.first().map_or("x".to_owned(), plain),
                Some(value) => value.to_string(),
                None => "x".to_owned(),
            },
        }
    }

    /// An example of the specification with ids as they are today. Its own name servers, and what has
    /// such an id is refused for its form, wherever U+0000 stands in it.
    fn of_today(&self, example: &Value) -> Value {
        match example {
            Value::String(text) if text.starts_with('$') => json!(self.event),
            Value::String(text) if text.starts_with('!') => json!(self.room),
            Value::Array(items) => items.iter().map(|item| self.of_today(item)).collect(),
            Value::Object(members) => {
                members.iter().map(|(key, value)| (key.clone(), self.of_today(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// The path of an operation, with U+0000 in the value of one parameter.
    fn path(&self, operation: &Operation, spoilt: Option<&str>) -> String {
        let (mut path, mut query) = (operation.path.clone(), Vec::new());
        for parameter in &operation.parameters {
            let is_spoilt = spoilt == Some(&parameter.name);
            let mut value = encoded(&self.value(&parameter.name, parameter.example.as_ref()));
            if is_spoilt {
                value.push_str("%00x");
            }
            match parameter.place.as_str() {
                "path" => path = path.replace(&format!("{{{}}}", parameter.name), &value),
                "query" if parameter.required || is_spoilt => {
                    query.push(format!("{}={value}", parameter.name));
                }
                _ => {}
            }
        }
        if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Every variant of a value with U+0000 in one of its strings or keys, also deep inside.
fn spoilt(value: &Value) -> Vec<Value> {
    match value {
        Value::String(text) => vec![json!(format!("{text}\0")), json!(format!("\0{text}"))],
        Value::Array(items) => {
            let places = items.iter().enumerate().take(2);
            let all = places.flat_map(|(place, item)| {
                spoilt(item).into_iter().map(move |worse| (place, worse))
            });
            let all = all.map(|(place, worse)| {
                let mut items = items.clone();
                items[place] = worse;
                Value::Array(items)
            });
            all.collect()
        }
        Value::Object(members) => {
            let mut all = Vec::new();
            for (key, value) in members {
                for worse in spoilt(value) {
                    let mut members = members.clone();
                    members.insert(key.clone(), worse);
                    all.push(Value::Object(members));
                }
                let renamed: Map<String, Value> = members
                    .iter()
                    .map(|(name, value)| match name == key {
                        true => (format!("{name}\0"), value.clone()),
                        false => (name.clone(), value.clone()),
                    })
                    .collect();
                all.push(Value::Object(renamed));
            }
            all
        }
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn u0000_in_any_string_of_any_request_is_never_an_error_of_ours() {
    let server = TestServer::start().await;
    let mounted: BTreeSet<(String, String)> = routes::all()
        .routes
        .iter()
        .map(|route| (route.method.to_string(), shape(&route.path)))
        .collect();
    let mut world = World::new(&server, 0).await;
    let (mut problems, mut asked) = (Vec::new(), 0);
    for operation in &SPEC.operations {
        if !mounted.contains(&(operation.method.clone(), shape(&operation.path))) {
            continue;
        }
        let method: Method = operation.method.parse().unwrap();
        for number in 0..world.requests(operation).len() {
            asked += 1;
            // Those of the world as it is now: the last one may have ended it.
            let (path, body) = world.requests(operation).swap_remove(number);
            let headers = [("content-type", "application/json")];
            let bytes = body.as_ref().map(|body| body.to_string().into_bytes());
            let sent = world.user.raw(method.clone(), &path, &headers, bytes.unwrap_or_default());
            let answer = sent.await;
            let status = answer.status;
            if status >= 500 && answer.answer().body["errcode"] != "M_NOT_YET_UPLOADED" {
                problems.push(format!("{} {path}: {status} for {body:?}", operation.id));
            }
            if [200, 401].contains(&status) && !world.is_whole().await {
                world = World::new(&server, asked).await;
            }
        }
    }
    assert!(asked > 600, "{asked}");
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
    // And nothing of it keeps anybody from reading on.
    world.user.get(&format!("{V3}/sync")).await.ok();
}

#[tokio::test]
async fn names_ids_and_keys_with_u0000_are_refused() {
    let server = TestServer::start().await;
    let World { user, room, event } = World::new(&server, 0).await;
    let in_room = format!("{V3}/rooms/{room}");
    let session = json!({ "first_message_index": 0, "forwarded_count": 0, "is_verified": false,
        "session_data": {} });
    let key = json!({ "key": "x", "signatures": {} });
    let nul_key = format!("signed_curve25519:{NUL}");
    let auth = json!({ "type": "m.login.password", "session": NUL, "password": "x" });
    let cases = [
        (Method::POST, format!("{in_room}/receipt/m.read/{event}"), json!({ "thread_id": NUL })),
        (Method::POST, format!("{in_room}/read_markers"), json!({ "m.fully_read": "$a\0" })),
        (
            Method::POST,
            format!("{V3}/createRoom"),
            json!({ "initial_state": [{ "type": NUL, "content": {} }] }),
        ),
        (
            Method::POST,
            format!("{V3}/createRoom"),
            json!({ "initial_state": [{ "type": "m.x", "state_key": NUL, "content": {} }] }),
        ),
        (Method::POST, format!("{V3}/publicRooms"), json!({ "filter": { "room_types": [NUL] } })),
        (
            Method::POST,
            format!("{V3}/keys/claim"),
            json!({ "one_time_keys": { (&user.user_id): { (&user.device_id): NUL } } }),
        ),
        (Method::POST, format!("{V3}/keys/upload"), json!({ "one_time_keys": { (nul_key): key } })),
        (
            Method::POST,
            format!("{V3}/room_keys/version"),
            json!({ "algorithm": NUL, "auth_data": {} }),
        ),
        (
            Method::PUT,
            format!("{V3}/room_keys/keys?version=1"),
            json!({ "rooms": { "!r:x": { "sessions": { NUL: session } } } }),
        ),
        (Method::PUT, format!("{V3}/devices/{}", user.device_id), json!({ "display_name": NUL })),
        (Method::PUT, format!("{in_room}/send/m.x/%00"), json!({})),
        (Method::PUT, format!("{in_room}/state/m.x/%00"), json!({})),
        (Method::POST, format!("{V3}/delete_devices"), json!({ "devices": [NUL], "auth": auth })),
    ];
    for (method, path, body) in cases {
        let answer = user.send(method, &path, Some(body.to_string().into_bytes())).await;
        assert!(
            (400..500).contains(&answer.status),
            "{path} {body}: {} {}",
            answer.status,
            answer.body
        );
    }
}

#[tokio::test]
async fn the_content_of_an_event_may_hold_u0000() {
    let server = TestServer::start().await;
    let World { user, room, event } = World::new(&server, 0).await;
    let in_room = format!("{V3}/rooms/{room}");
    for (n, content) in [
        json!({ "body": NUL, "msgtype": "m.text" }),
        json!({ NUL: NUL }),
        json!({ "m.relates_to": { "event_id": "$a\0", "rel_type": "m.thread" } }),
        json!({ "m.relates_to": { "event_id": event, "rel_type": NUL } }),
        json!({ "m.relates_to": { "event_id": event, "rel_type": "m.annotation", "key": NUL } }),
        json!({ "m.mentions": { "user_ids": ["@a\0:localhost"] } }),
        json!({ "redacts": "$a\0" }),
    ]
    .into_iter()
    .enumerate()
    {
        for kind in ["m.room.message", "m.room.redaction", "m.reaction"] {
            let path = format!("{in_room}/send/{kind}/n{n}");
            let sent = user.put(&path, content.clone()).await;
            assert!(sent.status == 200 || sent.status == 400, "{kind} {content}: {}", sent.body);
            if let Some(id) = sent.body["event_id"].as_str() {
                let read = user.get(&format!("{in_room}/event/{id}")).await.ok();
                assert_eq!(read["content"], content);
            }
        }
    }
    for kind in ["m.room.name", "m.room.topic", "m.room.avatar", "m.x"] {
        let content = json!({ "name": NUL, "topic": NUL, "url": NUL });
        user.put(&format!("{in_room}/state/{kind}"), content.clone()).await.ok();
        assert_eq!(user.get(&format!("{in_room}/state/{kind}")).await.ok(), content);
    }
}

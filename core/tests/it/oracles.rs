//! What a stranger learns of a room by asking: nothing. Whatever operation of the specification names a
//! room by its id is asked of a private room of somebody else and of one that does not exist, and has
//! to say the same.

use colonnade_api::routes;
use colonnade_testkit::{
    Client, Method, TestServer,
    openapi::{Operation, SPEC},
};
use serde_json::{Value, json};

use crate::conformance::{encoded, shape};

const V3: &str = "/_matrix/client/v3";

/// A room that a stranger asks of, and what is in it.
#[derive(Clone)]
struct Target {
    room: String,
    event: String,
    owner: String,
}

impl Target {
    /// The path of an operation on this room; `None` when it names no room.
    fn path(&self, operation: &Operation, stranger: &Client) -> Option<String> {
        let (mut path, mut query) = (operation.path.clone(), Vec::new());
        let is_own = path.contains("/user/{userId}/rooms/");
        for parameter in &operation.parameters {
            let value = match parameter.name.as_str() {
                "roomId" | "roomIdOrAlias" => self.room.clone(),
                "eventId" => self.event.clone(),
                "userId" if is_own => stranger.user_id.clone(),
                "userId" => self.owner.clone(),
                _ => match &parameter.example {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Array(values)) => values[0].as_str().unwrap_or("x").to_owned(),
                    Some(value) => value.to_string(),
                    None => "x".to_owned(),
                },
            };
            let value = encoded(&value);
            match parameter.place.as_str() {
                "path" => path = path.replace(&format!("{{{}}}", parameter.name), &value),
                "query" if parameter.required => query.push(format!("{}={value}", parameter.name)),
                _ => {}
            }
        }
        // Backups name rooms, but only as their owner does.
        let names_a_room =
            operation.path.contains("{roomId") && !operation.path.contains("/room_keys/");
        names_a_room
            .then(|| if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) })
    }

    /// The body of an operation: the specification's example, about this room.
    fn body(&self, operation: &Operation) -> Vec<u8> {
        if !operation.takes_json {
            return Vec::new();
        }
        let mut body = operation.example.clone().unwrap_or_else(|| json!({}));
        for (key, value) in [("room_id", &self.room), ("user_id", &self.owner)] {
            if body.get(key).is_some() {
                body[key] = json!(value);
            }
        }
        for key in ["m.fully_read", "m.read", "m.read.private"] {
            if body.get(key).is_some() {
                body[key] = json!(self.event);
            }
        }
        if operation.path.ends_with("/upgrade") {
            body = json!({ "new_version": "11" });
        }
        body.to_string().into_bytes()
    }

    async fn ask(&self, operation: &Operation, stranger: &Client) -> Option<(u16, String)> {
        let path = self.path(operation, stranger)?;
        let method: Method = operation.method.parse().unwrap();
        let headers = [("content-type", "application/json")];
        let sent = stranger.raw(method, &path, &headers, self.body(operation)).await;
        let body = String::from_utf8_lossy(&sent.bytes).into_owned();
        let body = body.replace(&self.room, "ROOM").replace(&self.event, "EVENT");
        Some((sent.status, body))
    }
}

async fn private_room(owner: &Client) -> Target {
    let room = owner.post(&format!("{V3}/createRoom"), json!({})).await.ok();
    let room = room["room_id"].as_str().unwrap().to_owned();
    let send = format!("{V3}/rooms/{room}/send/m.room.message/1");
    let event = owner.put(&send, json!({ "msgtype": "m.text", "body": "secret" })).await.ok();
    let event = event["event_id"].as_str().unwrap().to_owned();
    Target { room, event, owner: owner.user_id.clone() }
}

fn other_id(id: &str) -> String {
    // As many letters, and of the same alphabet: only the database tells the two apart.
    let flip = |c: char| if c == 'A' { 'B' } else { 'A' };
    let last = id.chars().last().map(flip).unwrap();
    format!("{}{last}", &id[..id.len() - 1])
}

#[tokio::test]
async fn a_stranger_cannot_tell_a_private_room_from_none() {
    let server = TestServer::start().await;
    let (alice, mallory) = (server.user("alice").await, server.user("mallory").await);
    let real = private_room(&alice).await;
    let none = Target { room: other_id(&real.room), event: other_id(&real.event), ..real.clone() };
    let is_mounted = |operation: &&Operation| {
        routes::all().routes.iter().any(|route| {
            route.method.as_str() == operation.method
                && shape(&route.path) == shape(&operation.path)
        })
    };
    let (mut asked, mut differing) = (0, Vec::new());
    for operation in SPEC.operations.iter().filter(is_mounted) {
        let Some(of_real) = real.ask(operation, &mallory).await else { continue };
        let of_none = none.ask(operation, &mallory).await.unwrap();
        asked += 1;
        let Operation { id, .. } = operation;
        if of_real != of_none {
            differing.push(format!("{id}: {of_real:?} of a room, {of_none:?} of none"));
        }
        // Whoever is refused for his request was not asked about the room.
        if of_real.0 == 400 && id != "inviteBy3PID" {
            differing.push(format!("{id} refused the request: {}", of_real.1));
        }
    }
    assert!(differing.is_empty(), "\n{}", differing.join("\n"));
    assert!(asked > 40, "{asked}");
}

#[tokio::test]
async fn an_alias_cannot_be_pointed_to_a_room_to_find_out_whether_it_exists() {
    let server = TestServer::start().await;
    let (alice, mallory) = (server.user("alice").await, server.user("mallory").await);
    let real = private_room(&alice).await;
    let path = format!("{V3}/directory/room/%23x:localhost");
    let of_real = mallory.put(&path, json!({ "room_id": real.room })).await;
    let of_none = mallory.put(&path, json!({ "room_id": other_id(&real.room) })).await;
    assert_eq!((of_real.status, &of_real.body), (of_none.status, &of_none.body));
    of_real.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_member_of_one_room_cannot_tell_events_of_others_from_none() {
    let server = TestServer::start().await;
    let (alice, mallory) = (server.user("alice").await, server.user("mallory").await);
    let (real, own) = (private_room(&alice).await, private_room(&mallory).await);
    let rooms = format!("{V3}/rooms/{}", own.room);
    for (method, path, body) in [
        (Method::GET, format!("{rooms}/event/EVENT"), json!(null)),
        (Method::GET, format!("{rooms}/context/EVENT"), json!(null)),
        (
            Method::GET,
            format!("/_matrix/client/v1/rooms/{}/relations/EVENT", own.room),
            json!(null),
        ),
        (Method::PUT, format!("{rooms}/redact/EVENT/TXN"), json!({})),
        (Method::POST, format!("{rooms}/report/EVENT"), json!({ "reason": "x" })),
        (Method::POST, format!("{rooms}/receipt/m.read/EVENT"), json!({})),
        (Method::POST, format!("{rooms}/read_markers"), json!({ "m.fully_read": "EVENT" })),
    ] {
        let mut answers = Vec::new();
        for event in [real.event.clone(), other_id(&real.event)] {
            let path = path.replace("EVENT", &event).replace("TXN", &event[1..]);
            let body = (!body.is_null()).then(|| body.to_string().replace("EVENT", &event));
            let answer = mallory.send(method.clone(), &path, body.map(String::into_bytes)).await;
            answers.push((answer.status, answer.body.to_string().replace(&event, "EVENT")));
        }
        assert_eq!(answers[0], answers[1], "{method} {path}");
    }
}

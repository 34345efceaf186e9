//! Inside a room, an event one may not see is as good as none: whatever takes an event's id says the same
//! of it, of an event of another room, and of an id that nobody has.

use colonnade_api::routes;
use colonnade_testkit::{
    Client, Method, TestServer,
    openapi::{Operation, SPEC},
};
use serde_json::{Value, json};

use crate::{
    conformance::{encoded, shape},
    sync::{create, encode, in_room, say, send},
};

/// A room in which somebody with all rights may not see an event.
struct World {
    room: String,
    /// An event of the room from before he came.
    hidden: String,
    /// A reply of before he came, which hangs on a thread.
    hidden_reply: String,
    /// An event of another room.
    foreign: String,
    /// An id that nobody has.
    unknown: String,
}

impl World {
    async fn new(owner: &Client, late: &Client) -> Self {
        let state = json!([{
            "type": "m.room.history_visibility", "content": { "history_visibility": "joined" },
        }]);
        let room = create(owner, json!({ "initial_state": state, "preset": "public_chat" })).await;
        let hidden = say(owner, &room, "secret").await;
        let relation = json!({ "rel_type": "m.thread", "event_id": hidden });
        let reply = json!({ "msgtype": "m.text", "body": "reply", "m.relates_to": relation });
        let hidden_reply = send(owner, &room, "m.room.message", reply).await;
        late.post(&in_room(&room, "join"), json!({})).await.ok();
        let mut levels = owner.get(&in_room(&room, "state/m.room.power_levels")).await.ok();
        levels["users"][&late.user_id] = json!(50);
        owner.put(&in_room(&room, "state/m.room.power_levels"), levels).await.ok();
        let other = create(owner, json!({})).await;
        let foreign = say(owner, &other, "elsewhere").await;
        let unknown = format!("{}{}", &hidden[..hidden.len() - 6], "AAAAAA");
        Self { room, hidden, hidden_reply, foreign, unknown }
    }

    fn ids(&self) -> [(&'static str, &str); 4] {
        [
            ("an unknown event", &self.unknown),
            ("an event of another room", &self.foreign),
            ("a hidden event", &self.hidden),
            ("a hidden reply", &self.hidden_reply),
        ]
    }
}

/// What an answer tells: its status, and of an error all of it.
fn reply(status: u16, body: &Value, id: &str) -> (u16, String) {
    let text = if status == 200 { String::new() } else { body.to_string() };
    (status, text.replace(id, "EVENT"))
}

fn path_of(operation: &Operation, room: &str, event: &str, txn: usize) -> String {
    let (mut path, mut query) = (operation.path.clone(), Vec::new());
    for parameter in &operation.parameters {
        let value = match (parameter.name.as_str(), &parameter.example) {
            ("roomId", _) => room.to_owned(),
            ("eventId", _) => event.to_owned(),
            ("txnId", _) => format!("t{txn}"),
            (_, Some(Value::String(text))) => text.clone(),
            (_, Some(value)) => value.to_string(),
            (_, None) => "x".to_owned(),
        };
        match parameter.place.as_str() {
            "path" => path = path.replace(&format!("{{{}}}", parameter.name), &encoded(&value)),
            "query" if parameter.required => query.push(format!("{}={value}", parameter.name)),
            _ => {}
        }
    }
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

const MARKERS: [&str; 3] = ["m.fully_read", "m.read", "m.read.private"];

/// The bodies of an operation that name the event; one without it where the path names it.
fn bodies_of(operation: &Operation, event: &str) -> Vec<Value> {
    if operation.path.ends_with("/read_markers") {
        return MARKERS.iter().map(|marker| json!({ *marker: event })).collect();
    }
    if operation.path.contains("/receipt/") {
        return vec![json!({})];
    }
    vec![operation.example.clone().unwrap_or_else(|| json!({}))]
}

#[tokio::test]
async fn whatever_takes_an_event_id_says_the_same_of_a_hidden_event_and_of_none() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let world = World::new(&alice, &bob).await;
    let takes_an_event = |operation: &&Operation| {
        let path = &operation.path;
        let names = path.contains("{roomId}")
            && (path.contains("{eventId}") || path.ends_with("/read_markers"));
        names
            && routes::all().routes.iter().any(|route| {
                route.method.as_str() == operation.method
                    && shape(&route.path) == shape(&operation.path)
            })
    };
    let (mut asked, mut txn, mut differ) = (Vec::new(), 0, Vec::new());
    for operation in SPEC.operations.iter().filter(takes_an_event) {
        asked.push(operation.id.as_str());
        let method: Method = operation.method.parse().unwrap();
        let mut of_none: Vec<(u16, String)> = Vec::new();
        for (what, id) in world.ids() {
            for (n, body) in bodies_of(operation, id).into_iter().enumerate() {
                txn += 1;
                let path = path_of(operation, &world.room, id, txn);
                let body = operation.takes_json.then(|| body.to_string().into_bytes());
                let answer = bob.send(method.clone(), &path, body).await;
                let reply = reply(answer.status, &answer.body, id);
                if id == world.unknown {
                    assert_eq!(reply.0, 404, "{} {path}", operation.id);
                    of_none.push(reply);
                } else if reply != of_none[n] {
                    let id = &operation.id;
                    differ.push(format!("{id}: {reply:?} of {what}, {:?} of none", of_none[n]));
                }
            }
        }
    }
    assert!(differ.is_empty(), "\n{}", differ.join("\n"));
    assert!(asked.len() >= 9, "{asked:?}");
}

#[tokio::test]
async fn what_is_sent_about_a_hidden_event_is_answered_as_of_none() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let world = World::new(&alice, &bob).await;
    let mut txn = 0;
    for (rel_type, key) in [
        ("m.thread", None),
        ("m.reference", None),
        ("m.replace", None),
        ("m.annotation", Some("+")),
        // Once more, which is once too often on an event one sees.
        ("m.annotation", Some("+")),
    ] {
        for (what, id) in world.ids() {
            txn += 1;
            let path = in_room(&world.room, &format!("send/m.room.message/s{txn}"));
            let mut relation = json!({ "rel_type": rel_type, "event_id": id });
            if let Some(key) = key {
                relation["key"] = json!(key);
            }
            let content = json!({ "msgtype": "m.text", "body": "x", "m.relates_to": relation });
            let sent = bob.put(&path, content).await;
            assert_eq!(sent.status, 200, "{rel_type} to {what}: {}", sent.body);
            // What he sent tells him nothing either.
            let own = encode(sent.body["event_id"].as_str().unwrap());
            let receipt = in_room(&world.room, &format!("receipt/m.read/{own}"));
            let in_thread = bob.post(&receipt, json!({ "thread_id": id })).await;
            let in_main = bob.post(&receipt, json!({ "thread_id": "main" })).await;
            let wanted = if rel_type == "m.thread" { 200 } else { 400 };
            assert_eq!(in_thread.status, wanted, "{rel_type} to {what}: {}", in_thread.body);
            assert_eq!(in_main.status, 200, "{rel_type} to {what}: {}", in_main.body);
        }
    }
    let mut refused = Vec::new();
    for (_, id) in world.ids() {
        txn += 1;
        let path = in_room(&world.room, &format!("send/m.room.redaction/s{txn}"));
        let answer = bob.put(&path, json!({ "redacts": id })).await;
        refused.push(reply(answer.status, &answer.body, id));
    }
    assert!(refused.iter().all(|reply| *reply == refused[0] && reply.0 == 404), "{refused:?}");
}

#[tokio::test]
async fn a_thread_from_before_one_came_goes_on() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let world = World::new(&alice, &bob).await;
    let relation = json!({ "rel_type": "m.thread", "event_id": world.hidden });
    let reply = json!({ "msgtype": "m.text", "body": "new", "m.relates_to": relation });
    let of_alice = send(&alice, &world.room, "m.room.message", reply.clone()).await;
    send(&bob, &world.room, "m.room.message", reply).await;
    let event = in_room(&world.room, &format!("event/{}", encode(&world.hidden)));
    let root = alice.get(&event).await.ok();
    assert_eq!(root["unsigned"]["m.relations"]["m.thread"]["count"], 3);
    let receipt = in_room(&world.room, &format!("receipt/m.read/{}", encode(&of_alice)));
    bob.post(&receipt, json!({ "thread_id": world.hidden })).await.ok();
    bob.post(&receipt, json!({ "thread_id": world.foreign })).await.err(400, "M_INVALID_PARAM");
    // Who sees the root is told where the reply is.
    alice.post(&receipt, json!({ "thread_id": "main" })).await.err(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn a_search_with_surroundings_goes_on_in_pages() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let mut said = Vec::new();
    for n in 0..25 {
        said.push(say(&alice, &room, &format!("needle {n}")).await);
    }
    let search = async |context: bool, from: Option<&str>| {
        let mut events = json!({ "search_term": "needle", "order_by": "recent",
            "filter": { "limit": 100 } });
        if context {
            events["event_context"] = json!({ "before_limit": 1, "after_limit": 1 });
        }
        let from = from.map(|from| format!("?next_batch={from}")).unwrap_or_default();
        let body = json!({ "search_categories": { "room_events": events } });
        let answer = alice.post(&format!("/_matrix/client/v3/search{from}"), body).await.ok();
        answer["search_categories"]["room_events"].clone()
    };
    let ids = |answer: &Value| {
        let results = answer["results"].as_array().unwrap();
        results.iter().map(|one| one["result"]["event_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&search(false, None).await).len(), 25);
    let first = search(true, None).await;
    assert_eq!((ids(&first).len(), &first["count"]), (20, &json!(25)));
    assert_eq!(first["results"][1]["context"]["events_after"].as_array().unwrap().len(), 1);
    let rest = search(true, first["next_batch"].as_str()).await;
    let mut all = ids(&first);
    all.extend(ids(&rest));
    all.reverse();
    assert_eq!(all, said.iter().map(|id| json!(id)).collect::<Vec<_>>());
}

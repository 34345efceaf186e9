//! A server that signs whatever a test wants: its requests and events are proved to be its own, and what it answers is
//! the test's to say. Its user is in rooms of the first server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use colonnade_federation::transport::authorization::Signed;
use colonnade_model::{
    Clock as _, SystemClock, SystemRandom,
    ruma::{
        CanonicalJsonObject, RoomVersionId,
        serde::{Base64, base64::Standard},
        server_name,
        signatures::{Ed25519KeyPair, sign_json},
    },
};
use colonnade_rules::event::{Event, complete};
use colonnade_testkit::{
    Answer, Client, Method, TestServer,
    federation::Federation,
    peer::{self, Asked, Peer, PeerAddress},
};
use serde_json::{Value, json};

use super::rooms::encode;

/// Its name.
pub(super) const NAME: &str = "evil";
/// Its user.
pub(super) const EVE: &str = "@eve:evil";
/// How long its keys are valid unless a test says otherwise, in milliseconds.
const VALID_MS: i64 = 24 * 60 * 60 * 1_000;

/// What it answers: bytes by how the path after `/_matrix/federation/` begins.
type Answers = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A server that lies.
pub(super) struct Villain {
    key: Ed25519KeyPair,
    answers: Answers,
    peer: Peer,
}

impl Villain {
    /// Starts it beside so many servers, which know where it is.
    pub(super) async fn beside(count: usize) -> (Federation, Self) {
        let place = PeerAddress::at("127.0.0.12", NAME).await;
        let servers = Federation::with(count, |_, settings| place.tell(settings)).await;
        let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned()).unwrap();
        let answers = Answers::default();
        let said = Arc::clone(&answers);
        let peer = place.answer(&servers.authority, move |asked: &Asked| {
            let path = asked.target.trim_start_matches("/_matrix/federation/");
            let said = said.lock().unwrap();
            let found = said.iter().find(|(begin, _)| path.starts_with(begin.as_str()));
            found.map_or_else(
                || peer::error("404 Not Found", "M_UNRECOGNIZED"),
                |(_, bytes)| bytes.clone(),
            )
        });
        let villain = Self { key, answers, peer };
        villain.publish_keys(now_ms() + VALID_MS);
        (servers, villain)
    }

    /// Says until when its key is valid, in milliseconds since 1970.
    pub(super) fn publish_keys(&self, valid_until_ms: i64) {
        let public = Base64::<Standard, _>::new(self.key.public_key().to_vec()).encode();
        let object = json!({
            "server_name": NAME, "valid_until_ts": valid_until_ms, "old_verify_keys": {},
            "verify_keys": { "ed25519:1": { "key": public } },
        });
        let mut object: CanonicalJsonObject = serde_json::from_value(object).unwrap();
        sign_json(NAME, &self.key, &mut object).unwrap();
        self.say("/_matrix/key/v2/server", &serde_json::to_value(object).unwrap());
    }

    /// Says what it answers to paths that begin so.
    pub(super) fn say(&self, path: &str, body: &Value) {
        let headers = "content-type: application/json\r\n";
        self.say_bytes(path, peer::ok(headers, body.to_string().as_bytes()));
    }

    /// Says it byte for byte.
    pub(super) fn say_bytes(&self, path: &str, bytes: Vec<u8>) {
        self.answers.lock().unwrap().insert(path.to_owned(), bytes);
    }

    /// Returns how often it was asked for paths that begin so.
    pub(super) fn asked(&self, path: &str) -> usize {
        let begins = |asked: &&Asked| {
            asked.target.trim_start_matches("/_matrix/federation/").starts_with(path)
        };
        self.peer.asked().iter().filter(begins).count()
    }

    /// Asks a server for something, with its signature.
    pub(super) async fn ask(
        &self,
        server: &TestServer,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let path = format!("/_matrix/federation/{path}");
        let content = body.map(Value::to_string);
        let signed = Signed {
            method: method.as_str(),
            uri: &path,
            origin: server_name!("evil"),
            destination: &server.name,
            content: content.as_deref(),
        };
        let header = signed.sign(&self.key).unwrap().to_header();
        let headers = [("authorization", header.as_str()), ("content-type", "application/json")];
        let body = content.unwrap_or_default().into_bytes();
        server.anonymous().raw(method, &path, &headers, body).await.answer()
    }

    /// Hashes and signs an event.
    pub(super) fn event(&self, version: &RoomVersionId, event: Value) -> Event {
        let rules = version.rules().unwrap();
        let object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
        complete(object, server_name!("evil"), &self.key, &rules, &SystemRandom).unwrap()
    }

    /// Lets its user join a room, and returns the join.
    pub(super) async fn join(
        &self,
        server: &TestServer,
        room: &str,
        version: &RoomVersionId,
    ) -> Event {
        let (room, eve) = (encode(room), EVE.replace('@', "%40").replace(':', "%3A"));
        let make = format!("v1/make_join/{room}/{eve}?ver={version}");
        let mut made = self.ask(server, Method::GET, &make, None).await.ok()["event"].take();
        made["origin_server_ts"] = now_ms().into();
        let join = self.event(version, made);
        let send = format!("v2/send_join/{room}/{}", encode(join.event_id().as_str()));
        self.ask(server, Method::PUT, &send, Some(&pdu(&join))).await.ok();
        join
    }

    /// Sends a transaction of PDUs and returns what became of each, by its id.
    pub(super) async fn send(&self, server: &TestServer, txn_id: &str, pdus: &[Value]) -> Value {
        let body =
            json!({ "origin": NAME, "origin_server_ts": now_ms(), "pdus": pdus, "edus": [] });
        let path = format!("v1/send/{txn_id}");
        self.ask(server, Method::PUT, &path, Some(&body)).await.ok()["pdus"].take()
    }
}

/// Returns an event as it is sent.
pub(super) fn pdu(event: &Event) -> Value {
    serde_json::from_str(event.json()).unwrap()
}

/// Returns the time, in milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    SystemClock.now_ms()
}

/// Returns the id of a room's event of a type, as a member sees its state.
pub(super) async fn state_id(client: &Client, room: &str, kind: &str, key: &str) -> String {
    let state = client.get(&super::rooms::path(room, "state")).await.ok();
    let state = state.as_array().cloned().unwrap_or_default();
    let found = state.iter().find(|event| event["type"] == kind && event["state_key"] == key);
    found.and_then(|event| event["event_id"].as_str()).unwrap_or_default().to_owned()
}

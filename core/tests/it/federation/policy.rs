//! Rooms with a policy server: what it agrees to, refuses, never answers and lies about.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use colonnade_model::ruma::{
    CanonicalJsonObject, RoomId, RoomVersionId, UserId,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, KeyPair as _},
};
use colonnade_rooms::{
    incoming::Incoming,
    proposal::{content, member, state_event},
    remote::Outcome,
};
use colonnade_rules::event::{Event, EventObject, complete};
use colonnade_testkit::{
    Client, TestServer,
    federation::Federation,
    peer::{self, Asked, Peer, PeerAddress},
};
use serde_json::{Value, json};

use super::rooms::{create, join, path, say, sees, texts};

/// What the policy server does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Agrees,
    Refuses,
    Hangs,
    /// Signs with another key than the room names.
    Lies,
    /// Says yes, and signs nothing.
    Shrugs,
}

const MOODS: [Mood; 5] = [Mood::Agrees, Mood::Refuses, Mood::Hangs, Mood::Lies, Mood::Shrugs];

/// A policy server named `ps`, in a mood that the test changes.
struct PolicyServer {
    mood: Arc<AtomicUsize>,
    public_key: String,
    peer: Peer,
}

fn key(name: &str) -> Ed25519KeyPair {
    Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), name.to_owned()).unwrap()
}

impl PolicyServer {
    fn open(address: PeerAddress, servers: &Federation) -> Self {
        let (key, other) = (key("policy_server"), key("policy_server"));
        let public_key = Base64::<Standard, _>::new(key.public_key().to_vec()).encode();
        let mood = Arc::new(AtomicUsize::new(0));
        let now = Arc::clone(&mood);
        let peer = address.answer(&servers.authority, move |asked: &Asked| {
            if !asked.target.starts_with("/_matrix/policy/v1/sign") {
                return peer::ok("content-type: application/json\r\n", b"{}");
            }
            let key = match MOODS[now.load(Ordering::SeqCst)] {
                Mood::Agrees => &key,
                Mood::Lies => &other,
                Mood::Refuses => return peer::error("400 Bad Request", "M_FORBIDDEN"),
                Mood::Hangs => return Vec::new(),
                Mood::Shrugs => return peer::ok("content-type: application/json\r\n", b"{}"),
            };
            let rules = RoomVersionId::V11.rules().unwrap();
            let object = EventObject::parse(std::str::from_utf8(&asked.body).unwrap(), &rules);
            let signed = object.unwrap().signed_json(&rules).unwrap();
            let signature = key.sign(signed.as_bytes()).base64();
            let answer = json!({ "ps": { "ed25519:policy_server": signature } }).to_string();
            peer::ok("content-type: application/json\r\n", answer.as_bytes())
        });
        Self { mood, public_key, peer }
    }

    fn is(&self, mood: Mood) {
        let place = MOODS.iter().position(|one| *one == mood).unwrap();
        self.mood.store(place, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        let asked = self.peer.asked().into_iter();
        asked.filter(|asked| asked.target.starts_with("/_matrix/policy/v1/sign")).count()
    }

    fn named(&self) -> Value {
        json!({ "via": "ps", "public_keys": { "ed25519": self.public_key } })
    }
}

/// Two servers and a policy server that both find.
async fn start() -> (Federation, PolicyServer) {
    let address = PeerAddress::at("127.0.0.13", "ps").await;
    let servers = Federation::with(2, |_, settings| address.tell(settings)).await;
    let policy_server = PolicyServer::open(address, &servers);
    (servers, policy_server)
}

/// Makes an event of a user of another server, as that server would; it is signed by nobody who counts here.
async fn made(at: &TestServer, room: &str, user: &str, kind: &str, text: Value) -> Event {
    let rooms = &at.inside().await.services.rooms;
    let room = rooms.find(&RoomId::parse(room).unwrap()).await.unwrap().unwrap();
    let user = UserId::parse(user).unwrap();
    let proposal = match kind {
        "m.room.member" => member(&user, &user, content(text).unwrap()),
        _ => state_event(&user, kind, "x".to_owned(), content(text).unwrap()),
    };
    let template: CanonicalJsonObject = rooms.template(&room, proposal).await.unwrap();
    let random = &*rooms.context().random;
    complete(template, user.server_name(), &key("1"), &room.rules, random).unwrap()
}

async fn received(at: &TestServer, room: &str, event: Event) -> Outcome {
    let rooms = &at.inside().await.services.rooms;
    let room = rooms.find(&RoomId::parse(room).unwrap()).await.unwrap().unwrap();
    rooms.receive(&room, Incoming::following(event)).await.unwrap().1
}

/// A room of both servers with the policy server in it, which it names.
async fn room(servers: &Federation, policy_server: &PolicyServer, users: [&Client; 2]) -> String {
    let [alice, bob] = users;
    // Whoever is in may set any state, for events of other servers in the test.
    let levels = json!({ "state_default": 0, "events": { "m.room.policy": 50 } });
    let request = json!({ "preset": "public_chat", "room_version": "11",
        "power_level_content_override": levels });
    let room = create(alice, request).await;
    join(bob, &room, "hs1").await;
    let joined = json!({ "membership": "join" });
    let event = made(&servers[0], &room, "@mod:ps", "m.room.member", joined).await;
    assert_eq!(received(&servers[0], &room, event.clone()).await, Outcome::Accepted);
    assert_eq!(received(&servers[1], &room, event).await, Outcome::Accepted);
    assert_eq!(policy_server.asked(), 0, "no room names it yet");
    alice.put(&path(&room, "state/m.room.policy"), policy_server.named()).await.ok();
    super::rooms::until(|| async {
        bob.get(&path(&room, "state/m.room.policy")).await.status == 200
    })
    .await;
    assert_eq!(policy_server.asked(), 0, "its own name needs no word of it");
    room
}

async fn sent(client: &Client, room: &str, text: &str) -> colonnade_testkit::Answer {
    let address = path(room, &format!("send/m.room.message/{text}"));
    client.put(&address, json!({ "msgtype": "m.text", "body": text })).await
}

#[tokio::test]
async fn what_the_policy_server_signs_is_sent_and_asked_about_once() {
    let (servers, policy_server) = start().await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = room(&servers, &policy_server, [&alice, &bob]).await;
    let id = say(&alice, &room, "hello").await;
    sees(&bob, &room, "hello").await;
    assert_eq!(policy_server.asked(), 1, "the other server takes the signature's word");
    let again = sent(&alice, &room, "hello").await.ok();
    assert_eq!((again["event_id"].as_str(), policy_server.asked()), (Some(&*id), 1), "the same");
    // State and memberships, too.
    alice.put(&path(&room, "state/m.room.topic"), json!({ "topic": "t" })).await.ok();
    let carol = servers[0].user("carol").await;
    join(&carol, &room, "hs1").await;
    assert_eq!(policy_server.asked(), 3);
    alice.put(&path(&room, "state/m.room.topic"), json!({ "topic": "t" })).await.ok();
    assert_eq!(policy_server.asked(), 3, "nothing changes, so nothing is sent");
    say(&bob, &room, "hello yourself").await;
    sees(&alice, &room, "hello yourself").await;
    assert_eq!(policy_server.asked(), 4);
}

#[tokio::test]
async fn what_the_policy_server_does_not_sign_is_not_sent() {
    let (servers, policy_server) = start().await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = room(&servers, &policy_server, [&alice, &bob]).await;
    for (mood, status, errcode) in [
        (Mood::Refuses, 400, "M_FORBIDDEN"),
        (Mood::Lies, 403, "M_FORBIDDEN"),
        (Mood::Shrugs, 403, "M_FORBIDDEN"),
        (Mood::Hangs, 503, "M_UNKNOWN"),
    ] {
        policy_server.is(mood);
        sent(&alice, &room, &format!("refused-{status}")).await.err(status, errcode);
    }
    // Whoever may not send is not asked about.
    let before = policy_server.asked();
    let eve = servers[0].user("eve").await;
    sent(&eve, &room, "outside").await.err(403, "M_FORBIDDEN");
    assert_eq!(policy_server.asked(), before);
    // A server that is down keeps nobody from taking its name away.
    alice.put(&path(&room, "state/m.room.policy"), json!({})).await.ok();
    say(&alice, &room, "free").await;
    sees(&bob, &room, "free").await;
    assert_eq!(texts(&bob, &room).await, ["free"]);
    assert_eq!(policy_server.asked(), before);
}

#[tokio::test]
async fn what_comes_without_its_signature_is_asked_about_and_hidden_when_refused() {
    let (servers, policy_server) = start().await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = room(&servers, &policy_server, [&alice, &bob]).await;
    let state = |number: usize| json!({ "number": number });
    for (number, (mood, outcome)) in [
        (Mood::Agrees, Outcome::Accepted),
        (Mood::Refuses, Outcome::SoftFailed),
        (Mood::Lies, Outcome::SoftFailed),
        (Mood::Shrugs, Outcome::SoftFailed),
        (Mood::Hangs, Outcome::SoftFailed),
    ]
    .into_iter()
    .enumerate()
    {
        policy_server.is(mood);
        let before = policy_server.asked();
        let event = made(&servers[0], &room, "@bob:hs2", "m.test", state(number)).await;
        let id = event.event_id().to_owned();
        assert_eq!(received(&servers[0], &room, event).await, outcome, "{number}");
        assert_eq!(policy_server.asked(), before + 1);
        let rooms = &servers[0].inside().await.services.rooms;
        let stored = rooms.events_by_ids(&[id]).await.unwrap().pop().unwrap();
        let signed = stored.event.json().contains("ed25519:policy_server");
        assert_eq!(signed, outcome == Outcome::Accepted, "its signature goes with the event");
        let seen = alice.get(&path(&room, "state/m.test/x")).await.ok();
        assert_eq!(seen["number"], 0, "only the first is in the state");
    }
}

#[tokio::test]
async fn a_policy_server_without_a_member_is_not_asked() {
    let (servers, policy_server) = start().await;
    let alice = servers[0].user("alice").await;
    let room = create(&alice, json!({ "preset": "public_chat", "room_version": "11" })).await;
    policy_server.is(Mood::Refuses);
    alice.put(&path(&room, "state/m.room.policy"), policy_server.named()).await.ok();
    say(&alice, &room, "nobody is asked").await;
    // This server itself is none, whatever a room says.
    let own = json!({ "via": "hs1", "public_keys": { "ed25519": policy_server.public_key } });
    alice.put(&path(&room, "state/m.room.policy"), own).await.ok();
    say(&alice, &room, "nor here").await;
    assert_eq!(policy_server.asked(), 0);
}

#[tokio::test]
async fn the_key_of_a_policy_server_is_told_if_there_is_one() {
    const PATH: &str = "/.well-known/matrix/policy_server";
    let key = "6yhHGKhCiXTSEN2ksjV7kX_N6rBQZ3Xb-M7LlC6NS-s";
    let servers = Federation::with(2, |number, settings| {
        settings.federation.well_known_policy_key = (number == 0).then(|| key.to_owned());
    })
    .await;
    let told = servers[0].anonymous().get(PATH).await.ok();
    assert_eq!(told, json!({ "public_keys": { "ed25519": key } }));
    servers[1].anonymous().get(PATH).await.err(404, "M_NOT_FOUND");
}

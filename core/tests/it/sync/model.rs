//! Replaying syncs gives the room: random users come, go, speak, redact and change state; their
//! clients sync now and then with small timelines; after every sync what a client has put together
//! is compared with a small model of what happened.

use std::collections::{BTreeMap, BTreeSet};

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use super::{create, encode, filter, in_room, list, say, sync_with, token};

/// Steps of one run; each is a request or two.
const STEPS: usize = 160;
const USERS: usize = 4;
const ROOMS_MAX: usize = 4;

/// A small generator (splitmix64): the same seed gives the same run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

/// What really happened in a room.
#[derive(Debug, Clone, Default, PartialEq)]
struct Truth {
    topic: Option<String>,
    members: BTreeMap<String, String>,
    /// Event ids and what they say; `None` once redacted.
    messages: Vec<(String, Option<String>)>,
}

/// What a client has put together of a room.
#[derive(Debug, Clone, Default)]
struct Known {
    topic: Option<String>,
    members: BTreeMap<String, String>,
    /// Since the last gap.
    messages: Vec<(String, Option<String>)>,
    /// How many messages there were at the last sync.
    seen: usize,
}

impl Known {
    fn apply_state(&mut self, event: &Value) {
        let content = &event["content"];
        match event["type"].as_str().unwrap() {
            "m.room.topic" => self.topic = content["topic"].as_str().map(str::to_owned),
            "m.room.member" => {
                let user = event["state_key"].as_str().unwrap().to_owned();
                let membership = content["membership"].as_str().unwrap().to_owned();
                self.members.insert(user, membership);
            }
            _ => {}
        }
    }

    fn apply_timeline(&mut self, event: &Value, with_state: bool) {
        if event.get("state_key").is_some() {
            if with_state {
                self.apply_state(event);
            }
            return;
        }
        match event["type"].as_str().unwrap() {
            "m.room.message" => {
                let id = event["event_id"].as_str().unwrap().to_owned();
                let body = event["content"]["body"].as_str().map(str::to_owned);
                let twice = self.messages.iter().any(|(known, _)| *known == id);
                assert!(!twice, "{id} was told twice");
                self.messages.push((id, body));
            }
            "m.room.redaction" => {
                let target = event["redacts"].as_str().unwrap();
                let target = self.messages.iter_mut().find(|(id, _)| id == target);
                if let Some((_, body)) = target {
                    *body = None;
                }
            }
            _ => {}
        }
    }
}

/// A client and what it has put together.
struct Device {
    client: Client,
    since: Option<String>,
    rooms: BTreeMap<String, Known>,
    invites: BTreeSet<String>,
}

impl Device {
    /// Syncs, puts the answer on top of what is known, and compares.
    async fn sync(&mut self, truth: &BTreeMap<String, Truth>, limit: usize, after: bool) {
        let query = filter(json!({ "room": { "timeline": { "limit": limit } } }));
        let more = format!("{query}&use_state_after={after}");
        let answer = sync_with(&self.client, self.since.as_deref(), &more).await;
        let again = sync_with(&self.client, self.since.as_deref(), &more).await;
        assert_eq!(ids(&answer), ids(&again), "the same token gives the same answer");
        let rooms = &answer["rooms"];
        for (room, said) in rooms["join"].as_object().into_iter().flatten() {
            self.invites.remove(room);
            let known = self.rooms.entry(room.clone()).or_default();
            let timeline = &said["timeline"];
            let limited = timeline["limited"].as_bool().unwrap();
            if limited {
                known.messages.clear();
            }
            let before = known.messages.len();
            let part = if after { "state_after" } else { "state" };
            for event in list(&said[part]["events"]) {
                known.apply_state(&event);
            }
            for event in list(&timeline["events"]) {
                known.apply_timeline(&event, !after);
            }
            let shown = known.messages.len() - before;
            let happened = truth[room].messages.len() - known.seen;
            assert!(limited || shown == happened, "{shown} of {happened} told without a gap");
            let count = truth[room].members.values().filter(|is| *is == "join").count();
            let summed = &said["summary"]["m.joined_member_count"];
            assert!(summed.is_null() || *summed == json!(count), "{summed} of {count}");
        }
        for room in rooms["leave"].as_object().into_iter().flatten().map(|(room, _)| room) {
            self.rooms.remove(room);
            self.invites.remove(room);
        }
        let invites = rooms["invite"].as_object().into_iter().flatten();
        for room in invites.map(|(room, _)| room) {
            self.rooms.remove(room);
            self.invites.insert(room.clone());
        }
        self.since = Some(token(&answer));
        self.compare(truth);
    }

    fn compare(&mut self, truth: &BTreeMap<String, Truth>) {
        let mine = |membership: &str| -> BTreeSet<String> {
            let own = truth.iter().filter(|(_, room)| {
                room.members.get(&self.client.user_id).is_some_and(|is| is == membership)
            });
            own.map(|(room, _)| room.clone()).collect()
        };
        let joined: BTreeSet<String> = self.rooms.keys().cloned().collect();
        assert_eq!(joined, mine("join"), "joined rooms of {}", self.client.user_id);
        assert_eq!(self.invites, mine("invite"), "invites of {}", self.client.user_id);
        for (room, known) in &mut self.rooms {
            let truth = &truth[room];
            assert_eq!(known.topic, truth.topic, "topic of {room}");
            assert_eq!(known.members, truth.members, "members of {room}");
            assert!(
                truth.messages.ends_with(&known.messages),
                "messages of {room}: {:?} are not the end of {:?}",
                known.messages,
                truth.messages
            );
            known.seen = truth.messages.len();
        }
    }
}

/// The event ids of every room in an answer, to compare two answers.
fn ids(answer: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for kind in ["join", "leave"] {
        for (room, said) in answer["rooms"][kind].as_object().into_iter().flatten() {
            for part in ["state", "state_after", "timeline"] {
                let events = list(&said[part]["events"]);
                let mut ids: Vec<String> = events
                    .iter()
                    .map(|event| format!("{kind} {room} {part} {}", event["event_id"]))
                    .collect();
                if part != "timeline" {
                    ids.sort();
                }
                found.extend(ids);
            }
        }
    }
    found
}

/// Something a user does in a room, with what it makes true.
async fn act(dice: &mut Dice, clients: &[Client], truth: &mut BTreeMap<String, Truth>) {
    let actor = &clients[dice.roll(clients.len())];
    let names: Vec<String> = truth.keys().cloned().collect();
    if names.is_empty() || (names.len() < ROOMS_MAX && dice.roll(20) == 0) {
        let room = create(actor, json!({ "preset": "public_chat" })).await;
        let members = BTreeMap::from([(actor.user_id.clone(), "join".to_owned())]);
        truth.insert(room, Truth { members, ..Truth::default() });
        return;
    }
    let name = &names[dice.roll(names.len())];
    let room = truth.get_mut(name).unwrap();
    let is = room.members.get(&actor.user_id).cloned().unwrap_or_default();
    let other = &clients[dice.roll(clients.len())].user_id;
    let other_is = room.members.get(other).cloned().unwrap_or_default();
    match (is.as_str(), dice.roll(12)) {
        ("join", 0) => {
            actor.post(&in_room(name, "leave"), json!({})).await.ok();
            room.members.insert(actor.user_id.clone(), "leave".to_owned());
        }
        ("join", 1) if other_is != "join" && other_is != "invite" => {
            let invite = json!({ "user_id": other });
            if actor.post(&in_room(name, "invite"), invite).await.status == 200 {
                room.members.insert(other.clone(), "invite".to_owned());
            }
        }
        ("join", 2 | 3) => {
            let topic = format!("topic {}", dice.roll(1000));
            let path = in_room(name, "state/m.room.topic");
            // Only its creator may in such a room.
            if actor.put(&path, json!({ "topic": topic })).await.status == 200 {
                room.topic = Some(topic);
            }
        }
        ("join", 4) if !room.messages.is_empty() => {
            let at = dice.roll(room.messages.len());
            let target = room.messages[at].0.clone();
            let path =
                in_room(name, &format!("redact/{}/r{}", encode(&target), dice.roll(1 << 40)));
            if actor.put(&path, json!({})).await.status == 200
                && is_gone(actor, name, &target).await
            {
                room.messages[at].1 = None;
            }
        }
        ("join", _) => {
            let body = format!("message {}", dice.roll(1 << 30));
            let id = say(actor, name, &body).await;
            room.messages.push((id, Some(body)));
        }
        ("invite", 0) => {
            actor.post(&in_room(name, "leave"), json!({})).await.ok();
            room.members.insert(actor.user_id.clone(), "leave".to_owned());
        }
        (_, 0..=5) => {
            actor.post(&in_room(name, "join"), json!({})).await.ok();
            room.members.insert(actor.user_id.clone(), "join".to_owned());
        }
        _ => {}
    }
}

/// Asks whether a redaction took: who may redact is not what this model is about.
async fn is_gone(client: &Client, room: &str, event: &str) -> bool {
    let path = in_room(room, &format!("event/{}", encode(event)));
    client.get(&path).await.ok()["content"].get("body").is_none()
}

#[expect(clippy::print_stdout, reason = "a seed that fails must be known")]
async fn run(seed: u64) {
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let server = TestServer::start().await;
    let mut clients = Vec::new();
    for n in 0..USERS {
        clients.push(server.user(&format!("user{n}")).await);
    }
    let mut devices = Vec::new();
    for client in &clients {
        for client in [client.clone(), client.another_device().await] {
            let (rooms, invites) = Default::default();
            devices.push(Device { client, since: None, rooms, invites });
        }
    }
    let mut truth = BTreeMap::new();
    for _ in 0..STEPS {
        act(&mut dice, &clients, &mut truth).await;
        if dice.roll(3) == 0 {
            let device = dice.roll(devices.len());
            let limit = [1, 2, 5, 50][dice.roll(4)];
            // A client keeps to one way of being told the state.
            devices[device].sync(&truth, limit, device % 2 == 1).await;
        }
    }
    for (n, device) in devices.iter_mut().enumerate() {
        device.sync(&truth, 5, n % 2 == 1).await;
    }
}

#[tokio::test]
async fn replayed_syncs_give_the_room() {
    let seeds = std::env::var_os("COLONNADE_SEED");
    let seeds = seeds.and_then(|seed| seed.to_str().and_then(|seed| seed.parse().ok()));
    for seed in seeds.map_or_else(|| vec![1, 2, 3], |seed| vec![seed]) {
        run(seed).await;
    }
}

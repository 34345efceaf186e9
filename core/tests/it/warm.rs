//! What is in memory of rooms says the same as the database, and spares asking it.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

const V3: &str = "/_matrix/client/v3";
/// Rounds of a random history, each with a process that knows nothing at first.
const ROUNDS: u64 = 6;
/// What happens in a round.
const STEPS: usize = 40;

/// Numbers that are the same in every run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    pub(crate) fn one_of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.roll(things.len())]
    }
}

/// Two rooms, who is in them, and what was said there.
pub(crate) struct World {
    pub(crate) people: Vec<Client>,
    pub(crate) rooms: Vec<String>,
    events: Vec<Vec<String>>,
    pub(crate) dice: Dice,
    said: usize,
}

impl World {
    pub(crate) async fn new(server: &TestServer, seed: u64) -> Self {
        let mut people = Vec::new();
        for name in ["ann", "bob", "cid", "dot"] {
            people.push(server.user(name).await);
        }
        let mut rooms = Vec::new();
        for _ in 0..2 {
            let request = json!({ "preset": "public_chat" });
            let room = people[0].post(&format!("{V3}/createRoom"), request).await.ok();
            let room = room["room_id"].as_str().unwrap().to_owned();
            for person in &people[1..] {
                person.post(&format!("{V3}/join/{room}"), json!({})).await.ok();
            }
            rooms.push(room);
        }
        // One wants to hear of a word, one of nothing in a room.
        let keyword =
            json!({ "pattern": "cake", "actions": ["notify", { "set_tweak": "highlight" }] });
        people[1].put(&format!("{V3}/pushrules/global/content/cake"), keyword).await.ok();
        let mute = format!("{V3}/pushrules/global/room/{}", rooms[0]);
        people[2].put(&mute, json!({ "actions": [] })).await.ok();
        Self { people, rooms, events: vec![Vec::new(), Vec::new()], dice: Dice(seed), said: 0 }
    }

    /// Does something, which may be refused.
    pub(crate) async fn step(&mut self) {
        let at = self.dice.roll(2);
        let (room, who) = (self.rooms[at].clone(), self.dice.roll(self.people.len()));
        let person = self.people[who].clone();
        let target = match self.events[at].is_empty() {
            true => "$none".to_owned(),
            false => {
                let last = self.events[at].len().saturating_sub(12);
                self.dice.one_of(&self.events[at][last..]).clone()
            }
        };
        let relation = |kind: &str| json!({ "rel_type": kind, "event_id": target });
        let mentioned = self.dice.one_of(&self.people).user_id.clone();
        match self.dice.roll(16) {
            0..4 => self.say(at, &person, json!({ "body": "hello" })).await,
            4 => self.say(at, &person, json!({ "body": "there is cake" })).await,
            5 => {
                let mentions = json!({ "user_ids": [mentioned], "room": who == 0 });
                self.say(at, &person, json!({ "body": "you", "m.mentions": mentions })).await;
            }
            6 | 7 => {
                let content = json!({ "body": "answer", "m.relates_to": relation("m.thread") });
                self.say(at, &person, content).await;
            }
            8 => {
                let edit = json!({
                    "body": "* other", "m.new_content": { "msgtype": "m.text", "body": "other" },
                    "m.relates_to": relation("m.replace"),
                });
                self.say(at, &person, edit).await;
            }
            9 => {
                self.said += 1;
                let path = format!("{V3}/rooms/{room}/redact/{target}/{}", self.said);
                self.people[0].put(&path, json!({})).await;
            }
            10..13 => {
                let kind = *self.dice.one_of(&["m.read", "m.read.private"]);
                let thread = *self.dice.one_of(&["", "main", "root"]);
                let body = match thread {
                    "" => json!({}),
                    "main" => json!({ "thread_id": "main" }),
                    _ => json!({ "thread_id": target }),
                };
                let path = format!("{V3}/rooms/{room}/receipt/{kind}/{target}");
                person.post(&path, body).await;
            }
            13 => {
                self.said += 1;
                let topic = json!({ "topic": format!("topic {}", self.said) });
                person.put(&format!("{V3}/rooms/{room}/state/m.room.topic"), topic).await;
            }
            14 => {
                self.said += 1;
                let path = format!("{V3}/profile/{}/displayname", person.user_id);
                person.put(&path, json!({ "displayname": format!("name {}", self.said) })).await;
            }
            _ if who != 0 => {
                person.post(&format!("{V3}/rooms/{room}/leave"), json!({})).await;
                self.say(at, &self.people[0].clone(), json!({ "body": "gone" })).await;
                person.post(&format!("{V3}/join/{room}"), json!({})).await;
            }
            _ => {}
        }
    }

    async fn say(&mut self, at: usize, person: &Client, mut content: Value) {
        self.said += 1;
        content["msgtype"] = json!("m.text");
        let path = format!("{V3}/rooms/{}/send/m.room.message/{}", self.rooms[at], self.said);
        let answer = person.put(&path, content).await;
        if let Some(event) = answer.body["event_id"].as_str() {
            self.events[at].push(event.to_owned());
        }
    }
}

async fn sync(client: &Client, since: &str, filter: &str) -> Value {
    client.get(&format!("{V3}/sync?timeout=0&since={since}&filter={filter}")).await.ok()
}

/// Takes out of an answer what is not the same twice: ages, tokens of the moment, and what only the process
/// knows that was asked.
fn lasting(mut answer: Value) -> Value {
    fn without_ages(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("age");
                fields.values_mut().for_each(without_ages);
            }
            Value::Array(values) => {
                values.retain(|value| value["type"] != "m.typing");
                values.iter_mut().for_each(without_ages);
            }
            _ => {}
        }
    }
    for key in ["next_batch", "presence"] {
        answer.as_object_mut().unwrap().remove(key);
    }
    without_ages(&mut answer);
    answer
}

/// A process that has seen a history answers as one that has just begun.
#[tokio::test]
async fn what_is_in_memory_says_the_same_as_the_database() {
    let filters = [
        "%7B%7D",
        "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22unread_thread_notifications%22%3Atrue%7D%7D%7D",
        "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A3%7D%7D%7D",
    ];
    let mut server = TestServer::start().await;
    let mut world = World::new(&server, 7).await;
    for round in 0..ROUNDS {
        let mut tokens: Vec<Vec<String>> = Vec::new();
        for person in &world.people {
            let path = format!("{V3}/sync?timeout=0");
            let answer = person.get(&path).await.ok();
            tokens.push(vec![answer["next_batch"].as_str().unwrap().to_owned()]);
        }
        for _ in 0..STEPS {
            world.step().await;
            let who = world.dice.roll(world.people.len());
            let since = tokens[who].last().unwrap().clone();
            let filter = *world.dice.one_of(&filters);
            let answer = sync(&world.people[who], &since, filter).await;
            tokens[who].push(answer["next_batch"].as_str().unwrap().to_owned());
        }
        let mut warm = Vec::new();
        for (person, tokens) in world.people.iter().zip(&tokens) {
            let older = world.dice.one_of(tokens);
            for since in [older, tokens.last().unwrap()] {
                for filter in filters {
                    let answer = lasting(sync(person, since, filter).await);
                    warm.push((person.clone(), since.clone(), filter, answer));
                }
            }
        }
        server = server.restart().await;
        for person in &mut world.people {
            *person = person.at(&server.url);
        }
        for (person, since, filter, expected) in warm {
            let cold = lasting(sync(&person.at(&server.url), &since, filter).await);
            assert_eq!(cold, expected, "round {round}, {}: warm is on the right", person.user_id);
        }
    }
}

/// A word in a room is read once by a process, however many hear it there.
#[tokio::test]
async fn a_word_costs_those_who_hear_it_no_query() {
    let server = TestServer::start().await;
    if server.has_gateway() || server.takes_turns() {
        return;
    }
    let world = World::new(&server, 1).await;
    let (ann, hearers) = world.people.split_first().unwrap();
    let room = &world.rooms[1];
    let mut tokens = Vec::new();
    for person in hearers {
        let answer = person.get(&format!("{V3}/sync?timeout=0")).await.ok();
        tokens.push(answer["next_batch"].as_str().unwrap().to_owned());
    }
    let db = server.inside().await.services.context.db.clone();
    let mut costs = Vec::new();
    for round in 0..8 {
        let path = format!("{V3}/rooms/{room}/send/m.room.message/{round}");
        ann.put(&path, json!({ "msgtype": "m.text", "body": "hello" })).await.ok();
        let mut cost = Vec::new();
        for (person, token) in hearers.iter().zip(&mut tokens) {
            let before = db.stats().reads();
            let answer = sync(person, token, "%7B%7D").await;
            cost.push(db.stats().reads() - before);
            let told = &answer["rooms"]["join"][room]["timeline"]["events"];
            assert_eq!(told.as_array().unwrap().len(), 1, "{answer}");
            answer["next_batch"].as_str().unwrap().clone_into(token);
        }
        costs.push(cost);
    }
    // Something else may happen in the process now and then.
    let first = costs.iter().skip(1).map(|cost| cost[0]).min().unwrap();
    let others = costs.iter().skip(1).map(|cost| cost[1..].iter().sum::<u64>()).min().unwrap();
    assert_eq!(others, 0, "{costs:?}");
    assert!(first <= 6, "the first reads for all: {costs:?}");
}

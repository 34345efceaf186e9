//! kill -9 of either of two servers at any moment of what they do together: a join, an invitation, transactions, and
//! catching up after an outage. After the restart the room is whole or the join never happened, what was
//! acknowledged reaches the other side once and in its order, and nobody has to do anything but try again.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    authority::Authority,
    process::{LONG, Server},
};

/// Rounds of each kind: the moments are drawn anew in every run.
const ROUNDS: u64 = 8;
/// The latest moment of a kill after something began, in milliseconds: a join takes less on most machines.
const KILL_MS_MAX: u64 = 250;
/// Messages of a round.
const SAID: usize = 20;

/// A server that is killed and comes back.
struct Site {
    folder: tempfile::TempDir,
    settings: Vec<String>,
    name: String,
    server: Option<Server>,
    http: reqwest::Client,
    token: String,
    user: String,
}

impl Site {
    async fn open(authority: &Authority, host: &str, user: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issued = authority.certificate(&format!("IP:{host}"));
        for (from, to) in
            [(&issued.certificate, "c.pem"), (&issued.key, "k.pem"), (&authority.file(), "ca.pem")]
        {
            std::fs::copy(from, folder.path().join(to)).unwrap();
        }
        let socket = std::net::TcpListener::bind((host, 0)).unwrap();
        let name = format!("{host}:{}", socket.local_addr().unwrap().port());
        drop(socket);
        let settings = vec![
            format!("server_name=\"{name}\""),
            format!("federation.listen=[{{ bind: \"{name}\", certificate: c.pem, key: k.pem }}]"),
            "federation.trusted_ca_files=[ca.pem]".to_owned(),
            "federation.retry_min_ms=100".to_owned(),
            "federation.retry_max_ms=500".to_owned(),
            "outgoing.allowed_ranges=[\"127.0.0.0/8\"]".to_owned(),
            "registration.open=true".to_owned(),
            "rate_limits.enabled=false".to_owned(),
        ];
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (token, server) = (String::new(), None);
        let user_id = format!("@{user}:{name}");
        let mut site = Self { folder, settings, name, server, http, token, user: user_id };
        site.start();
        let account = json!({ "username": user, "password": "a long secret", "auth": { "type": "m.login.dummy" } });
        let made = site.ask("POST", "register", Some(account)).await.expect("an account");
        site.token = made["access_token"].as_str().unwrap().to_owned();
        site
    }

    fn start(&mut self) {
        let arguments: Vec<&str> =
            self.settings.iter().flat_map(|setting| ["--set", setting]).collect();
        self.server = Some(Server::start_with(self.folder.path(), &arguments));
    }

    fn kill(&mut self) {
        self.server.take().expect("a server that runs").kill();
    }

    /// Asks it something; `None` when it does not answer, or not with success.
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Option<Value> {
        let url = format!("{}/_matrix/client/v3/{path}", self.server.as_ref()?.url);
        ask(&self.http, &url, &self.token, method, body).await
    }

    /// Begins to ask it something; whether it is answered is nobody's business.
    fn begin(&self, method: &'static str, path: &str, body: Value) {
        let url = format!("{}/_matrix/client/v3/{path}", self.server.as_ref().unwrap().url);
        let (http, token) = (self.http.clone(), self.token.clone());
        tokio::spawn(async move { ask(&http, &url, &token, method, Some(body)).await });
    }

    async fn create(&self, preset: &str) -> String {
        let made = self.ask("POST", "createRoom", Some(json!({ "preset": preset }))).await;
        made.expect("a room")["room_id"].as_str().unwrap().to_owned()
    }

    /// Says something until it is acknowledged.
    async fn say(&self, room: &str, text: &str) {
        let path = format!("rooms/{room}/send/m.room.message/{}", text.replace(' ', "-"));
        let body = json!({ "msgtype": "m.text", "body": text });
        until("it is acknowledged", async || {
            self.ask("PUT", &path, Some(body.clone())).await.is_some()
        })
        .await;
    }

    /// The texts of a room, oldest first.
    async fn texts(&self, room: &str) -> Vec<String> {
        let page = self.ask("GET", &format!("rooms/{room}/messages?dir=b&limit=200"), None).await;
        let page = page.unwrap_or_default();
        let events = page["chunk"].as_array().into_iter().flatten().rev();
        events.filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned())).collect()
    }

    async fn member(&self, room: &str, user: &str) -> String {
        let state =
            self.ask("GET", &format!("rooms/{room}/state/m.room.member/{user}"), None).await;
        state.unwrap_or_default()["membership"].as_str().unwrap_or("none").to_owned()
    }

    /// The types and state keys of a room's state.
    async fn kinds(&self, room: &str) -> BTreeSet<String> {
        let state = self.ask("GET", &format!("rooms/{room}/state"), None).await.expect("a state");
        let events = state.as_array().unwrap().iter();
        events.map(|event| format!("{} {}", event["type"], event["state_key"])).collect()
    }

    /// What it holds its own user for in a room.
    async fn own(&self, room: &str) -> &'static str {
        let synced = self.ask("GET", "sync?timeout=0", None).await.unwrap_or_default();
        let is = |kind: &str| synced["rooms"][kind][room].is_object();
        ["join", "invite"].into_iter().find(|kind| is(kind)).unwrap_or("none")
    }

    async fn join(&self, room: &str, over: &Self) {
        let path = format!("join/{room}?via={}", over.name);
        until("he is in", async || self.ask("POST", &path, Some(json!({}))).await.is_some()).await;
    }
}

async fn ask(
    http: &reqwest::Client,
    url: &str,
    token: &str,
    method: &str,
    body: Option<Value>,
) -> Option<Value> {
    let mut request = http.request(method.parse().unwrap(), url).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.ok()?;
    let is_right = answer.status().is_success();
    answer.json().await.ok().filter(|_| is_right)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < LONG, "it never came to be: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Two servers, and moments by chance.
struct World {
    sites: [Site; 2],
    moments: u64,
}

impl World {
    async fn open(hosts: [&str; 2]) -> Self {
        let authority = Authority::new();
        let sites = [
            Site::open(&authority, hosts[0], "alice").await,
            Site::open(&authority, hosts[1], "bob").await,
        ];
        let seed = u64::from(std::process::id());
        println!("seed {seed}");
        Self { sites, moments: seed }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.moments = self
            .moments
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.moments >> 33) % bound
    }

    /// Kills one of them after a while, and starts it again.
    async fn kill_one(&mut self, which: usize) {
        let after = self.below(KILL_MS_MAX);
        tokio::time::sleep(Duration::from_millis(after)).await;
        self.sites[which].kill();
        self.sites[which].start();
    }

    /// Both are in a room, and hear each other.
    async fn is_whole(&self, room: &str) {
        let [alice, bob] = &self.sites;
        until("the host has the guest", async || alice.member(room, &bob.user).await == "join")
            .await;
        assert_eq!(bob.member(room, &alice.user).await, "join", "the guest has all members");
        assert_eq!(bob.kinds(room).await, alice.kinds(room).await, "the guest has the whole state");
        for (from, to) in [(alice, bob), (bob, alice)] {
            let text = format!("from {}", from.user);
            from.say(room, &text).await;
            until("it is heard", async || to.texts(room).await.contains(&text)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_is_whole_or_never_happened() {
    let mut world = World::open(["127.0.0.21", "127.0.0.22"]).await;
    for round in 0..ROUNDS {
        let room = world.sites[0].create("public_chat").await;
        let path = format!("join/{room}?via={}", world.sites[0].name);
        world.sites[1].begin("POST", &path, json!({}));
        world.kill_one(usize::from(round % 2 == 0)).await;
        let [alice, bob] = &world.sites;
        match bob.own(&room).await {
            "join" => {}
            _ => bob.join(&room, alice).await,
        }
        world.is_whole(&room).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_is_there_on_both_sides_or_can_be_sent_again() {
    let mut world = World::open(["127.0.0.23", "127.0.0.24"]).await;
    for round in 0..ROUNDS {
        let room = world.sites[0].create("private_chat").await;
        let body = json!({ "user_id": world.sites[1].user });
        let path = format!("rooms/{room}/invite");
        world.sites[0].begin("POST", &path, body.clone());
        world.kill_one(usize::from(round % 2 == 0)).await;
        let [alice, bob] = &world.sites;
        if alice.member(&room, &bob.user).await == "invite" {
            assert_eq!(bob.own(&room).await, "invite", "the host counts on it");
        } else {
            until("he is invited", async || {
                alice.ask("POST", &path, Some(body.clone())).await.is_some()
            })
            .await;
        }
        bob.join(&room, alice).await;
        world.is_whole(&room).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_arrives_once_whoever_is_killed_meanwhile() {
    let mut world = World::open(["127.0.0.25", "127.0.0.26"]).await;
    let room = world.sites[0].create("public_chat").await;
    world.sites[1].join(&room, &world.sites[0]).await;
    world.is_whole(&room).await;
    let mut said = Vec::new();
    for round in 0..ROUNDS {
        // Every other round the other server is away from the beginning, and killed while it catches up.
        let is_catching_up = round % 4 >= 2;
        if is_catching_up {
            world.sites[1].kill();
        }
        for number in 0..SAID {
            let text = format!("round {round} number {number}");
            world.sites[0].say(&room, &text).await;
            said.push(text);
        }
        if is_catching_up {
            world.sites[1].start();
        }
        world.kill_one(usize::from(round % 2 == 0)).await;
    }
    let [_, bob] = &world.sites;
    let ours = async || -> Vec<String> {
        let texts = bob.texts(&room).await;
        texts.into_iter().filter(|text| text.starts_with("round")).collect()
    };
    until("all of it is heard", async || ours().await.len() >= said.len()).await;
    assert_eq!(ours().await, said, "each once, in the order they were sent");
    world.is_whole(&room).await;
}

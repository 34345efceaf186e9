//! Clients that write. Measures nothing but how much was accepted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use colonnade_testkit::Client;
use serde_json::json;
use tokio::task::JoinSet;

/// How long a request may take before it is made again.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One user with rooms.
#[derive(Clone)]
pub(crate) struct Load {
    http: reqwest::Client,
    token: String,
    /// The base of each room's sending path.
    rooms: Vec<String>,
    /// Transaction ids until now.
    transactions: Arc<AtomicU64>,
}

impl Load {
    /// Registers a user and makes rooms.
    pub(crate) async fn new(url: &str, rooms: usize) -> Self {
        let user = Client::register(url, "load").await;
        let mut paths = Vec::new();
        for _ in 0..rooms {
            let made = user.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
            let room = made["room_id"].as_str().unwrap();
            paths.push(format!("{url}/_matrix/client/v3/rooms/{room}/send/m.room.message"));
        }
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().unwrap();
        let token = user.token.unwrap();
        Self { http, token, rooms: paths, transactions: Arc::default() }
    }

    /// Each room's next event as soon as the one before is accepted, for so long; returns how many
    /// events were accepted.
    pub(crate) async fn at_once(&self, span: Duration) -> u64 {
        let until = Instant::now() + span;
        let mut senders = JoinSet::new();
        for room in 0..self.rooms.len() {
            let load = self.clone();
            senders.spawn(async move {
                let mut accepted = 0;
                while Instant::now() < until {
                    assert!(load.send(room).await, "a quiet cluster accepts everything");
                    accepted += 1;
                }
                accepted
            });
        }
        senders.join_all().await.into_iter().sum()
    }

    /// So many events a second, room after room, whether answers come or not.
    pub(crate) async fn steady(&self, per_second: u32, span: Duration) {
        let mut due = tokio::time::interval(Duration::from_secs(1) / per_second);
        let count = (span.as_secs_f64() * f64::from(per_second)) as usize;
        let mut sends = JoinSet::new();
        for n in 0..count {
            due.tick().await;
            let load = self.clone();
            sends.spawn(async move { load.send(n % load.rooms.len()).await });
        }
        assert!(sends.join_all().await.into_iter().all(|accepted| accepted), "all are accepted");
    }

    /// Writes to a room until that is accepted, the same request again after a failure; returns
    /// when it was.
    pub(crate) async fn insist(&self, room: usize) -> Instant {
        let id = self.transactions.fetch_add(1, Ordering::Relaxed);
        while !self.send_as(room, id).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Instant::now()
    }

    async fn send(&self, room: usize) -> bool {
        self.send_as(room, self.transactions.fetch_add(1, Ordering::Relaxed)).await
    }

    async fn send_as(&self, room: usize, id: u64) -> bool {
        let request = self.http.put(format!("{}/{id}", self.rooms[room])).bearer_auth(&self.token);
        let body = json!({ "msgtype": "m.text", "body": "Is the lecture in hall 4 today?" });
        let answer = request.json(&body).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    }
}

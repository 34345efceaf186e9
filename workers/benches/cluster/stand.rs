//! The processes under measurement: a gateway before workers of every pool, over SQLite or over a
//! PostgreSQL and a Redis of their own. Measures nothing.

use std::time::Duration;

use colonnade_testkit::Client;
use colonnade_testkit_postgres::Cluster;
use colonnade_testkit_redis as redis;
use serde_json::Value;

use super::cpu::Used;
use crate::process::Server;

/// How long a cluster may take to settle.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the data is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Store {
    Sqlite,
    Postgres,
}

/// Processes that run.
pub(crate) struct Stand {
    pub(crate) gateway: Server,
    pub(crate) workers: Vec<Server>,
    settings: Vec<String>,
    folder: tempfile::TempDir,
    _redis: redis::Server,
}

impl Stand {
    /// Starts so many workers, which all serve everything, and waits until each has its share.
    pub(crate) async fn new(store: Store, count: usize) -> Self {
        let (folder, redis) = (tempfile::tempdir().unwrap(), redis::Server::start());
        let mut settings = vec!["registration.open=true".to_owned()];
        settings.push("rate_limits.enabled=false".to_owned());
        settings.push("logging.level=warn".to_owned());
        if store == Store::Postgres {
            settings.push(format!("database={}", Cluster::shared().database()));
            settings.push(format!("redis.url={}", redis.url()));
        }
        let first = worker(folder.path(), "all", &settings);
        let routes = colonnade_gateway::BUNDLED_ROUTES
            .replace("127.0.0.1:8008", "127.0.0.1:0")
            .replace("127.0.0.1:8009", "127.0.0.1:0")
            .replace("workers: []", &format!("discover: true, workers: [\"{}\"]", address(&first)));
        let path = folder.path().join("routes.yaml");
        std::fs::write(&path, routes).unwrap();
        let gateway = Server::gateway(folder.path(), &path);
        let mut stand = Self { gateway, workers: vec![first], settings, folder, _redis: redis };
        for _ in 1..count {
            stand.workers.push(stand.another_worker("all"));
        }
        if store == Store::Postgres {
            stand.settle(count).await;
        }
        stand
    }

    /// Starts a worker of other pools beside those that are measured.
    pub(crate) fn another_worker(&self, pools: &str) -> Server {
        worker(self.folder.path(), pools, &self.settings)
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        self.gateway.url.clone()
    }

    /// CPU used until now.
    pub(crate) fn used(&self) -> Used {
        Used {
            workers: self.workers.iter().map(|worker| Used::of_process(worker.pid())).sum(),
            postgres: Used::of_postgres(),
            gateway: Used::of_process(self.gateway.pid()),
        }
    }

    /// Memory of its own that the largest worker has, in MB.
    pub(crate) fn memory_mb(&self) -> u64 {
        let kb = self.workers.iter().filter_map(Server::resident_kb).max();
        kb.unwrap_or_default() / 1024
    }

    /// Waits until so many processes own rooms, nobody leaves, and the gateway had time to hear it.
    pub(crate) async fn settle(&self, owners: usize) {
        let any = self.workers.last().unwrap();
        let settled = async {
            while !is_settled(&Client::new(&any.url).get("/_colonnade/slots").await.body, owners) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("the slots are dealt out");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn is_settled(map: &Value, owners: usize) -> bool {
    let ranges = map["owners"]["rooms"].as_array().into_iter().flatten();
    let found: std::collections::BTreeSet<_> = ranges.map(|range| range[2].as_i64()).collect();
    let mut workers = map["workers"].as_array().into_iter().flatten();
    found.len() == owners && workers.all(|worker| worker["state"] == "live")
}

fn worker(folder: &std::path::Path, pools: &str, settings: &[String]) -> Server {
    let set = settings.iter().flat_map(|setting| ["--set", setting]);
    Server::worker(folder, pools, &set.collect::<Vec<_>>())
}

fn address(worker: &Server) -> &str {
    worker.url.trim_start_matches("http://")
}

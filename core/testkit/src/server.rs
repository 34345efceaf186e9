//! A homeserver in this process, on a port of its own, in a folder of its own: one worker, or many
//! that share a database and a bus and take turns in answering.

use std::{path::PathBuf, sync::Arc};

use colonnade_core::{Homeserver, Options};
use colonnade_model::{SystemClock, SystemRandom, ruma::ServerName};
use colonnade_services::Settings;
use colonnade_storage::Location;
use colonnade_testkit_postgres::Cluster;
use tokio_util::sync::CancellationToken;

use crate::{
    Client,
    shape::{self, Shape},
};

/// A running homeserver; stops when dropped.
pub struct TestServer {
    /// Where it listens, `http://127.0.0.1:port`.
    pub url: String,
    /// The homeserver itself, for tests that look behind its API; one of many workers.
    pub homeserver: Arc<Homeserver>,
    /// Its data folder.
    pub data_dir: PathBuf,
    location: Option<Location>,
    /// All of its workers.
    pub workers: Vec<Arc<Homeserver>>,
    stop: CancellationToken,
    serving: Vec<tokio::task::JoinHandle<()>>,
    _folder: Option<Arc<tempfile::TempDir>>,
}

/// The settings tests start from: open registration, no rate limits.
pub fn open_settings() -> Settings {
    let mut settings = Settings::default();
    settings.registration.open = Some(true);
    settings.rate_limits.enabled = false;
    settings
}

/// The environment variable that says on which database test servers run: `sqlite`, which is what
/// it is when unset, or `postgres`.
const ENGINE: &str = "COLONNADE_TEST_DATABASE";
/// Connections a test server holds at most: many of them run at once.
const CONNECTIONS_MAX: u32 = 6;

/// Returns a database for one test server; `None`: SQLite in its data folder.
///
/// # Panics
/// When the environment names an engine we do not have.
#[expect(clippy::disallowed_methods, reason = "which database, is told to the test binary alone")]
fn database() -> Option<Location> {
    match std::env::var(ENGINE).as_deref() {
        _ if Shape::wanted().is_shared() => Some(postgres()),
        Err(_) | Ok("sqlite") => None,
        Ok("postgres") => Some(postgres()),
        Ok(other) => panic!("{ENGINE} is {other}, and may be `sqlite` or `postgres`"),
    }
}

fn postgres() -> Location {
    let url = Cluster::shared().database();
    Location::Postgres { url, direct_url: None, connections_max: CONNECTIONS_MAX }
}

impl TestServer {
    /// Starts a homeserver named `localhost` with open registration and no rate limits.
    pub async fn start() -> Self {
        Self::with_settings(open_settings()).await
    }

    /// Starts a homeserver with settings of the test's own.
    pub async fn with_settings(settings: Settings) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let data_dir = folder.path().to_owned();
        let mut server = Self::over(data_dir, database(), settings).await;
        server._folder = Some(folder);
        server
    }

    /// Starts a homeserver over an existing data folder, and a database if it is not in there.
    async fn over(data_dir: PathBuf, location: Option<Location>, settings: Settings) -> Self {
        let shape = Shape::wanted();
        let stop = CancellationToken::new();
        let (mut workers, mut serving) = (Vec::new(), Vec::new());
        for number in 0..shape.workers() {
            let homeserver = Homeserver::start(Options {
                server_name: ServerName::parse("localhost").expect("a server name"),
                data_dir: data_dir.clone(),
                location: location.clone(),
                shared: shape.is_shared(),
                redis: shape.redis(),
                settings: settings.clone(),
                clock: Arc::new(SystemClock),
                random: Arc::new(SystemRandom),
            });
            let homeserver = Arc::new(homeserver.await.expect("the homeserver starts"));
            if shape.is_shared() {
                serving.push(shape::join(&homeserver, number, &stop).await);
            }
            workers.push(homeserver);
        }
        let (url, door) = shape::open_door(&workers, &stop).await;
        serving.push(door);
        let homeserver = Arc::clone(&workers[0]);
        Self { url, homeserver, data_dir, location, workers, stop, serving, _folder: None }
    }

    /// Returns a client that is not logged in.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.url)
    }

    /// Registers a user with password `password-<name>` and returns the logged-in client.
    pub async fn user(&self, name: &str) -> Client {
        Client::register(&self.url, name).await
    }

    /// Returns everything that is stored: the files of the data folder, and what is in a database
    /// elsewhere.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn stored(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in std::fs::read_dir(&self.data_dir).expect("the data folder") {
            let path = entry.expect("an entry of it").path();
            if path.is_file() {
                bytes.extend(std::fs::read(path).expect("a file of ours"));
            }
        }
        if let Some(Location::Postgres { url, .. }) = &self.location {
            bytes.extend(Cluster::shared().dump(url));
        }
        bytes
    }

    /// Stops the homeserver cleanly and starts it again over the same folder, on a new port.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| ()).await
    }

    /// [`TestServer::restart`] with changed settings.
    pub async fn restart_with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.homeserver.services.context.settings.clone();
        change(&mut settings);
        self.stop.cancel();
        for serving in self.serving.drain(..) {
            serving.await.expect("the listener ends");
        }
        for worker in self.workers.drain(..) {
            worker.close().await;
        }
        let folder = self._folder.take();
        let (data_dir, location) = (self.data_dir.clone(), self.location.take());
        drop(self);
        let mut server = Self::over(data_dir, location, settings).await;
        server._folder = folder;
        server
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

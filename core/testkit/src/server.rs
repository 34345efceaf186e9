//! A homeserver on a port of its own, in a folder of its own: one worker in this process, many that
//! share a database and a bus and take turns in answering, or processes behind a gateway.

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use colonnade_core::{Homeserver, Options};
use colonnade_model::{
    SystemClock, SystemRandom,
    ruma::{OwnedServerName, ServerName},
};
use colonnade_rooms::Settings;
use colonnade_storage::Location;
use colonnade_testkit_postgres::{
    Cluster,
    pooler::{Pooler, Program},
};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::{
    Client,
    processes::{Deployment, Processes},
    shape::{self, Shape},
};

/// A running homeserver; stops when dropped.
pub struct TestServer {
    /// Where it listens, `http://127.0.0.1:port`.
    pub url: String,
    /// Its name.
    pub name: OwnedServerName,
    /// Its data folder.
    pub data_dir: PathBuf,
    location: Option<Location>,
    settings: Settings,
    /// Its workers in this process.
    workers: Vec<Arc<Homeserver>>,
    processes: Option<Processes>,
    /// Where the workers are processes: who looks at what they share, once a test asks.
    onlooker: OnceCell<Arc<Homeserver>>,
    stop: CancellationToken,
    serving: Vec<tokio::task::JoinHandle<()>>,
    _folder: Option<Arc<tempfile::TempDir>>,
}

/// Tells whether servers will be processes, which take no settings that no operator may choose.
pub fn is_of_processes() -> bool {
    Shape::wanted() == Shape::Gateway
}

/// The settings tests start from: open registration, no rate limits, no display names.
pub fn open_settings() -> Settings {
    let mut settings = Settings::default();
    settings.registration.open = Some(true);
    settings.rate_limits.enabled = false;
    // Most tests begin with an empty profile.
    settings.registration.localpart_as_displayname = false;
    settings
}

/// The environment variable that says on which database test servers run: `sqlite`, which is what
/// it is when unset, `postgres`, or `pooler`: PostgreSQL behind PgBouncer.
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
        Ok("pooler") => Some(behind_a_pooler()),
        _ if Shape::wanted().is_shared() => Some(postgres()),
        Err(_) | Ok("sqlite") => None,
        Ok("postgres") => Some(postgres()),
        Ok(other) => panic!("{ENGINE} is {other}, and may be `sqlite`, `postgres` or `pooler`"),
    }
}

fn postgres() -> Location {
    let url = Cluster::shared().database();
    Location::Postgres {
        url,
        direct_url: None,
        connections_max: CONNECTIONS_MAX,
        next_migrations: None,
    }
}

fn behind_a_pooler() -> Location {
    static POOLER: LazyLock<Pooler> = LazyLock::new(|| {
        let program = Program::find().filter(Program::prepares);
        let program = program.expect("PgBouncer 1.21 or newer, installed or named");
        Pooler::start(&program, Cluster::shared(), true)
    });
    let direct = Cluster::shared().database();
    Location::Postgres {
        url: POOLER.before(&direct),
        direct_url: Some(direct),
        connections_max: CONNECTIONS_MAX,
        next_migrations: None,
    }
}

impl TestServer {
    /// Starts a homeserver named `localhost` with open registration and no rate limits.
    pub async fn start() -> Self {
        Self::with_settings(open_settings()).await
    }

    /// Starts a homeserver with settings of the test's own.
    pub async fn with_settings(settings: Settings) -> Self {
        Self::named(ServerName::parse("localhost").expect("a server name"), settings).await
    }

    /// Starts a homeserver of another name.
    pub(crate) async fn named(name: OwnedServerName, settings: Settings) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let data_dir = folder.path().to_owned();
        let mut server = Self::over(name, data_dir, database(), settings).await;
        server._folder = Some(folder);
        server
    }

    /// Starts a homeserver over an existing data folder, and a database if it is not in there.
    async fn over(
        name: OwnedServerName,
        data_dir: PathBuf,
        location: Option<Location>,
        settings: Settings,
    ) -> Self {
        let shape = Shape::wanted();
        let stop = CancellationToken::new();
        let (workers, serving) = (Vec::new(), Vec::new());
        let (processes, onlooker) = (None, OnceCell::new());
        let url = String::new();
        let mut server = Self {
            url,
            name,
            data_dir,
            location,
            settings,
            workers,
            processes,
            onlooker,
            stop,
            serving,
            _folder: None,
        };
        if shape == Shape::Gateway {
            let processes = Processes::start(&server.deployment(shape)).await;
            server.url.clone_from(&processes.url);
            server.processes = Some(processes);
            return server;
        }
        for number in 0..shape.workers() {
            let homeserver = server.begin(shape).await;
            if shape.is_shared() {
                server.serving.push(shape::join(&homeserver, number, &server.stop).await);
            }
            server.workers.push(homeserver);
        }
        let (url, door) = shape::open_door(&server.workers, &server.stop).await;
        server.url = url;
        server.serving.push(door);
        server
    }

    /// Starts a worker in this process.
    async fn begin(&self, shape: Shape) -> Arc<Homeserver> {
        let homeserver = Homeserver::start(Options {
            server_name: self.name.clone(),
            data_dir: self.data_dir.clone(),
            location: self.location.clone(),
            shared: shape.is_shared(),
            redis: shape.redis(),
            settings: self.settings.clone(),
            trusted_proxies: Vec::new(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        });
        Arc::new(homeserver.await.expect("the homeserver starts"))
    }

    /// What its processes are given.
    fn deployment(&self, shape: Shape) -> Deployment<'_> {
        let Some(Location::Postgres { url, direct_url, .. }) = &self.location else {
            panic!("many processes are over PostgreSQL");
        };
        Deployment {
            server_name: &self.name,
            data_dir: &self.data_dir,
            database: url,
            direct: direct_url.as_deref(),
            redis: shape.redis().expect("a Redis of the test binary"),
            settings: self.settings.clone(),
        }
    }

    /// Returns the homeserver itself, for tests that look behind its API: one of its workers. Where
    /// they are processes it is one more beside them, which has noted everything that was written
    /// before this call, and which no client reaches.
    pub async fn inside(&self) -> &Arc<Homeserver> {
        if let Some(worker) = self.workers.first() {
            return worker;
        }
        let onlooker = self.onlooker.get_or_init(|| self.begin(Shape::Gateway)).await;
        shape::settle(std::slice::from_ref(onlooker)).await;
        onlooker
    }

    /// Tells whether requests go to workers by turns, whoever asks; a gateway keeps an address with
    /// one of them.
    pub fn takes_turns(&self) -> bool {
        self.workers.len() > 1
    }

    /// Tells whether a gateway answers in place of the workers what no route leads to.
    pub fn has_gateway(&self) -> bool {
        self.processes.is_some()
    }

    /// Tells whoever waits for news to come back now, as a worker does that is about to stop. Where
    /// workers are processes they do stop, once others are there in their place.
    pub async fn hurry(&mut self) {
        self.workers.iter().for_each(|worker| worker.services.sync.stop());
        if let Some(processes) = &mut self.processes {
            processes.replace_those_who_sync().await;
        }
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
        let mut settings = self.settings.clone();
        change(&mut settings);
        self.close().await;
        let folder = self._folder.take();
        let (data_dir, location) = (self.data_dir.clone(), self.location.take());
        let name = self.name.clone();
        drop(self);
        let mut server = Self::over(name, data_dir, location, settings).await;
        server._folder = folder;
        server
    }

    /// Stops the homeserver cleanly: everything is stored, and nobody answers any more.
    pub async fn close(&mut self) {
        self.stop.cancel();
        for serving in self.serving.drain(..) {
            serving.await.expect("the listener ends");
        }
        for worker in self.workers.drain(..).chain(self.onlooker.take()) {
            worker.close().await;
        }
        if let Some(processes) = self.processes.take() {
            processes.stop().await;
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

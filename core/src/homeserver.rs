//! Builds a homeserver: database, streams, context, services, router, in that order.

use std::{path::PathBuf, sync::Arc, time::Duration};

use colonnade_api::Router;
use colonnade_model::{Clock, Random, ruma::OwnedServerName, token::TokenKey};
use colonnade_replication::{
    Bus, BusError, Redis, Silent, Slots, Streams,
    slots::{Join, Member},
    streams::RUN_MAX,
};
use colonnade_rooms::{Context, Settings, SigningKey};
use colonnade_services::Services;
use colonnade_storage::{
    Database, DatabaseClock, Held, Location, StorageError, database::settings,
    rooms::interned::Interned,
};
use ipnet::IpNet;
use tokio::time::timeout;

use crate::{
    identity, keys,
    listener::request_pipeline::Front,
    rpc::{client::ConnectionPool, internal::Internal},
    secret_file, signing_keys,
    single_process::{self, SingleProcess},
    start_error::StartError,
    telemetry::metrics::Metrics,
    time,
};

/// How long noting when devices were last seen may take at the end: it is worth no more.
const SEEN_PATIENCE: Duration = Duration::from_secs(3);

/// What a homeserver is started with.
pub struct Options {
    /// The name behind the colon in our users' ids.
    pub server_name: OwnedServerName,
    /// The folder of the signing key, the SQLite database and the media.
    pub data_dir: PathBuf,
    /// The database; `None` is SQLite in the data folder.
    pub location: Option<Location>,
    /// Whether other processes use the database, too: then [`Homeserver::join`] comes next.
    pub shared: bool,
    /// The Redis that processes over one database tell each other by, `redis://…`.
    pub redis: Option<String>,
    /// What the operator decided about the services.
    pub settings: Settings,
    /// Whose word about a client's address counts, besides that of programs on this machine.
    pub trusted_proxies: Vec<IpNet>,
    /// This machine's time; over PostgreSQL that of its server counts.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// How this process stands to others over the same database.
enum ClusterMode {
    /// There are none.
    SingleProcess(SingleProcess),
    /// There may be others, and they do not know us yet.
    Waiting(Held, Arc<DatabaseClock>),
    /// One of many.
    Among(Member),
}

/// A running homeserver, without a listener.
pub struct Homeserver {
    /// Its services.
    pub services: Arc<Services>,
    /// Its endpoints.
    pub router: Arc<Router>,
    /// Its counters.
    pub metrics: Arc<Metrics>,
    internal: Arc<Internal>,
    trusted_proxies: Arc<[IpNet]>,
    footing: tokio::sync::Mutex<Option<ClusterMode>>,
}

impl Homeserver {
    /// Opens everything and starts the background loops.
    ///
    /// # Errors
    /// [`StartError`] with the mend.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { server_name, data_dir, location, shared, redis, mut settings, .. } = options;
        let Options { trusted_proxies, clock, random, .. } = options;
        let location = location.unwrap_or_else(|| Location::Sqlite(data_dir.join("colonnade.db")));
        identity::look(&location, &server_name).await?;
        let streams = Arc::new(Streams::new());
        let db = Database::open(&location, Arc::clone(&streams) as _).await?;
        let server_clock = time::of_server(&db, clock.as_ref()).await?;
        let clock = server_clock.clone().map_or(clock, |clock| clock as _);
        let footing = match (shared, server_clock) {
            (true, Some(kept)) => {
                ClusterMode::Waiting(single_process::hold(&db, true).await?, kept)
            }
            (true, None) => return Err(StartError::NotShared),
            (false, kept) => {
                let alone = SingleProcess::begin(&db, clock.now_ms()).await?;
                if let Some(kept) = kept {
                    tokio::spawn(time::follow(db.clone(), Arc::downgrade(&kept)));
                }
                ClusterMode::SingleProcess(alone)
            }
        };
        identity::require_same_server(&db, &server_name, clock.now_ms()).await?;
        let media = &mut settings.media;
        if media.unauthenticated_until_ms.is_none() {
            media.unauthenticated_until_ms = settings::first_start(&db).await?;
        }
        secret_file::warn_of_wider(&data_dir);
        let key = signing_keys::path(&data_dir);
        let signing_key = identity::signing_key(&db, &key, random.as_ref()).await?;
        let digest_key = secret(&db, "digest_key", random.as_ref()).await?;
        let bus: Option<Arc<dyn Bus>> = match redis {
            Some(url) => Some(join(&url, &digest_key).await?),
            None if shared => Some(Arc::new(Silent::default())),
            None => None,
        };
        streams.start(&db, bus, run(random.as_ref())).await?;
        let proof = keys::proof_among_processes(&digest_key);
        let map_proof = keys::proof_of_the_map(&digest_key);
        let context = Arc::new(Context {
            token_key: TokenKey::new(secret(&db, "token_key", random.as_ref()).await?),
            digest_key,
            interned: Interned::new(db.clone()),
            nids: Default::default(),
            signing_key: SigningKey::new(signing_key),
            server_name,
            settings,
            db,
            streams,
            slots: Arc::new(Slots::new(shared)),
            carrier: Arc::new(ConnectionPool::new(proof.clone())),
            clock,
            random,
            data_dir,
        });
        tokio::spawn(signing_keys::follow(Arc::downgrade(&context)));
        let services = Services::start(context).await?;
        let router = Arc::new(Router::new(Arc::clone(&services)));
        let metrics = Metrics::new().map_err(|error| StartError::Metrics(error.to_string()))?;
        let internal = Arc::new(Internal::new(Arc::clone(&services), proof, map_proof));
        let footing = tokio::sync::Mutex::new(Some(footing));
        let (metrics, trusted_proxies) = (Arc::new(metrics), trusted_proxies.into());
        Ok(Self { services, router, metrics, internal, trusted_proxies, footing })
    }

    /// Joins the cluster, if this is one process of many: from now on others ask it for what it
    /// owns.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn join(&self, join: Join) -> Result<(), StartError> {
        let mut footing = self.footing.lock().await;
        *footing = match footing.take() {
            Some(ClusterMode::Waiting(held, clock)) => {
                let Context { db, slots, .. } = &*self.services.context;
                Some(ClusterMode::Among(Member::join(db, slots, (held, clock), join).await?))
            }
            other => other,
        };
        Ok(())
    }

    /// Hands what this process owns to others, if there are any; what is under way goes on.
    pub async fn hand_over(&self) {
        if let Some(ClusterMode::Among(member)) = &*self.footing.lock().await {
            member.hand_over().await;
        }
    }

    /// Waits until this process lost its right to write, which no process does that behaves.
    pub async fn ended(&self) {
        self.services.context.slots.ended().await;
    }

    /// Returns what a listener hands requests to.
    pub fn front(&self) -> Arc<Front> {
        let (router, metrics) = (Arc::clone(&self.router), Arc::clone(&self.metrics));
        let random = Arc::clone(&self.services.context.random);
        let (internal, trusted) = (Arc::clone(&self.internal), Arc::clone(&self.trusted_proxies));
        Arc::new(Front::new(router, metrics, random, internal, trusted))
    }

    /// Says whether requests can be served now.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<(), StorageError> {
        let context = &self.services.context;
        let why = match &*self.footing.lock().await {
            Some(ClusterMode::SingleProcess(alone)) if alone.is_lost() => {
                "another process uses the database now: stop one of them"
            }
            Some(ClusterMode::Waiting(..)) => "it has not joined the others yet",
            _ if context.slots.has_ended() => "it was taken for dead: it has to be started again",
            _ => "",
        };
        if !why.is_empty() {
            return Err(StorageError::Fenced(why.to_owned()));
        }
        colonnade_storage::streams::horizons(&self.services.context.db).await.map(|_| ())
    }

    /// Finishes the writes under way and closes the database. While the database is away, the writes fail, and this
    /// takes a few seconds.
    pub async fn close(&self) {
        match timeout(SEEN_PATIENCE, self.services.accounts.seen.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot note when devices were last seen"),
            Err(_) => tracing::warn!("cannot note in time when devices were last seen"),
        }
        self.services.context.streams.stop();
        let footing = self.footing.lock().await.take();
        if let Some(ClusterMode::Among(member)) = footing {
            member.leave().await;
            self.services.context.db.close().await;
            return;
        }
        self.services.context.db.close().await;
        match footing {
            Some(ClusterMode::SingleProcess(alone)) => alone.end().await,
            Some(ClusterMode::Waiting(held, _)) => held.release().await,
            Some(ClusterMode::Among(_)) | None => {}
        }
    }
}

/// Returns a number by chance for this run of the process.
fn run(random: &dyn Random) -> i64 {
    let mut bytes = [0u8; 8];
    random.fill(&mut bytes);
    1 + i64::from_be_bytes(bytes).rem_euclid(RUN_MAX)
}

/// Joins the bus of the processes over one database. Its name there comes from a secret of that
/// database: nobody who merely knows our server's name hears us by mistake.
async fn join(url: &str, digest_key: &[u8; 32]) -> Result<Arc<dyn Bus>, BusError> {
    let deployment = keys::name_of_deployment(digest_key);
    Ok(Arc::new(Redis::connect(url, &deployment).await?))
}

/// Returns a secret of the deployment, made at its first start.
async fn secret(
    db: &Database,
    key: &'static str,
    random: &dyn Random,
) -> Result<[u8; 32], StorageError> {
    let mut fresh = [0u8; 32];
    random.fill(&mut fresh);
    let stored = settings::get_or_insert(db, key, fresh.to_vec()).await?;
    let wrong = |bytes: Vec<u8>| {
        StorageError::corrupt("settings", "value", key, format!("{} bytes, not 32", bytes.len()))
    };
    stored.try_into().map_err(wrong)
}

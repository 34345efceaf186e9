//! Builds a homeserver: database, streams, context, services, router, in that order.

use std::{path::PathBuf, sync::Arc};

use colonnade_api::Router;
use colonnade_model::{Clock, Random, ruma::OwnedServerName, token::TokenKey};
use colonnade_replication::{Bus, BusError, Redis, Streams};
use colonnade_services::{Context, Services, Settings};
use colonnade_storage::{Database, Location, StorageError, interned::Interned, settings};

use crate::{
    alone::Alone,
    front::Front,
    identity,
    keys::{self, KeyError},
    metrics::Metrics,
};

/// What a homeserver is started with.
pub struct Options {
    /// The name behind the colon in our users' ids.
    pub server_name: OwnedServerName,
    /// The folder of the signing key, the SQLite database and the media.
    pub data_dir: PathBuf,
    /// The database; `None` is SQLite in the data folder.
    pub location: Option<Location>,
    /// The Redis that processes over one database tell each other by, `redis://…`.
    pub redis: Option<String>,
    /// What the operator decided about the services.
    pub settings: Settings,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// Why a homeserver does not start; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The signing key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The services.
    #[error(transparent)]
    Services(#[from] colonnade_services::Error),
    /// A socket.
    #[error("cannot listen on {address}: {why}; is another server running there?")]
    Listen {
        /// The socket.
        address: String,
        /// The cause.
        why: std::io::Error,
    },
    /// The counters.
    #[error("cannot set up the metrics: {0}")]
    Metrics(String),
    /// The data belongs to another server.
    #[error(
        "this data belongs to the server {stored}, but server_name is {configured}; a server name \
         cannot change once it has users: set it back, or use another data folder"
    )]
    OtherServer {
        /// The name the data was created with.
        stored: String,
        /// The name configured now.
        configured: String,
    },
    /// The signing key is not the one the data was made with.
    #[error(
        "the signing key {path} is not the one this database was used with ({stored}): {found}; put \
         the file back from the data folder or backup that belongs to this database"
    )]
    OtherKey {
        /// The file.
        path: String,
        /// The key in it, if any.
        found: String,
        /// The public key known to the database.
        stored: String,
    },
    /// Somebody else uses the database.
    #[error("another process of colonnade uses this database; stop it, or name another database")]
    InUse,
}

/// A running homeserver, without a listener.
pub struct Homeserver {
    /// Its services.
    pub services: Arc<Services>,
    /// Its endpoints.
    pub router: Arc<Router>,
    /// Its counters.
    pub metrics: Arc<Metrics>,
    alone: tokio::sync::Mutex<Option<Alone>>,
}

impl Homeserver {
    /// Opens everything and starts the background loops.
    ///
    /// # Errors
    /// [`StartError`] with the mend.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { server_name, data_dir, location, redis, settings, clock, random } = options;
        let location = location.unwrap_or_else(|| Location::Sqlite(data_dir.join("colonnade.db")));
        identity::look(&location, &server_name).await?;
        let streams = Arc::new(Streams::new());
        let db = Database::open(&location, Arc::clone(&streams) as _).await?;
        let alone = Alone::begin(&db, clock.now_ms()).await?;
        identity::require_same_server(&db, &server_name).await?;
        let key = data_dir.join("signing.key");
        let signing_key = identity::signing_key(&db, &key, random.as_ref()).await?;
        let digest_key = secret(&db, "digest_key", random.as_ref()).await?;
        let bus = match redis {
            Some(url) => Some(join(&url, &digest_key).await?),
            None => None,
        };
        streams.start(&db, bus, clock.now_ms()).await?;
        let context = Arc::new(Context {
            token_key: TokenKey::new(secret(&db, "token_key", random.as_ref()).await?),
            digest_key,
            interned: Interned::new(db.clone()),
            nids: Default::default(),
            signing_key: Arc::new(signing_key),
            server_name,
            settings,
            db,
            streams,
            clock,
            random,
            data_dir,
        });
        let services = Services::start(context).await?;
        let router = Arc::new(Router::new(Arc::clone(&services)));
        let metrics = Metrics::new().map_err(|error| StartError::Metrics(error.to_string()))?;
        let alone = tokio::sync::Mutex::new(Some(alone));
        Ok(Self { services, router, metrics: Arc::new(metrics), alone })
    }

    /// Returns what a listener hands requests to.
    pub fn front(&self) -> Arc<Front> {
        let (router, metrics) = (Arc::clone(&self.router), Arc::clone(&self.metrics));
        Arc::new(Front::new(router, metrics, Arc::clone(&self.services.context.random)))
    }

    /// Says whether requests can be served now.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<(), StorageError> {
        if self.alone.lock().await.as_ref().is_some_and(Alone::is_lost) {
            let why = "another process uses the database now: stop one of them";
            return Err(StorageError::Fenced(why.to_owned()));
        }
        colonnade_storage::streams::horizons(&self.services.context.db).await.map(|_| ())
    }

    /// Finishes the writes under way and closes the database.
    pub async fn close(&self) {
        if let Err(error) = self.services.accounts.seen.flush().await {
            tracing::warn!(%error, "cannot note when devices were last seen");
        }
        self.services.context.streams.stop();
        self.services.context.db.close().await;
        if let Some(alone) = self.alone.lock().await.take() {
            alone.end().await;
        }
    }
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

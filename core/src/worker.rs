//! A running worker: a homeserver behind its own sockets, and how it stops. Answers nothing itself.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use colonnade_model::{SystemClock, SystemRandom};
use colonnade_replication::slots::Join;
use colonnade_storage::{Location, ownership::coordinator::Patience};
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Homeserver, Options,
    address::{Address, SOCKET_PATH_BYTES_MAX},
    admin, control,
    listener::{self, Ending, Socket},
    start_error::StartError,
};

/// The part of a process among many.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// What the operator calls it; else named after its pools and address.
    pub name: Option<String>,
    /// The pools it serves.
    pub pools: Vec<String>,
    /// Where others reach it, if not where it listens.
    pub reached_at: Option<Address>,
    /// How long a silence of another is death.
    pub patience: Patience,
}

/// A worker that runs.
pub struct Worker {
    /// Its homeserver.
    pub homeserver: Arc<Homeserver>,
    /// Where it listens.
    pub address: Address,
    /// Where it serves metrics and health, if anywhere.
    pub admin: Option<SocketAddr>,
    /// The operator's socket, if it is ours.
    control_socket: Option<PathBuf>,
    stop: CancellationToken,
    ending: Ending,
    serving: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Opens everything and listens at `address`.
    ///
    /// # Errors
    /// [`StartError`] with the mend.
    pub async fn start(config: &Config, address: Address) -> Result<Self, StartError> {
        Self::start_with(options(config), config, address, None).await
    }

    /// Opens everything, listens at `address`, and takes part with other processes over the same
    /// PostgreSQL. On SQLite it is the only process.
    ///
    /// # Errors
    /// [`StartError`] with the mend.
    pub async fn start_among(
        config: &Config,
        address: Address,
        part: Part,
    ) -> Result<Self, StartError> {
        let shared = matches!(config.database, Location::Postgres { .. });
        let options = Options { shared, ..options(config) };
        Self::start_with(options, config, address, Some(part)).await
    }

    async fn start_with(
        options: Options,
        config: &Config,
        address: Address,
        part: Option<Part>,
    ) -> Result<Self, StartError> {
        if let Some(readable) = &config.readable {
            readable.warn();
        }
        let homeserver = Arc::new(Homeserver::start(options).await?);
        let stop = CancellationToken::new();
        let (socket, address) = bind(address).await?;
        let front = homeserver.front();
        let ending = Ending::default();
        let mut serving = vec![tokio::spawn(listener::serve_to(socket, front, ending.clone()))];
        let mut admin_address = None;
        if let Some(wanted) = config.admin {
            let (socket, got) = bind_tcp(wanted).await?;
            admin_address = Some(got);
            let homeserver = Arc::clone(&homeserver);
            let door = admin::Door::new(got, &config.admin_hosts);
            serving.push(tokio::spawn(admin::serve(socket, door, homeserver, stop.clone())));
        }
        let mut control_socket_path = None;
        if let Some(socket) = control_socket(config)? {
            control_socket_path = Some(control::socket_path(&config.data_dir));
            let services = Arc::clone(&homeserver.services);
            serving.push(tokio::spawn(control::serve(socket, services, stop.clone())));
        }
        if let Some(Part { name, pools, reached_at, patience }) = part {
            let reached_at = reached_at.unwrap_or_else(|| address.clone()).to_string();
            let name = name.unwrap_or_else(|| format!("{} at {reached_at}", pools.join(",")));
            let join = Join { name, pools, address: reached_at, patience };
            homeserver.join(join).await?;
        }
        Ok(Self {
            homeserver,
            address,
            admin: admin_address,
            control_socket: control_socket_path,
            stop,
            ending,
            serving,
        })
    }

    /// Tells the long polls to answer now, so that nobody waits for them while we stop.
    pub fn hurry(&self) {
        self.homeserver.services.sync.stop();
    }

    /// Hands what this process owns to others, if there are any, while it still answers. Then lets nobody in
    /// any more, and answers on the connections there are until none of them rests, or for a moment, so
    /// that no request meets one that is just being closed.
    pub async fn hand_over(&self) {
        self.homeserver.hand_over().await;
        if let Address::Unix(path) = &self.address {
            // Before the socket goes, for whoever stood in its queue then would be cut off.
            let _gone_already = std::fs::remove_file(path);
        }
        self.ending.leave().await;
    }

    /// Waits until this process may not write any more, since it was taken for dead.
    pub async fn ended(&self) {
        self.homeserver.ended().await;
    }

    /// Stops accepting, answers what is under way, finishes the writes and closes the database.
    pub async fn stop(self) {
        self.hurry();
        self.ending.stop();
        self.stop.cancel();
        for serving in self.serving {
            let _ended = serving.await;
        }
        self.homeserver.close().await;
        if let Some(path) = &self.control_socket {
            let _gone_already = std::fs::remove_file(path);
        }
        if let Address::Unix(path) = &self.address {
            let _gone_already = std::fs::remove_file(path);
        }
    }
}

/// Returns what a homeserver with this configuration is started with.
pub fn options(config: &Config) -> Options {
    Options {
        server_name: config.server_name.clone(),
        data_dir: config.data_dir.clone(),
        location: Some(config.database.clone()),
        shared: false,
        redis: config.redis.clone(),
        settings: config.settings.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    }
}

/// Binds the socket and returns it with the address it really has.
async fn bind(address: Address) -> Result<(Socket, Address), StartError> {
    match address {
        Address::Tcp(wanted) => {
            let (socket, got) = bind_tcp(wanted).await?;
            Ok((Socket::Tcp(socket), Address::Tcp(got)))
        }
        Address::Unix(ref path) => {
            // The database's lock is held: whoever left this socket behind is gone.
            let _none_there = std::fs::remove_file(path);
            let bound = UnixListener::bind(path).and_then(|socket| private(path).map(|()| socket));
            let failed = |why| StartError::Listen { address: address.to_string(), why };
            Ok((Socket::Unix(bound.map_err(failed)?), address))
        }
    }
}

/// Binds the operator's socket in the data folder, unless another process answers there; where the
/// path is too long there is none.
fn control_socket(config: &Config) -> Result<Option<UnixListener>, StartError> {
    let path = control::socket_path(&config.data_dir);
    let answered = std::os::unix::net::UnixStream::connect(&path).is_ok();
    if answered || path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Ok(None);
    }
    let _none_there = std::fs::remove_file(&path);
    let bound = UnixListener::bind(&path).and_then(|socket| private(&path).map(|()| socket));
    let failed = |why| StartError::Listen { address: format!("unix:{}", path.display()), why };
    bound.map(Some).map_err(failed)
}

async fn bind_tcp(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |why| StartError::Listen { address: wanted.to_string(), why };
    let socket = TcpListener::bind(wanted).await.map_err(failed)?;
    let got = socket.local_addr().map_err(failed)?;
    Ok((socket, got))
}

/// Only our own user may connect.
fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

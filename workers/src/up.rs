//! `colonnade up`: the homeserver behind a private socket, the gateway in front of it, in one
//! process. Every request passes the gateway, also here.

use std::{net::SocketAddr, path::Path, time::Duration};

use clap::Args;
use colonnade_core::{Address, Config, Worker, config, telemetry::logging};
use colonnade_gateway as gateway;

use crate::{
    failure::Failure,
    notify, open_files,
    settings::Settings,
    signals::{OperatorRequest, Signals},
    terminal,
};

#[derive(Debug, Default, Args)]
pub(crate) struct UpOptions {
    /// Serve with this many worker processes, over PostgreSQL
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: Option<u16>,
    /// The database: sqlite, or postgres://user:password@host/name
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// The Redis by which workers tell each other that something is new
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

impl Settings {
    /// Adds what `up` says of the database and Redis.
    pub(crate) fn with(mut self, options: &UpOptions) -> Self {
        let named = [
            ("--database", "database.url", &options.database),
            ("--redis", "redis.url", &options.redis),
        ];
        let said =
            named.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value.clone()?)));
        self.places.extend(said);
        self
    }
}

/// How long requests under way may take once we are told to stop.
const GRACE: Duration = Duration::from_secs(20);

/// Runs until told to stop.
pub(crate) async fn run(settings: &Settings) -> Result<(), Failure> {
    let path = settings.path();
    let config = settings.load_or_default()?;
    let _spans = logging::start(&config)?;
    open_files::allow_many();
    let first = write_first(&path, &config)?;
    let mut signals = Signals::listen()?;
    let address = Address::private(&config.data_dir);
    let worker = Worker::start(&config, address).await.map_err(|error| Failure::running(&error))?;
    let door = match open_door(&config, &[worker.address.to_string()]) {
        Ok(door) => door,
        Err(failure) => {
            worker.stop().await;
            return Err(failure);
        }
    };
    terminal::say(&welcome(&path, &config, (&worker, &door), first));
    notify::ready();
    while signals.next().await == OperatorRequest::Reload {
        reload(&door);
    }
    signals.end_at_the_next();
    notify::stopping();
    tracing::info!("stopping: answering what is under way");
    worker.hurry();
    door.shutdown(GRACE).await;
    worker.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Writes the configuration of a first start, if this is one; returns whether it is.
pub(crate) fn write_first(path: &Path, config: &Config) -> Result<bool, Failure> {
    let first = !path.exists();
    if first {
        config::write_first(path, config).map_err(|error| {
            Failure::Running(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    Ok(first)
}

/// Starts the gateway in front of workers at these addresses, each of every pool.
fn open_door(config: &Config, workers: &[String]) -> Result<gateway::Running, Failure> {
    gateway::run(before(config, workers)?).map_err(|error| not_started(&error))
}

/// How a gateway is run in front of workers at these addresses, each of every pool.
pub(crate) fn before(config: &Config, workers: &[String]) -> Result<gateway::RunOptions, Failure> {
    let wrong = |address: &str, error: &dyn std::fmt::Display| {
        Failure::Running(format!("the gateway does not understand {address}: {error}"))
    };
    let mut behind = Vec::new();
    for address in workers {
        behind.push(address.parse().map_err(|error| wrong(address, &error))?);
    }
    let source = source(config.routes.as_deref());
    let routes = source.read().map_err(|error| Failure::usage(&error))?;
    if let Some(unused) = unused_listeners(config, &routes)? {
        tracing::warn!("{unused}");
    }
    let mut options = gateway::RunOptions::new(source);
    options.spans = config.tracing.otlp_endpoint.is_some();
    options.overrides = gateway::config::Overrides {
        listen: Some(config.listen.clone()),
        listen_encrypted: encrypted(config),
        workers_for_all_pools: Some(behind),
        admin: config.gateway_admin,
        admin_hosts: config.admin_hosts.clone(),
        no_admin: config.gateway_admin.is_none(),
        engine: None,
    };
    Ok(options)
}

/// Returns where other servers come in, by the configuration.
fn encrypted(config: &Config) -> Vec<(SocketAddr, gateway::config::TlsConfig)> {
    let listeners = config.settings.federation.listen.iter().map(|listener| {
        let certificates = vec![(listener.certificate.clone(), listener.key.clone())];
        (listener.bind, gateway::config::TlsConfig { certificates, http2: true })
    });
    listeners.collect()
}

/// Compares where the operator's routes file listens with where `up` does: in clear at `listen` of the
/// configuration alone, encrypted and with the PROXY protocol where the file says so, too. Says which addresses
/// are not used.
///
/// # Errors
/// When a trial server, where anybody may register, would be reached from elsewhere.
pub(crate) fn unused_listeners(
    config: &Config,
    routes: &gateway::config::Config,
) -> Result<Option<String>, Failure> {
    if config.routes.is_none() {
        return Ok(None);
    }
    let special = routes.listen.iter().filter(|at| at.is_special());
    let reached = special.filter(|at| match &at.bind {
        gateway::config::Address::Tcp(address) => !address.ip().to_canonical().is_loopback(),
        gateway::config::Address::Unix(_) => false,
    });
    if let Some(at) = reached.into_iter().next()
        && config.is_local_trial()
    {
        return Err(Failure::Usage(format!(
            "{}: listen: {} at {} lets others in, but this server is named localhost, and anybody who reaches it \
             may register: set server_name, or registration.open to false",
            routes.name, at.name, at.bind
        )));
    }
    let used: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    let other = routes.listen.iter().filter(|at| !at.is_special()).map(|at| at.bind.to_string());
    let other: Vec<String> = other.filter(|at| !used.contains(at)).collect();
    Ok((!other.is_empty()).then(|| {
        let (other, used) = (other.join(", "), used.join(", "));
        format!(
            "`colonnade up` listens in clear at `listen` of the configuration ({used}), and not at {other}, as {} \
             says: name the address there, or remove it from the routes file",
            routes.name
        )
    }))
}

/// Why no gateway started.
pub(crate) fn not_started(error: &gateway::StartError) -> Failure {
    match error {
        gateway::StartError::Config(wrong) => Failure::usage(wrong),
        other => Failure::running(other),
    }
}

/// The routes: the operator's file, or those that ship with us.
pub(crate) fn source(routes: Option<&Path>) -> gateway::Source {
    match routes {
        Some(path) => gateway::Source::File(path.to_owned()),
        None => gateway::Source::bundled(),
    }
}

/// Reloads the routes and says how it went.
pub(crate) fn reload(door: &gateway::Running) {
    match door.reload() {
        Ok(report) => tracing::info!(
            version = report.version,
            rules = report.rules,
            changes = report.changes.len(),
            "routes reloaded"
        ),
        Err(error) => tracing::error!(%error, "routes not reloaded, the old ones stay in force"),
    }
}

/// What a person needs to know now.
fn welcome(
    path: &Path,
    config: &Config,
    (worker, door): (&Worker, &gateway::Running),
    first: bool,
) -> String {
    // Those in clear come first.
    let addresses = door.addrs();
    let (clear, special) = addresses.split_at(config.listen.len().min(addresses.len()));
    let urls: Vec<String> = clear.iter().map(|at| format!("http://{at}")).collect();
    let url = match urls.first() {
        Some(url) => url.replace("127.0.0.1", "localhost").replace("0.0.0.0", "localhost"),
        None => String::new(),
    };
    let shown = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut text = format!("\nColonnade serves {} at {}\n", config.server_name, urls.join(", "));
    text += &format!("  configuration  {}", shown(path).display());
    text += if first { "  (just written: every key is explained in it)\n" } else { "\n" };
    text += &format!("  data           {}  (back it up whole)\n", config.data_dir.display());
    for at in special {
        text += &format!("  also           {at}\n");
    }
    if let Some(admin) = worker.admin {
        text += &format!("  worker admin   http://{admin}\n");
    }
    if let Some(admin) = door.admin_addr() {
        text += &format!("  gateway admin  http://{admin}\n");
    }
    if config.registration_is_open() {
        text += "\nANYBODY who reaches this server may register";
        text += if config.is_local_trial() {
            ": it is named localhost and listens on this machine alone.\n"
        } else {
            ", because registration.open says so.\n"
        };
        text += &format!(
            "  curl -X POST {url}/_matrix/client/v3/register \\\n    -d '{{\"username\":\"alice\",\
             \"password\":\"correct horse\",\"auth\":{{\"type\":\"m.login.dummy\"}}}}'\n"
        );
    } else {
        text += "\nRegistration is closed. Make an account:\n  colonnade admin create-user alice\n";
    }
    text += &format!(
        "\nIn Element choose Sign in, Edit the homeserver, and enter {url}\nStop with Ctrl-C.\n"
    );
    text
}

//! `colonnade up --workers N`: N worker processes over one PostgreSQL and one Redis, and a gateway process
//! before them. Every worker serves every pool. Starts them, keeps them running, replaces one after the
//! other on SIGHUP, the gateway last, stops all on SIGTERM. Serves nobody itself.

pub(crate) mod process;
pub(crate) mod status;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use colonnade_core::{
    Config,
    address::{Address, SOCKET_PATH_BYTES_MAX},
    config::Location,
    telemetry::logging,
};
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::{
    failure::Failure,
    notify, open_files,
    settings::Settings,
    signals::{OperatorRequest, Signals},
    terminal, up,
};
use process::{Launch, Standing, Supervised};
use status::Status;

/// The gateway stops accepting before workers are told to stop.
const DOOR_FIRST: Duration = Duration::from_secs(1);

/// Runs until told to stop.
pub(crate) async fn run(settings: &Settings, count: u16) -> Result<(), Failure> {
    let path = settings.path();
    let config = settings.load_or_default()?;
    if !matches!(config.database, Location::Postgres { .. }) {
        return Err(Failure::Usage(
            "--workers needs PostgreSQL: say --database postgres://user:password@host/name, or set \
             database.url; on SQLite `colonnade up` is one process"
                .to_owned(),
        ));
    }
    // The gateway process reads them, too, but last, and its status would be told as a failure.
    let routes = up::source(config.routes.as_deref()).read();
    let routes = routes.map_err(|error| Failure::usage(&error))?;
    up::unused_listeners(&config, &routes)?;
    let _spans = logging::start(&config)?;
    open_files::allow_many();
    if config.redis.is_none() {
        tracing::warn!("no Redis: workers ask the database ten times a second what is new");
    }
    up::write_first(&path, &config)?;
    let mut signals = Signals::listen()?;
    let fleet = tokio::select! {
        fleet = start(settings, &config, count) => fleet?,
        // Dropping the processes kills them: none of them serves anybody yet.
        requested = stop_requested(&mut signals) => return requested,
    };
    let gateway = fleet.gateway.standing();
    let status = Status::of(config.server_name.to_string(), gateway.borrow().clone());
    terminal::say(&welcome(&config, &status, count));
    let standings = fleet.workers.iter().map(Supervised::standing).collect();
    let telling = tokio::spawn(tell(status, gateway, standings, config.data_dir.clone()));
    notify::ready();
    serve(&mut signals, &fleet).await;
    signals.end_at_the_next();
    notify::stopping();
    tracing::info!("stopping: answering what is under way");
    let Fleet { workers, gateway } = fleet;
    let workers = async {
        tokio::time::sleep(DOOR_FIRST).await;
        join_all(workers.into_iter().map(Supervised::stop)).await;
    };
    // What gateways from before the last SIGHUP had under way was answered with the rest.
    let (_killed, ()) = tokio::join!(gateway.stop(), workers);
    telling.abort();
    let _aborted = telling.await;
    Status::forget(&config.data_dir);
    tracing::info!("stopped");
    Ok(())
}

/// All processes.
struct Fleet {
    workers: Vec<Supervised>,
    gateway: Supervised,
}

/// Waits until we are told to stop before anything serves.
async fn stop_requested(signals: &mut Signals) -> Result<(), Failure> {
    while signals.next().await == OperatorRequest::Reload {}
    Ok(())
}

/// Does what we are told until that is to stop. A second SIGHUP while processes are replaced begins
/// after the first.
async fn serve(signals: &mut Signals, fleet: &Fleet) {
    while signals.next().await == OperatorRequest::Reload {
        tokio::select! {
            () = replace(fleet) => {}
            () = async { while signals.next().await == OperatorRequest::Reload {} } => return,
        }
    }
}

/// Starts all, the gateway last: nobody is let in before somebody answers.
async fn start(settings: &Settings, config: &Config, count: u16) -> Result<Fleet, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::running(&error))?;
    let workers = start_workers(settings, config, (count, &program)).await?;
    let launch = gateway_launch(settings, config, program, &workers)?;
    let gateway = Supervised::start("gateway".to_owned(), String::new(), launch);
    if gateway.is_up().await {
        return Ok(Fleet { workers, gateway });
    }
    let how = gateway.standing().borrow().last_end.clone().unwrap_or_default();
    join_all(workers.into_iter().map(Supervised::stop)).await;
    let _none = gateway.stop().await;
    Err(Failure::Running(format!("the gateway does not start ({how}); its reason stands above")))
}

/// Starts every worker: the first alone, since it makes the signing key and the tables.
async fn start_workers(
    settings: &Settings,
    config: &Config,
    (count, program): (u16, &Path),
) -> Result<Vec<Supervised>, Failure> {
    colonnade_core::secret_file::make_folder(&config.data_dir).map_err(|error| {
        Failure::Running(format!("cannot make {}: {error}", config.data_dir.display()))
    })?;
    let mut workers = Vec::new();
    for number in 1..=count {
        let name = format!("worker-{number}");
        let address = address(config, number)?;
        let launch = launch(settings, config, program.to_owned(), (number, &name, &address));
        let worker = Supervised::start(name, address, launch);
        if number == 1 && !worker.is_up().await {
            let how = worker.standing().borrow().last_end.clone().unwrap_or_default();
            let _none = worker.stop().await;
            let why = format!("the first worker does not start ({how}); its reason stands above");
            return Err(Failure::Running(why));
        }
        workers.push(worker);
    }
    for worker in &workers {
        // One that does not come up is tried again; the others serve meanwhile.
        let _is_up = worker.is_up().await;
    }
    Ok(workers)
}

/// Where a worker listens: a socket in the data folder.
fn address(config: &Config, number: u16) -> Result<String, Failure> {
    Ok(Address::Unix(socket(config, &format!("worker-{number}.sock"))?).to_string())
}

/// The path of a socket in the data folder.
fn socket(config: &Config, name: &str) -> Result<PathBuf, Failure> {
    let path = config.data_dir.join(name);
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(Failure::Usage(format!(
            "{} is longer than the path of a socket may be ({SOCKET_PATH_BYTES_MAX} bytes): choose a \
             data_dir with a shorter path",
            path.display()
        )));
    }
    Ok(path)
}

/// How the gateway is started: as we were, with a socket by which the next one takes over.
fn gateway_launch(
    settings: &Settings,
    config: &Config,
    program: PathBuf,
    workers: &[Supervised],
) -> Result<Launch, Failure> {
    let behind = workers.iter().map(|worker| worker.standing().borrow().address.clone());
    let behind = behind.collect::<Vec<_>>().join(",");
    let socket = socket(config, "gateway.sock")?.display().to_string();
    let gateway = ["gateway", "--supervised", "--behind", &behind, "--upgrade-socket", &socket];
    let mut arguments: Vec<String> = gateway.iter().map(ToString::to_string).collect();
    arguments.extend(settings.as_arguments());
    let environment = settings.as_environment();
    Ok(Launch { ready: crate::gateway::READY, program, arguments, environment })
}

/// How a worker is started: as we were, with an address and a port for its metrics of its own.
fn launch(
    settings: &Settings,
    config: &Config,
    program: PathBuf,
    (number, name, address): (u16, &str, &str),
) -> Launch {
    let worker = ["worker", "--pool", "all", "--supervised", "--name", name, "--bind", address];
    let mut arguments: Vec<String> = worker.iter().map(ToString::to_string).collect();
    arguments.extend(settings.as_arguments());
    let admin = config.admin.map(|mut at| {
        if at.port() != 0 {
            at.set_port(at.port().saturating_add(number - 1));
        }
        at.to_string()
    });
    let admin = admin.unwrap_or_else(|| "null".to_owned());
    arguments.extend(["--set".to_owned(), format!("admin.listen={admin}")]);
    let environment = settings.as_environment();
    Launch { ready: crate::worker::READY, program, arguments, environment }
}

/// Replaces one worker after the other, then the gateway, which may know requests that only new workers
/// answer. Stops when a new one does not answer.
async fn replace(fleet: &Fleet) {
    for worker in &fleet.workers {
        let name = worker.standing().borrow().name.clone();
        tracing::info!(worker = name, "is replaced");
        if !worker.restart().await {
            tracing::error!(worker = name, "does not come back: the others are left as they are");
            return;
        }
    }
    tracing::info!("every worker has been replaced, now the gateway");
    match fleet.gateway.replace().await {
        true => tracing::info!("every process has been replaced"),
        false => tracing::error!("no new gateway came up: the one that runs goes on"),
    }
}

/// Writes down how the processes stand, whenever that changes.
async fn tell(
    mut status: Status,
    mut gateway: watch::Receiver<Standing>,
    mut workers: Vec<watch::Receiver<Standing>>,
    folder: PathBuf,
) {
    loop {
        status.workers =
            workers.iter_mut().map(|standing| standing.borrow_and_update().clone()).collect();
        let standing = gateway.borrow_and_update().clone();
        status.see_gateway(standing);
        if let Err(error) = status.write(&folder) {
            tracing::warn!(%error, "cannot write what `colonnade status` reads");
        }
        let changes = workers.iter_mut().chain([&mut gateway]);
        let changes = changes.map(|standing| Box::pin(standing.changed()));
        let (changed, _, _) = futures_util::future::select_all(changes).await;
        if changed.is_err() {
            // A process is stopped for good, and so will be all.
            return;
        }
    }
}

/// What a person needs to know now.
fn welcome(config: &Config, status: &Status, count: u16) -> String {
    let (name, urls) = (&config.server_name, status.listen.join(", "));
    let mut text = format!("\nColonnade serves {name} at {urls} with {count} workers\n");
    text += &format!(
        "  data           {}  (back it up, and the database)\n",
        config.data_dir.display()
    );
    if let Some(admin) = config.admin {
        text += &format!("  worker admin   http://{admin}, and the ports after it\n");
    }
    if let Some(admin) = &status.gateway_admin {
        text += &format!("  gateway admin  http://{admin}\n");
    }
    text +=
        "\nHow they are: colonnade status. SIGHUP replaces them one by one. Stop with Ctrl-C.\n";
    text
}

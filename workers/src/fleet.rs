//! `colonnade up --workers N`: the gateway in this process, N worker processes behind it over one PostgreSQL
//! and one Redis. Every worker serves every pool. Starts them, keeps them running, replaces one after
//! the other on SIGHUP, stops all on SIGTERM.

pub(crate) mod process;
pub(crate) mod status;

use std::{path::PathBuf, time::Duration};

use colonnade_core::{
    Config,
    config::{self, Location},
    logging,
    worker::Address,
};
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::{
    command::{Failure, Settings},
    notify, open_files,
    signals::{Signals, Told},
    terminal, up,
};
use process::{Launch, Standing, Supervised};
use status::Status;

/// How long requests under way may take once we are told to stop.
const GRACE: Duration = Duration::from_secs(20);
/// The gateway stops accepting before workers are told to stop.
const DOOR_FIRST: Duration = Duration::from_secs(1);
/// The longest path a unix socket may have on every system we know.
const SOCKET_PATH_BYTES_MAX: usize = 100;

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
    let _spans = logging::start(&config)?;
    open_files::allow_many();
    if config.redis.is_none() {
        tracing::warn!("no Redis: workers ask the database ten times a second what is new");
    }
    if !path.exists() {
        config::write_first(&path, &config).map_err(|error| {
            Failure::Running(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    let mut signals = Signals::listen()?;
    let workers = tokio::select! {
        workers = start(settings, &config, count) => workers?,
        // Dropping the processes kills them: none of them serves anybody yet.
        told = stop_told(&mut signals) => return told,
    };
    let standings: Vec<_> = workers.iter().map(Supervised::standing).collect();
    let addresses: Vec<String> =
        standings.iter().map(|standing| standing.borrow().address.clone()).collect();
    let door = match up::open_door(&config, &addresses) {
        Ok(door) => door,
        Err(failure) => {
            join_all(workers.into_iter().map(Supervised::stop)).await;
            return Err(failure);
        }
    };
    let status = Status {
        server_name: config.server_name.to_string(),
        pid: std::process::id(),
        listen: door.addrs().iter().map(|at| format!("http://{at}")).collect(),
        gateway_admin: door.admin_addr().map(|at| at.to_string()),
        workers: Vec::new(),
    };
    let telling = tokio::spawn(tell(status, standings, config.data_dir.clone()));
    terminal::say(&welcome(&config, &door, count));
    notify::ready();
    serve(&mut signals, &workers, &door).await;
    signals.end_at_the_next();
    notify::stopping();
    tracing::info!("stopping: answering what is under way");
    let workers = async {
        tokio::time::sleep(DOOR_FIRST).await;
        join_all(workers.into_iter().map(Supervised::stop)).await;
    };
    tokio::join!(door.shutdown(GRACE), workers);
    telling.abort();
    let _aborted = telling.await;
    Status::forget(&config.data_dir);
    tracing::info!("stopped");
    Ok(())
}

/// Waits until we are told to stop before anything serves.
async fn stop_told(signals: &mut Signals) -> Result<(), Failure> {
    while signals.next().await == Told::Reload {}
    Ok(())
}

/// Does what we are told until that is to stop. A second SIGHUP while workers are replaced begins
/// after the first.
async fn serve(signals: &mut Signals, workers: &[Supervised], door: &colonnade_gateway::Running) {
    while signals.next().await == Told::Reload {
        up::reload(door);
        tokio::select! {
            () = replace(workers) => {}
            () = async { while signals.next().await == Told::Reload {} } => return,
        }
    }
}

/// Starts every worker: the first alone, since it makes the signing key and the tables.
async fn start(
    settings: &Settings,
    config: &Config,
    count: u16,
) -> Result<Vec<Supervised>, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::running(&error))?;
    std::fs::create_dir_all(&config.data_dir).map_err(|error| {
        Failure::Running(format!("cannot make {}: {error}", config.data_dir.display()))
    })?;
    let mut workers = Vec::new();
    for number in 1..=count {
        let name = format!("worker-{number}");
        let address = address(config, number)?;
        let launch = launch(settings, config, program.clone(), (number, &name, &address));
        let worker = Supervised::start(name, address, launch);
        if number == 1 && !worker.is_up().await {
            let how = worker.standing().borrow().last_end.clone().unwrap_or_default();
            worker.stop().await;
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
    let path = config.data_dir.join(format!("worker-{number}.sock"));
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(Failure::Usage(format!(
            "{} is longer than the path of a socket may be ({SOCKET_PATH_BYTES_MAX} bytes): choose a \
             data_dir with a shorter path",
            path.display()
        )));
    }
    Ok(Address::Unix(path).to_string())
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
    Launch { program, arguments, environment: settings.as_environment() }
}

/// Replaces one worker after the other; stops when a new one does not answer.
async fn replace(workers: &[Supervised]) {
    for worker in workers {
        let name = worker.standing().borrow().name.clone();
        tracing::info!(worker = name, "is replaced");
        if !worker.restart().await {
            tracing::error!(worker = name, "does not come back: the others are left as they are");
            return;
        }
    }
    tracing::info!("every worker has been replaced");
}

/// Writes down how the workers stand, whenever that changes.
async fn tell(mut status: Status, mut standings: Vec<watch::Receiver<Standing>>, folder: PathBuf) {
    loop {
        status.workers =
            standings.iter_mut().map(|standing| standing.borrow_and_update().clone()).collect();
        if let Err(error) = status.write(&folder) {
            tracing::warn!(%error, "cannot write what `colonnade status` reads");
        }
        let changes = standings.iter_mut().map(|standing| Box::pin(standing.changed()));
        let (changed, _, _) = futures_util::future::select_all(changes).await;
        if changed.is_err() {
            // A worker is stopped for good, and so will be all.
            return;
        }
    }
}

/// What a person needs to know now.
fn welcome(config: &Config, door: &colonnade_gateway::Running, count: u16) -> String {
    let urls: Vec<String> = door.addrs().iter().map(|at| format!("http://{at}")).collect();
    let (name, urls) = (&config.server_name, urls.join(", "));
    let mut text = format!("\nColonnade serves {name} at {urls} with {count} workers\n");
    text += &format!(
        "  data           {}  (back it up, and the database)\n",
        config.data_dir.display()
    );
    if let Some(admin) = config.admin {
        text += &format!("  worker admin   http://{admin}, and the ports after it\n");
    }
    if let Some(admin) = door.admin_addr() {
        text += &format!("  gateway admin  http://{admin}\n");
    }
    text +=
        "\nHow they are: colonnade status. SIGHUP replaces them one by one. Stop with Ctrl-C.\n";
    text
}

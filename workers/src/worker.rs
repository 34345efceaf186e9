//! `colonnade worker`: one worker of a pool, for a gateway that runs elsewhere.

use colonnade_core::{
    Worker,
    roles::{self, Role},
    telemetry::logging,
    worker::Part,
};

use crate::{
    command::WorkerOptions,
    failure::Failure,
    notify, open_files,
    settings::Settings,
    signals::{OperatorRequest, Signals},
    supervisor, terminal,
};

/// How the line begins that a worker says once it answers.
pub(crate) const READY: &str = "worker of pool";

/// Runs until told to stop.
pub(crate) async fn run(settings: &Settings, options: WorkerOptions) -> Result<(), Failure> {
    let pools = pools(&options.pool)?;
    let config = settings.load()?;
    let _spans = logging::start(&config)?;
    open_files::allow_many();
    let mut signals = Signals::listen()?;
    let mut part = Part {
        name: options.name,
        pools: pools.iter().map(|role| role.name.to_owned()).collect(),
        reached_at: options.reached_at,
        ..Part::default()
    };
    if let Some(ms) = options.patience_ms {
        part.patience.silence_ms = ms;
        part.patience.without_lock_ms = ms;
    }
    let worker = Worker::start_among(&config, options.bind, part).await;
    let worker = worker.map_err(|error| Failure::running(&error))?;
    terminal::say(&welcome(&pools, &config.server_name, &worker));
    notify::ready();
    let stopped = async {
        // A worker has nothing to reload.
        while signals.next().await == OperatorRequest::Reload {}
    };
    let ended = tokio::select! {
        () = stopped => false,
        () = supervisor::ends(options.supervised) => false,
        () = worker.ended() => true,
    };
    signals.end_at_the_next();
    notify::stopping();
    if ended {
        worker.stop().await;
        return Err(Failure::Running(
            "this worker was silent for so long that others took over what it owned; start it again"
                .to_owned(),
        ));
    }
    worker.hand_over().await;
    worker.stop().await;
    Ok(())
}

/// What a person, or the supervisor, needs to know now.
fn welcome(pools: &[&Role], server_name: &impl std::fmt::Display, worker: &Worker) -> String {
    let at = &worker.address;
    match pools {
        [role] => {
            format!("{READY} {} ({}) for {server_name} at {at}", role.name, role.serves)
        }
        roles => {
            let names: Vec<&str> = roles.iter().map(|role| role.name).collect();
            format!("{READY}s {} for {server_name} at {at}", names.join(", "))
        }
    }
}

/// Finds the pools somebody named.
fn pools(names: &str) -> Result<Vec<&'static Role>, Failure> {
    if names == "all" {
        return Ok(roles::all().collect());
    }
    let unknown = |name: &str| {
        let near = roles::nearest(name).map_or("client", |role| role.name);
        let names: Vec<&str> = roles::all().map(|role| role.name).collect();
        Failure::Usage(format!(
            "there is no pool {name}; did you mean {near}? The pools are {}",
            names.join(", ")
        ))
    };
    let names = names.split(',').map(str::trim);
    names.map(|name| roles::find(name).ok_or_else(|| unknown(name))).collect()
}

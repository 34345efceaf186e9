//! `colonnade worker`: one worker of a pool, for a gateway that runs elsewhere.

use colonnade_core::{Worker, logging, roles};

use crate::{
    command::{Failure, Settings, WorkerOptions},
    open_files,
    signals::{Signals, Told},
    terminal,
};

/// Runs until told to stop.
pub(crate) async fn run(settings: &Settings, options: WorkerOptions) -> Result<(), Failure> {
    let Some(role) = roles::find(&options.pool) else {
        let near = roles::nearest(&options.pool).map_or("client", |role| role.name);
        let names: Vec<&str> = roles::ROLES.iter().map(|role| role.name).collect();
        return Err(Failure::Usage(format!(
            "there is no pool {}; did you mean {near}? The pools are {}",
            options.pool,
            names.join(", ")
        )));
    };
    let config = settings.load()?;
    let _spans = logging::start(&config)?;
    open_files::allow_many();
    let mut signals = Signals::listen()?;
    let worker =
        Worker::start(&config, options.bind).await.map_err(|error| Failure::running(&error))?;
    terminal::say(&format!(
        "worker of pool {} ({}) for {} at {}",
        role.name, role.serves, config.server_name, worker.address
    ));
    // A worker has nothing to reload.
    while signals.next().await == Told::Reload {}
    signals.end_at_the_next();
    worker.stop().await;
    Ok(())
}

//! `colonnade gateway`: the front door alone, in front of workers that run elsewhere.

use std::time::Duration;

use colonnade_core::logging;
use colonnade_gateway as gateway;

use crate::{
    command::{Failure, GatewayOptions, Settings},
    notify, open_files,
    signals::{Signals, Told},
    terminal, up,
};

/// How long requests under way may take once we are told to stop: a long poll, and some more.
const GRACE: Duration = Duration::from_secs(40);

/// Runs until told to stop.
pub(crate) async fn run(settings: &Settings, options: GatewayOptions) -> Result<(), Failure> {
    let config = settings.load_or_default()?;
    let _spans = logging::start(&config)?;
    open_files::allow_many();
    let mut signals = Signals::listen()?;
    let source = up::source(Some(&options.routes));
    let mut run = gateway::RunOptions::new(source);
    run.upgrade_socket = options.upgrade_socket;
    run.spans = config.tracing.otlp_endpoint.is_some();
    let door = gateway::run(run).map_err(|error| match error {
        gateway::StartError::Config(wrong) => Failure::Usage(wrong.to_string()),
        other => Failure::running(&other),
    })?;
    let at: Vec<String> = door.addrs().iter().map(ToString::to_string).collect();
    let admin = door.admin_addr().map(|at| format!("\ngateway admin  http://{at}"));
    terminal::say(&format!("gateway at {}{}", at.join(", "), admin.unwrap_or_default()));
    notify::ready();
    let succeeded = loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Reload => up::reload(&door),
                Told::Stop => break false,
            },
            () = door.handed_over() => break true,
        }
    };
    signals.end_at_the_next();
    notify::stopping();
    match succeeded {
        true => door.retire(Duration::from_secs(options.drain_seconds)).await,
        false => door.shutdown(GRACE).await,
    }
    Ok(())
}

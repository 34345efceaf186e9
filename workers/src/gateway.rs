//! `colonnade gateway`: the front door alone, in front of workers that run elsewhere.

use std::time::Duration;

use colonnade_core::telemetry::logging;
use colonnade_gateway as gateway;

use crate::{
    command::GatewayOptions,
    failure::Failure,
    notify, open_files,
    settings::Settings,
    signals::{OperatorRequest, Signals},
    supervisor, terminal, up,
};

/// How the line begins that a gateway says once it accepts, before its addresses.
pub(crate) const READY: &str = "gateway at ";
/// What stands in that line before the address of the admin listener, if somebody supervises us.
pub(crate) const ADMIN: &str = "; admin ";
/// How long requests under way may take once we are told to stop: a long poll, and some more.
const GRACE: Duration = Duration::from_secs(40);

/// Runs until told to stop.
pub(crate) async fn run(settings: &Settings, options: GatewayOptions) -> Result<(), Failure> {
    let config = settings.load_or_default()?;
    let _spans = logging::start(&config)?;
    open_files::allow_many();
    let mut signals = Signals::listen()?;
    let mut run = match options.behind.as_slice() {
        [] => gateway::RunOptions::new(up::source(Some(&options.routes))),
        workers => up::before(&config, workers)?,
    };
    run.upgrade_socket = options.upgrade_socket;
    run.spans = config.tracing.otlp_endpoint.is_some();
    let door = gateway::run(run).map_err(|error| up::not_started(&error))?;
    terminal::say(&welcome(&door, options.supervised));
    notify::ready();
    let succeeded = loop {
        tokio::select! {
            request = signals.next() => match request {
                OperatorRequest::Reload => up::reload(&door),
                OperatorRequest::Stop => break false,
            },
            () = door.handed_over() => break true,
            () = supervisor::ends(options.supervised) => break false,
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

/// What a person, or the supervisor, needs to know now.
fn welcome(door: &gateway::Running, supervised: bool) -> String {
    let at: Vec<String> = door.addrs().iter().map(ToString::to_string).collect();
    let before = if supervised { ADMIN } else { "\ngateway admin  http://" };
    let admin = door.admin_addr().map(|at| format!("{before}{at}"));
    format!("{READY}{}{}", at.join(", "), admin.unwrap_or_default())
}

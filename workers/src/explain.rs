//! `colonnade explain`: which rule, pool, key and worker take a request, by the tables the gateway
//! itself uses.

use colonnade_core::worker::Address;
use colonnade_gateway as gateway;

use crate::{
    command::{ExplainOptions, Failure, Settings},
    terminal, up,
};

/// Explains one request.
pub(crate) fn run(settings: &Settings, options: &ExplainOptions) -> Result<(), Failure> {
    let config = settings.load()?;
    let source = up::source(config.routes.as_deref());
    let wrong = |error: gateway::config::ConfigError| Failure::Usage(error.to_string());
    let mut routes = source.read().map_err(wrong)?;
    if routes.pools.iter().all(|pool| pool.workers.is_empty()) {
        // As `up` will run it.
        let address = Address::private(&config.data_dir).to_string();
        let workers_for_all_pools = address.parse().ok().map(|worker| vec![worker]);
        let overrides = gateway::config::Overrides { workers_for_all_pools, ..Default::default() };
        routes = routes.with(&overrides);
    }
    let ExplainOptions { method, path, token, ip } = options;
    let explained = gateway::explain(&routes, &method.to_uppercase(), path, token.as_deref(), *ip);
    terminal::say(explained.map_err(wrong)?.to_string().trim_end());
    Ok(())
}

//! `colonnade explain`: which rule, pool, key and worker take a request, by the tables the gateway
//! itself uses.

use std::net::SocketAddr;

use colonnade_core::Address;
use colonnade_gateway as gateway;

use crate::{command::ExplainOptions, failure::Failure, settings::Settings, terminal, up};

/// Explains one request.
pub(crate) fn run(settings: &Settings, options: &ExplainOptions) -> Result<(), Failure> {
    let ExplainOptions { method, path, token, ip, admin } = options;
    let method = method.to_uppercase();
    if let Some(admin) = admin {
        return ask(*admin, &gateway::explain_target(&method, path, token.as_deref(), *ip));
    }
    let config = settings.load()?;
    let source = up::source(config.routes.as_deref());
    let wrong = |error: gateway::config::ConfigError| Failure::usage(&error);
    let mut routes = source.read().map_err(wrong)?;
    if routes.pools.iter().all(|pool| pool.workers.is_empty()) {
        // As `up` will run it.
        let address = Address::private(&config.data_dir).to_string();
        let workers_for_all_pools = address.parse().ok().map(|worker| vec![worker]);
        let overrides = gateway::config::Overrides { workers_for_all_pools, ..Default::default() };
        routes = routes.with(&overrides);
    }
    let explained = gateway::explain(&routes, &method, path, token.as_deref(), *ip);
    terminal::say(explained.map_err(wrong)?.to_string().trim_end());
    Ok(())
}

/// Explains under what a running gateway has in force.
fn ask(admin: SocketAddr, target: &str) -> Result<(), Failure> {
    let no_answer = |why: &dyn std::fmt::Display| {
        Failure::Running(format!("the gateway at {admin} does not explain: {why}"))
    };
    let (status, body) =
        gateway::ask_admin(admin, "GET", target, "").map_err(|error| no_answer(&error))?;
    if status != 200 {
        return Err(no_answer(&body));
    }
    let explained: gateway::Explanation =
        serde_json::from_str(&body).map_err(|error| no_answer(&error))?;
    terminal::say(explained.to_string().trim_end());
    Ok(())
}

//! `colonnade check`: proves that the configuration can be read and that routes and endpoints fit.

use colonnade_core::endpoints;
use colonnade_gateway as gateway;

use crate::{
    command::{Failure, Settings},
    terminal, up,
};

/// Checks, and says what was found.
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    let config = settings.load()?;
    let source = up::source(config.routes.as_deref());
    let routes = source.read().map_err(|error| Failure::Usage(error.to_string()))?;
    let endpoints = gateway::parse_endpoints(&endpoints());
    let problems =
        gateway::check(&routes, &endpoints).map_err(|error| Failure::Usage(error.to_string()))?;
    if !problems.is_empty() {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(Failure::Usage(format!("{} is wrong:\n{}", routes.name, lines.join("\n"))));
    }
    let file = settings.path();
    let file = if file.exists() { file.display().to_string() } else { "the defaults".to_owned() };
    terminal::say(&format!("configuration  {file}: right, for {}", config.server_name));
    terminal::say(&format!(
        "routes         {}: right, {} rules and {} pools for {} endpoints",
        routes.name,
        routes.routes.len(),
        routes.pools.len(),
        endpoints.len()
    ));
    Ok(())
}

//! `colonnade check`: proves that the configuration can be read and that routes and endpoints fit; with
//! `--admin` also that a gateway that runs has such routes in force, and those of its file.

use std::net::SocketAddr;

use colonnade_core::endpoints;
use colonnade_gateway as gateway;

use crate::{command::CheckOptions, failure::Failure, settings::Settings, terminal, up};

/// Checks, and says what was found.
pub(crate) fn run(settings: &Settings, options: &CheckOptions) -> Result<(), Failure> {
    let config = settings.load()?;
    let source = up::source(config.routes.as_deref());
    let routes = source.read().map_err(|error| Failure::usage(&error))?;
    let list = endpoints();
    let endpoints = gateway::parse_endpoints(&list);
    let problems = gateway::check(&routes, &endpoints).map_err(|error| Failure::usage(&error))?;
    if !problems.is_empty() {
        return Err(wrong(&routes.name, &problems));
    }
    let unused = up::unused_listeners(&config, &routes);
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
    match unused {
        Ok(None) => {}
        Ok(Some(unused)) => terminal::say(&format!("for up         {unused}")),
        // A gateway of its own is what such a file is for.
        Err(Failure::Usage(why) | Failure::Running(why)) => {
            terminal::say(&format!("not for up     {why}"));
        }
    }
    if options.table {
        terminal::say(&gateway::rule_lines(&routes).join("\n"));
    }
    match options.admin {
        Some(admin) => running(admin, &list),
        None => Ok(()),
    }
}

fn wrong(name: &str, problems: &[gateway::Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Failure::Usage(format!("{name} is wrong:\n{}", lines.join("\n")))
}

/// Checks the table that the gateway with this admin listener has in force.
fn running(admin: SocketAddr, endpoints: &str) -> Result<(), Failure> {
    let no_answer = |why: &dyn std::fmt::Display| {
        Failure::Running(format!("the gateway at {admin} does not answer: {why}"))
    };
    let ask = |target: &str, body: &str| {
        gateway::ask_admin(admin, "POST", target, body).map_err(|error| no_answer(&error))
    };
    let (status, body) = ask("/check", endpoints)?;
    if status != 200 {
        return Err(no_answer(&format!("{status} {body}")));
    }
    let checked: gateway::Checked =
        serde_json::from_str(&body).map_err(|error| no_answer(&error))?;
    if !checked.problems.is_empty() {
        return Err(wrong(&format!("what {admin} has in force"), &checked.problems));
    }
    let (status, body) = ask("/reload?dry_run", "")?;
    if status == 422 {
        return Err(Failure::Usage(format!(
            "{admin} cannot read {} any more, and goes on with version {}: {body}",
            checked.file, checked.version
        )));
    }
    let report: gateway::ReloadReport =
        serde_json::from_str(&body).map_err(|error| no_answer(&error))?;
    if !report.changes.is_empty() {
        return Err(Failure::Usage(format!(
            "{admin} has something else in force than {} says:\n{}",
            checked.file,
            report.changes.join("\n")
        )));
    }
    terminal::say(&format!(
        "running        {admin}: version {} of {}, {} rules and {} pools for {} endpoints",
        checked.version, checked.file, checked.rules, checked.pools, checked.endpoints
    ));
    Ok(())
}

//! `colonnade routes`: routes files as such, also those in front of somebody else's workers.

use std::path::Path;

use colonnade_gateway as gateway;
use gateway::config::Config;

use crate::{command::RoutesCommand, failure::Failure, terminal};

/// Does what is asked of routes files.
pub(crate) fn run(what: &RoutesCommand) -> Result<(), Failure> {
    match what {
        RoutesCommand::Check { file } => check(file),
        RoutesCommand::Diff { before, after } => diff(before, after),
        RoutesCommand::ImportNginx { file } => import_nginx(file),
    }
}

fn load(file: &Path) -> Result<Config, Failure> {
    Config::load(file).map_err(|error| Failure::usage(&error))
}

fn check(file: &Path) -> Result<(), Failure> {
    let config = load(file)?;
    let problems = gateway::check(&config, &[]).map_err(|error| Failure::usage(&error))?;
    if !problems.is_empty() {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(Failure::Usage(lines.join("\n")));
    }
    let (rules, pools) = (config.routes.len(), config.pools.len());
    terminal::say(&format!("{}: right, {rules} rules and {pools} pools", config.name));
    Ok(())
}

fn diff(before: &Path, after: &Path) -> Result<(), Failure> {
    let changes = gateway::compare(&load(before)?, &load(after)?);
    let changes = changes.map_err(|error| Failure::usage(&error))?;
    match changes.is_empty() {
        true => terminal::say("nothing would change"),
        false => terminal::say(&changes.join("\n")),
    }
    Ok(())
}

fn import_nginx(file: &Path) -> Result<(), Failure> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Usage(format!("cannot read {name}: {error}")))?;
    let imported = gateway::import_nginx(&name, &text)
        .map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
    terminal::say(imported.routes.trim_end());
    for note in imported.notes {
        let place = if note.line == 0 { name.clone() } else { format!("{name}:{}", note.line) };
        terminal::complain(&format!("{place}: {}", note.text));
    }
    Ok(())
}

//! `colonnade db`: the database without a server: up to date, from SQLite to PostgreSQL, and
//! after a backup was put back.

use std::{
    io::IsTerminal as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use colonnade_core::{Config, config::Location, db};

use crate::{failure::Failure, settings::Settings, terminal};

/// How often a copy says how far it is, where it does not speak to a terminal.
const SAY_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct DbOptions {
    #[command(subcommand)]
    what: DbCommand,
}

#[derive(Debug, Subcommand)]
enum DbCommand {
    /// Brings the tables of the configured database up to date, as a start would
    Migrate {
        /// Only says which changes would be made
        #[arg(long)]
        dry_run: bool,
    },
    /// Moves everything from SQLite to an empty PostgreSQL database
    #[command(after_help = "Example:\n  colonnade db copy --from sqlite:data/colonnade.db \
                            --to postgres://colonnade@localhost/colonnade\n\n\
                            Stop the server first. If it is interrupted, say the same again: it goes \
                            on where it stopped. At the end every table is compared. The file, the \
                            signing key and the media stay where they are; afterwards set \
                            database.url and start.")]
    Copy {
        /// The file, sqlite:PATH; the one of the data folder unless told otherwise
        #[arg(long, value_name = "sqlite:PATH")]
        from: Option<String>,
        /// The database; database.url of the configuration unless told otherwise, which keeps its
        /// password out of the list of processes
        #[arg(long, value_name = "postgres://USER@HOST/NAME")]
        to: Option<String>,
    },
    /// Says that the database was put back to an earlier copy: once, before the first start on it
    #[command(
        after_help = "Clients were told of events that the copy does not have. After this, new events \
                            stand above anything a client may have been told, so that nobody misses one; \
                            and one-time keys are dropped, for some were handed out since the copy was \
                            made (clients upload others). Stop the server first."
    )]
    Restored,
}

/// Does what was asked for.
pub(crate) async fn run(settings: &Settings, options: DbOptions) -> Result<(), Failure> {
    let config = settings.load_or_default()?;
    match options.what {
        DbCommand::Migrate { dry_run } => migrate(&config, dry_run).await,
        DbCommand::Copy { from, to } => copy(&config, from, to).await,
        DbCommand::Restored => restored(&config).await,
    }
}

async fn restored(config: &Config) -> Result<(), Failure> {
    let keys = db::restored(&config.database).await.map_err(|error| Failure::running(&error))?;
    terminal::say(&format!(
        "new events stand above everything clients were told; {keys} one-time keys were dropped"
    ));
    Ok(())
}

async fn migrate(config: &Config, dry_run: bool) -> Result<(), Failure> {
    let pending = db::pending(&config.database).await.map_err(|error| Failure::running(&error))?;
    if !pending.newer.is_empty() {
        terminal::say(&format!(
            "a newer version was here (migrations {:?}), beside which this one may run",
            pending.newer
        ));
    }
    if pending.missing.is_empty() {
        terminal::say("the database is up to date");
        return Ok(());
    }
    if !dry_run {
        db::migrate(&config.database).await.map_err(|error| Failure::running(&error))?;
    }
    let verb = if dry_run { "would be made" } else { "made" };
    terminal::say(&format!("{} changes {verb}:", pending.missing.len()));
    for change in &pending.missing {
        let note = change.needs.map_or(String::new(), |needs| {
            format!("  (takes something away: only versions that know {needs:04} run on it then)")
        });
        terminal::say(&format!("  {}{note}", change.name));
    }
    Ok(())
}

async fn copy(config: &Config, from: Option<String>, to: Option<String>) -> Result<(), Failure> {
    let from = source(config, from)?;
    let to = target(config, to)?;
    let begun = Instant::now();
    let mut said = ProgressLine::new();
    let copied = db::copy(&from, &to, |step| said.progress(&step)).await;
    said.end();
    let copied = copied.map_err(|error| Failure::running(&error))?;
    let mut rows = 0;
    for table in &copied {
        rows += table.sum.rows;
        let digest = format!("{:032x}", table.sum.digest);
        terminal::say(&format!("{:<24}{:>12} rows  digest {digest}", table.table, table.sum.rows));
        for mended in &table.mended {
            terminal::say(&format!(
                "  mended, since PostgreSQL keeps no U+0000: {} of the row {} is {:?} now",
                mended.column, mended.key, mended.text
            ));
        }
        let more = table.mended_count - table.mended.len() as u64;
        if more > 0 {
            terminal::say(&format!("  and {more} more"));
        }
    }
    terminal::say(&format!(
        "{} tables with {rows} rows are the same in both, after {:.1} s. Now set database.url in the \
         configuration and start the server; keep {} until you are content.",
        copied.len(),
        begun.elapsed().as_secs_f64(),
        from.display()
    ));
    Ok(())
}

fn source(config: &Config, from: Option<String>) -> Result<PathBuf, Failure> {
    let Some(from) = from else { return Ok(config.data_dir.join("colonnade.db")) };
    match from.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() => Ok(path.into()),
        _ => Err(Failure::Usage(
            "copies go from SQLite to PostgreSQL: write --from sqlite:data/colonnade.db".to_owned(),
        )),
    }
}

fn target(config: &Config, to: Option<String>) -> Result<String, Failure> {
    let url = match (to, &config.database) {
        (Some(to), _) => to,
        (None, Location::Postgres { url, direct_url, .. }) => {
            direct_url.clone().unwrap_or_else(|| url.clone())
        }
        (None, Location::Sqlite(_)) => String::new(),
    };
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(url);
    }
    // What was written may hold a password.
    Err(Failure::Usage(
        "say where to: --to postgres://user:password@host/database, or database.url in the \
         configuration"
            .to_owned(),
    ))
}

/// One line that is written over on a terminal, a line now and then elsewhere.
struct ProgressLine {
    on_terminal: bool,
    last: Option<Instant>,
}

impl ProgressLine {
    fn new() -> Self {
        Self { on_terminal: std::io::stderr().is_terminal(), last: None }
    }

    fn progress(&mut self, step: &db::Progress<'_>) {
        let what = if step.comparing { "comparing" } else { "copying" };
        let line = format!("{what} {}: {} of {} rows", step.table, step.rows, step.rows_total);
        if self.on_terminal {
            terminal::over(&line);
        } else if self.last.is_none_or(|last| last.elapsed() >= SAY_EVERY) {
            self.last = Some(Instant::now());
            terminal::complain(&line);
        }
    }

    fn end(&self) {
        if self.on_terminal {
            terminal::over("");
        }
    }
}

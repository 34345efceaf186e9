//! The `colonnade` command: reads the command line, hands it to one file per command, and turns what
//! they return into an exit code. Decides nothing about Matrix.
//!
//! Exit codes: 0 done, 1 it failed while running, 2 the command line or the configuration is wrong.

mod admin;
mod check;
mod command;
mod db;
mod explain;
mod failure;
mod fleet;
mod gateway;
mod notify;
mod open_files;
mod routes;
mod settings;
mod signals;
mod small_pages;
mod supervisor;
mod terminal;
mod up;
mod worker;

use crate::command::{Arguments, Command};
use crate::failure::Failure;
use crate::up::UpOptions;

/// Fewer page faults and less memory after a load than the system's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let arguments = Arguments::read(std::env::args_os());
    small_pages::prefer();
    match run(arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            terminal::complain(&failure.to_string());
            failure.code().into()
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { command, settings } = arguments;
    match command.unwrap_or(Command::Up(UpOptions::default())) {
        Command::Up(options) => {
            let settings = settings.with(&options);
            match options.workers {
                Some(count) => block_on(fleet::run(&settings, count)),
                None => block_on(up::run(&settings)),
            }
        }
        Command::Status => fleet::status::run(&settings),
        Command::Worker(options) => block_on(worker::run(&settings, options)),
        Command::Gateway(options) => block_on(gateway::run(&settings, options)),
        Command::Check(options) => check::run(&settings, &options),
        Command::Explain(options) => explain::run(&settings, &options),
        Command::Routes(options) => routes::run(&options.what),
        Command::Admin(options) => block_on(admin::run(&settings, options)),
        Command::Db(options) => block_on(db::run(&settings, options)),
        Command::Version => {
            terminal::say(&format!("colonnade {}", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Running(format!("cannot start a runtime: {error}")))?;
    runtime.block_on(work)
}

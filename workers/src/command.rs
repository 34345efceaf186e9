//! The command line: what can be said, and the help that teaches it.

use std::{
    ffi::{OsStr, OsString},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};
use colonnade_core::Address;

use crate::{settings::Settings, up::UpOptions};

/// A Matrix homeserver in one command.
#[derive(Debug, Parser)]
#[command(
    name = "colonnade",
    version,
    about = "A Matrix homeserver: a row of workers behind one front door",
    long_about = "A Matrix homeserver: a row of workers behind one front door.\n\n\
        Without a command it does what `colonnade up` does: everything in one process, on SQLite. The \
        first start writes a commented colonnade.yaml, makes a signing key and a database, and says \
        what to do next.",
    after_help = "Examples:\n  \
        colonnade                              start here, as localhost, for trying things out\n  \
        colonnade --server-name example.org    the same under a name of your own (it cannot change later)\n  \
        colonnade check                        is the configuration right?\n  \
        colonnade explain GET /_matrix/client/v3/sync\n                                         \
        which route, pool and worker take this request?\n  \
        colonnade admin create-user alice      make an account; asks for the password on standard input\n\n\
        Settings come from colonnade.yaml, then the environment (COLONNADE_LOGGING__LEVEL=debug), then \
        flags;\nthe last one wins. Help on one command: colonnade help COMMAND"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

impl Arguments {
    /// Reads a command line. Prints help, or what is wrong with it, and ends the process where that is
    /// all there is to do.
    pub(crate) fn read(line: impl IntoIterator<Item = OsString>) -> Self {
        Self::parse_from(settings_first(line))
    }
}

/// Puts every `--set` of a command line behind the program's name: those said before a command would be
/// forgotten if others come after it, since for clap a later level replaces what an earlier one says.
fn settings_first(line: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    const SET: &str = "--set";
    let is_joined = |word: &OsStr| word.as_encoded_bytes().starts_with(b"--set=");
    let mut words = line.into_iter();
    let mut first: Vec<OsString> = words.next().into_iter().collect();
    let mut rest = Vec::new();
    while let Some(word) = words.next() {
        if word == SET {
            first.push(word);
            first.extend(words.next());
        } else if is_joined(&word) {
            first.push(word);
        } else if word == "--" {
            rest.push(word);
            rest.extend(words.by_ref());
        } else {
            rest.push(word);
        }
    }
    first.append(&mut rest);
    first
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything in one process: the gateway in front, the homeserver behind it (the default)
    #[command(
        after_help = "SIGTERM or Ctrl-C stops cleanly: nothing new is accepted, waiting clients are \
                      answered, writes finish. A second one stops at once. SIGHUP reloads the routes.\n\n\
                      With --workers the homeserver is that many processes over one PostgreSQL, behind a \
                      gateway process; they are started again when they end. SIGHUP replaces them one by \
                      one, the gateway last, without a request failing, and so upgrades the program when its \
                      file was replaced. Example:\n  \
                      colonnade up --workers 4 --database postgres://colonnade@localhost/colonnade --redis \
                      redis://127.0.0.1:6379"
    )]
    Up(UpOptions),
    /// Tells how the processes of `colonnade up --workers` are
    #[command(
        after_help = "Exit code 0: every process runs. 1: nothing runs, or not every process."
    )]
    Status,
    /// One worker of a pool, without a gateway
    #[command(after_help = "Example:\n  colonnade worker --pool sync --bind 127.0.0.1:9101\n\n\
                      On SQLite only one process can have the data folder; use PostgreSQL for more.")]
    Worker(WorkerOptions),
    /// The gateway alone, in front of workers that run elsewhere
    #[command(after_help = "Example:\n  colonnade gateway --routes routes.yaml\n\n\
                            Workers and listeners stand in the routes file. SIGHUP reloads it.\n\n\
                            To replace a running gateway without losing a connection, start both with the same\n\
                            --upgrade-socket; the second takes over, the first drains and ends.")]
    Gateway(GatewayOptions),
    /// Tells whether the configuration and the routes are right
    #[command(
        after_help = "Exit code 0: all is right. 2: something is wrong, each thing on a line.\n\n\
                      With --admin the table a running gateway has in force is checked, too, and whether it \
                      is that of its file."
    )]
    Check(CheckOptions),
    /// Tells which route, pool, key and worker take a request, and why
    #[command(after_help = "Example:\n  colonnade explain PUT \
                            '/_matrix/client/v3/rooms/!r:localhost/send/m.room.message/1'")]
    Explain(ExplainOptions),
    /// Routes files: check one, compare two, make one from an nginx configuration
    Routes(RoutesOptions),
    /// Accounts: create one, set a password, deactivate one
    #[command(
        after_help = "Works on a running `colonnade up` or `worker` of the same data folder, and \
                            on the database itself when none runs."
    )]
    Admin(AdminOptions),
    /// The database: bring it up to date, move it from SQLite to PostgreSQL
    Db(crate::db::DbOptions),
    /// Prints the version
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerOptions {
    /// The pools, as routes call them, and roles (background, pusher, federation_sender), with commas
    /// between them; `all` is every one
    #[arg(long, value_name = "NAMES")]
    pub(crate) pool: String,
    /// What this worker is called in the log and in the map of workers
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Where gateway and other workers reach it, if not at --bind: when that is 0.0.0.0, say
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) reached_at: Option<Address>,
    /// Where the gateway reaches this worker: an address and port, or unix:PATH
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9101")]
    pub(crate) bind: Address,
    /// Stop when standard input ends: whoever supervises us is gone
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
    /// Take others for dead after so long a silence only: for tests on machines that stall
    #[arg(long, hide = true, value_name = "MS")]
    pub(crate) patience_ms: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayOptions {
    /// The routes file
    #[arg(long, value_name = "FILE", default_value = "routes.yaml")]
    pub(crate) routes: PathBuf,
    /// A unix socket by which the next gateway process takes over the listeners of this one
    #[arg(long, value_name = "PATH")]
    pub(crate) upgrade_socket: Option<PathBuf>,
    /// How long this process answers its open connections after another one took over
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) drain_seconds: u64,
    /// Stand before these workers, each of every pool, as `up` does: listeners and routes come from the
    /// configuration
    #[arg(long, hide = true, value_delimiter = ',', value_name = "ADDRESSES")]
    pub(crate) behind: Vec<String>,
    /// Stop when standard input ends: whoever supervises us is gone
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// Check the gateway that runs, too, at its admin listener
    #[arg(long, value_name = "URL", value_parser = colonnade_gateway::admin_address)]
    pub(crate) admin: Option<SocketAddr>,
    /// Print every rule
    #[arg(long)]
    pub(crate) table: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainOptions {
    /// GET, PUT, POST, …
    pub(crate) method: String,
    /// The path as it is sent, with its query if it has one
    pub(crate) path: String,
    /// An access token the request would carry
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// The address the request would come from
    #[arg(long)]
    pub(crate) ip: Option<IpAddr>,
    /// Ask the gateway that runs, at its admin listener, instead of the files
    #[arg(long, value_name = "URL", value_parser = colonnade_gateway::admin_address)]
    pub(crate) admin: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct RoutesOptions {
    #[command(subcommand)]
    pub(crate) what: RoutesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoutesCommand {
    /// Tells whether a routes file is right, whatever server it stands in front of
    Check {
        /// The routes file
        file: PathBuf,
    },
    /// Tells what would change, and which share of each pool's keys would move
    Diff {
        /// The routes file in force
        before: PathBuf,
        /// The one to take its place
        after: PathBuf,
    },
    /// Prints a routes file made from an nginx configuration, and on standard error what to look at
    ImportNginx {
        /// The nginx configuration
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AdminOptions {
    #[command(subcommand)]
    pub(crate) what: AdminCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Creates an account; the password is the first line of standard input
    CreateUser {
        /// The name, `alice` or `@alice:example.org`
        user: String,
        /// The account may administrate the server
        #[arg(long)]
        admin: bool,
    },
    /// Sets a password and logs all devices out; the password is the first line of standard input
    ResetPassword {
        /// The name, `alice` or `@alice:example.org`
        user: String,
    },
    /// Signs with a new key from now on; other servers go on trusting what was signed with the one of before
    RotateSigningKey,
    /// Deactivates an account for good: nobody can log in to it or take its name again
    Deactivate {
        /// The name, `alice` or `@alice:example.org`
        user: String,
        /// Forget the profile, too
        #[arg(long)]
        erase: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
        let arguments = Arguments::parse_from(["colonnade", "check", "--set", "a.b=c=d"]);
        let flags = arguments.settings.flags().unwrap();
        assert_eq!((flags[0].key.as_str(), flags[0].value.as_str()), ("a.b", "c=d"));
    }

    fn read(line: &str) -> Arguments {
        Arguments::read(line.split(' ').map(OsString::from))
    }

    #[test]
    fn settings_before_and_after_a_command_count() {
        let arguments =
            read("colonnade --set a=1 --set=b=2 admin --set c=3 create-user --set d=4 x");
        assert_eq!(arguments.settings.set, ["a=1", "b=2", "c=3", "d=4"]);
        let Some(Command::Admin(AdminOptions { what: AdminCommand::CreateUser { user, .. } })) =
            arguments.command
        else {
            panic!("the command is the same: {arguments:?}")
        };
        assert_eq!(user, "x");
        // What follows `--` is no flag.
        let arguments = read("colonnade routes --set a=1 check -- --set");
        assert_eq!(arguments.settings.set, ["a=1"]);
        assert!(matches!(arguments.command, Some(Command::Routes(_))));
    }
}

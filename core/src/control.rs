//! Commands of the operator to a running homeserver: a unix socket in the data folder that only the
//! server's own user may open. One JSON line in, one JSON line out, one command per connection. The
//! same commands run on the services directly when no server runs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use colonnade_model::ruma::{OwnedUserId, UserId};
use colonnade_rooms::Error;
use colonnade_services::Services;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};
use tokio_util::sync::CancellationToken;

use crate::{listener::REFUSED_PAUSE, signing_keys};

/// What the socket is called in the data folder.
const SOCKET_NAME: &str = "admin.sock";
/// The longest command, in bytes: a user id, a password and some JSON.
const COMMAND_BYTES_MAX: u64 = 16 * 1024;
/// How long somebody who connected may take to say what he wants.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// What the operator can ask for.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Make an account.
    CreateUser {
        /// The name or the user id.
        user: String,
        /// Its password.
        password: String,
        /// Whether it may administrate the server.
        admin: bool,
    },
    /// Set a password and log all devices out.
    ResetPassword {
        /// The name or the user id.
        user: String,
        /// The new password.
        password: String,
    },
    /// Sign with a new key from now on.
    RotateSigningKey,
    /// Close an account for good.
    Deactivate {
        /// The name or the user id.
        user: String,
        /// Whether the user's profile is forgotten, too.
        erase: bool,
    },
}

/// What came of it, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done.
    Done(String),
    /// It is not, and why.
    Failed(String),
}

/// Returns the socket of the homeserver that has this data folder.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET_NAME)
}

/// Asks the running homeserver; `None` when none runs.
///
/// # Errors
/// When the connection breaks before the answer: whether it was done is not known.
pub async fn ask(data_dir: &Path, command: &Command) -> std::io::Result<Option<Outcome>> {
    let Ok(mut connection) = UnixStream::connect(socket_path(data_dir)).await else {
        return Ok(None);
    };
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    connection.write_all(&line).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(Some(serde_json::from_str(&answer)?))
}

/// Answers commands until `stop` is cancelled, one connection at a time: there is one operator.
pub(crate) async fn serve(socket: UnixListener, services: Arc<Services>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((connection, _)) = accepted else {
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        };
        if let Err(error) = converse(connection, &services).await {
            tracing::debug!(%error, "an operator's connection ended early");
        }
    }
}

async fn converse(connection: UnixStream, services: &Services) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    let mut line = String::new();
    let mut limited = (&mut connection).take(COMMAND_BYTES_MAX);
    tokio::time::timeout(COMMAND_TIMEOUT, limited.read_line(&mut line)).await??;
    let outcome = match serde_json::from_str::<Command>(&line) {
        Ok(command) => run(services, command).await,
        // The text may hold a password: it is not repeated.
        Err(_) => Outcome::Failed("this server does not know that command".to_owned()),
    };
    let mut answer = serde_json::to_vec(&outcome)?;
    answer.push(b'\n');
    connection.get_mut().write_all(&answer).await
}

/// Does what a command says.
pub async fn run(services: &Services, command: Command) -> Outcome {
    match try_run(services, command).await {
        Ok(done) => Outcome::Done(done),
        Err(Error::Client(error)) => Outcome::Failed(error.message),
        Err(Error::UserInteractive(_)) => Outcome::Failed("more proof is needed".to_owned()),
        Err(Error::Internal { doing, cause }) => {
            Outcome::Failed(format!("cannot {doing}: {cause}"))
        }
    }
}

async fn try_run(services: &Services, command: Command) -> Result<String, Error> {
    match command {
        Command::CreateUser { user, password, admin } => {
            let user_id = services.accounts.create_user(&user, &password, admin).await?;
            Ok(format!("{user_id} can log in now"))
        }
        Command::ResetPassword { user, password } => {
            let user_id = user_id(services, &user)?;
            services.accounts.reset_password(&user_id, &password).await?;
            Ok(format!("{user_id} has a new password and is logged out everywhere"))
        }
        Command::RotateSigningKey => signing_keys::rotate(&services.context).await,
        Command::Deactivate { user, erase } => {
            let user_id = user_id(services, &user)?;
            services.deactivate(&user_id, erase).await?;
            Ok(format!("{user_id} is deactivated"))
        }
    }
}

/// Reads `alice` or `@alice:here`.
fn user_id(services: &Services, name: &str) -> Result<OwnedUserId, Error> {
    let here = &services.context.server_name;
    let full = if name.starts_with('@') { name.to_owned() } else { format!("@{name}:{here}") };
    let parsed = UserId::parse(full).map_err(|error| {
        let why = format!("`{name}` is not a user: {error}; write it like alice or @alice:{here}");
        colonnade_model::MatrixError::invalid_username(why)
    })?;
    Ok(parsed)
}

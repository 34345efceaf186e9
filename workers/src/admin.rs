//! `colonnade admin`: accounts and the signing key, by hand. Speaks to the server that runs, or opens the database itself
//! when none does. Passwords come over standard input, so that no list of processes shows them.

use std::io::{BufRead as _, IsTerminal as _};

use colonnade_core::{
    Homeserver,
    control::{self, Command, Outcome},
    worker,
};

use crate::{
    command::{AdminCommand, AdminOptions},
    failure::Failure,
    settings::Settings,
    terminal,
};

/// Does one thing to one account.
pub(crate) async fn run(settings: &Settings, options: AdminOptions) -> Result<(), Failure> {
    let config = settings.load()?;
    let command = match options.what {
        AdminCommand::CreateUser { user, admin } => {
            Command::CreateUser { user, password: password()?, admin }
        }
        AdminCommand::ResetPassword { user } => {
            Command::ResetPassword { user, password: password()? }
        }
        AdminCommand::RotateSigningKey => Command::RotateSigningKey,
        AdminCommand::Deactivate { user, erase } => Command::Deactivate { user, erase },
    };
    let asked = control::ask(&config.data_dir, &command).await;
    let asked = asked.map_err(|error| {
        Failure::Running(format!("the server went away before it answered: {error}"))
    })?;
    let outcome = match asked {
        Some(outcome) => outcome,
        None => {
            let homeserver = Homeserver::start(worker::options(&config)).await;
            let homeserver = homeserver.map_err(|error| Failure::running(&error))?;
            let outcome = control::run(&homeserver.services, command).await;
            homeserver.close().await;
            outcome
        }
    };
    match outcome {
        Outcome::Done(what) => {
            terminal::say(&what);
            Ok(())
        }
        Outcome::Failed(why) => Err(Failure::Running(why)),
    }
}

/// Reads the password from standard input.
fn password() -> Result<String, Failure> {
    let input = std::io::stdin();
    if input.is_terminal() {
        terminal::say("Password (one line, shown as you type):");
    }
    let mut line = String::new();
    let read = input.lock().read_line(&mut line);
    read.map_err(|error| Failure::Running(format!("cannot read the password: {error}")))?;
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(Failure::Usage(
            "no password: write it on standard input, for example `colonnade admin create-user \
             alice < password.txt`"
                .to_owned(),
        ));
    }
    Ok(password)
}

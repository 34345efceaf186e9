//! `colonnade admin`: accounts, by hand.

use crate::command::{AdminOptions, Failure, Settings};

/// Does one thing to one account.
pub(crate) async fn run(settings: &Settings, _options: AdminOptions) -> Result<(), Failure> {
    let _config = settings.load()?;
    Err(Failure::Running("accounts cannot be managed from here yet".to_owned()))
}

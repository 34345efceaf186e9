//! An account that is to be made.

use colonnade_model::ruma::UserId;

use super::cleared;

/// The password of a new account.
#[derive(Clone)]
pub(super) enum NewPassword<'p> {
    /// As it was given.
    Plain(&'p str),
    /// The PHC string of one that was given before.
    Hashed(String),
}

/// A new account.
pub(super) struct NewAccount<'n> {
    pub(super) user_id: &'n UserId,
    pub(super) password: Option<NewPassword<'n>>,
    pub(super) admin: bool,
    pub(super) user_type: Option<String>,
    pub(super) guest: bool,
    /// What it took to be allowed to make it.
    pub(super) cleared: cleared::Cleared,
}

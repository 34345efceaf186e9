//! End-to-end encryption as far as a server has a part in it: it keeps public keys, hands each
//! one-time key out once, checks who may sign what, and tells users whose keys to look at again. It
//! cannot read messages and never holds a private key.
//!
//! Source: Matrix v1.19, client-server, "End-to-End Encryption".

mod claim;
mod counts;
mod cross_signing;
mod key_counts;
mod lists;
mod query;
mod signatures;
mod signed;
mod upload;

use std::sync::Arc;

use colonnade_model::ruma::{ServerName, UserId};
use colonnade_rooms::Context;
use serde_json::{Value, json};

use crate::{accounts::Accounts, limits::Limits};

pub use lists::DeviceListChanges;

/// Keys of devices and users.
pub struct Encryption {
    context: Arc<Context>,
    accounts: Arc<Accounts>,
    limits: Arc<Limits>,
    counts: key_counts::Counts,
}

impl Encryption {
    /// Keys are changed after a proof by `accounts`; claims count against `limits`.
    pub fn new(context: Arc<Context>, accounts: Arc<Accounts>, limits: Arc<Limits>) -> Self {
        Self { context, accounts, limits, counts: key_counts::Counts::default() }
    }

    /// Returns the server of a user who is not ours.
    fn elsewhere<'u>(&self, user_id: &'u UserId) -> Option<&'u ServerName> {
        let server = user_id.server_name();
        (*server != *self.context.server_name).then_some(server)
    }
}

/// What stands in `failures` for a server that was not asked.
fn unreachable_server() -> Value {
    json!({ "status": 503, "message": "this server does not reach other servers yet" })
}

//! End-to-end encryption as far as a server has a part in it: it keeps public keys, hands each
//! one-time key out once, checks who may sign what, and tells users whose keys to look at again. It
//! cannot read messages and never holds a private key.
//!
//! Source: Matrix v1.19, client-server, "End-to-End Encryption".

mod claim;
mod counts;
mod cross_signing;
mod elsewhere;
mod key_counts;
mod lists;
mod published;
mod query;
mod remote_lists;
mod signatures;
mod signed;
mod upload;

use std::{collections::HashSet, sync::Arc};

use colonnade_federation::messaging::Messaging;
use colonnade_model::{
    nid::UserNid,
    ruma::{ServerName, UserId},
};
use colonnade_rooms::Context;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{accounts::Accounts, limits::Limits};

pub use lists::DeviceListChanges;
pub use remote_lists::{DeviceListUpdate, SigningKeyUpdate};

/// Device lists that are asked for at a time because of what other servers say.
const RESYNCS_AT_ONCE: usize = 8;

/// Keys of devices and users.
pub struct Encryption {
    context: Arc<Context>,
    accounts: Arc<Accounts>,
    limits: Arc<Limits>,
    counts: key_counts::Counts,
    messaging: Messaging,
    /// Whose lists are being asked for because of what their servers said.
    resyncing: Mutex<HashSet<UserNid>>,
    resyncs: Semaphore,
}

impl Encryption {
    /// Keys are changed after a proof by `accounts`; claims count against `limits`. Other servers are asked by
    /// `messaging`.
    pub fn new(
        context: Arc<Context>,
        accounts: Arc<Accounts>,
        limits: Arc<Limits>,
        messaging: Messaging,
    ) -> Self {
        Self {
            context,
            accounts,
            limits,
            messaging,
            counts: key_counts::Counts::default(),
            resyncing: Mutex::default(),
            resyncs: Semaphore::new(RESYNCS_AT_ONCE),
        }
    }

    /// Returns the server of a user who is not ours.
    fn elsewhere<'u>(&self, user_id: &'u UserId) -> Option<&'u ServerName> {
        let server = user_id.server_name();
        (*server != *self.context.server_name).then_some(server)
    }
}

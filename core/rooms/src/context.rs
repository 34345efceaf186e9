//! What every service stands on: the database, the streams, the clock, randomness, who we are.

use std::sync::Arc;

use colonnade_model::{Clock, Random, ruma::OwnedServerName, token::TokenKey};
use colonnade_replication::{Slots, Streams};
use colonnade_storage::{
    Database,
    rooms::{interned::Interned, nids::AllNids},
};

use crate::{rpc::RpcClient, settings::Settings, signing_key::SigningKey};

/// Shared by all services; built by the assembly.
pub struct Context {
    /// The name behind the colon in our users' ids.
    pub server_name: OwnedServerName,
    /// What the operator decided.
    pub settings: Settings,
    /// The database.
    pub db: Database,
    /// Names as integers.
    pub interned: Interned,
    /// New local ids.
    pub nids: AllNids,
    /// Positions and the bus.
    pub streams: Arc<Streams>,
    /// Which process owns what.
    pub slots: Arc<Slots>,
    /// The way to other processes.
    pub carrier: Arc<dyn RpcClient>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Signs our events.
    pub signing_key: SigningKey,
    /// Seals sync tokens.
    pub token_key: TokenKey,
    /// Keys the digests of room states; never leaves this server.
    pub digest_key: [u8; 32],
    /// The folder for what does not go into the database (media).
    pub data_dir: std::path::PathBuf,
}

impl Context {
    /// Returns the time now, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
}

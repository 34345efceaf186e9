//! Transactions as they come in: seen before or not, split into events and ephemeral messages, one at a time
//! for each server. It may import `keys` and `transport`.
//!
//! Source: Matrix v1.19, server-server, "Transactions".

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{OwnedServerName, ServerName},
};
use colonnade_rooms::Result;
use colonnade_storage::{Database, federation::transactions};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::OwnedMutexGuard;

/// PDUs in a transaction at most.
pub const PDUS_MAX: usize = 50;
/// EDUs in a transaction at most.
pub const EDUS_MAX: usize = 100;
/// Servers of which it is known whether a transaction of theirs is being taken.
const ORIGINS_MAX: usize = 10_000;

/// What a transaction carries.
#[derive(Debug, Deserialize)]
pub struct Transaction {
    /// Events of rooms.
    #[serde(default)]
    pub pdus: Vec<Box<RawValue>>,
    /// What is no event: ephemeral messages, device lists, messages to devices.
    #[serde(default)]
    pub edus: Vec<Box<RawValue>>,
}

impl Transaction {
    /// Reads a transaction.
    ///
    /// # Errors
    /// `M_BAD_JSON`: also when it carries more than may be.
    pub fn read(body: &[u8]) -> Result<Self, MatrixError> {
        let transaction: Self = serde_json::from_slice(body)
            .map_err(|error| MatrixError::bad_json(error.to_string()))?;
        if transaction.pdus.len() > PDUS_MAX || transaction.edus.len() > EDUS_MAX {
            let why = format!("a transaction has at most {PDUS_MAX} PDUs and {EDUS_MAX} EDUs");
            return Err(MatrixError::bad_json(why));
        }
        Ok(transaction)
    }
}

/// Transactions of other servers.
pub struct Transactions {
    db: Database,
    /// One at a time for each server: it sends no two at once itself.
    turns: Mutex<Cache<OwnedServerName, Arc<tokio::sync::Mutex<()>>>>,
}

/// A transaction that arrived.
pub enum Begun {
    /// It was taken before, and this was the answer.
    Known(Vec<u8>),
    /// It is to be taken.
    New(OpenTransaction),
}

/// A transaction that is being taken.
pub struct OpenTransaction {
    db: Database,
    origin: String,
    txn_id: String,
    _turn: OwnedMutexGuard<()>,
}

impl Transactions {
    /// Begins with what the database has.
    pub fn new(db: Database) -> Self {
        Self { db, turns: Mutex::new(Cache::new(ORIGINS_MAX)) }
    }

    /// Begins a transaction, when it is its turn.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin(&self, origin: &ServerName, txn_id: &str) -> Result<Begun> {
        let turn = self.turn_of(origin).lock_owned().await;
        let known = transactions::answer(&self.db, origin.as_str(), txn_id).await?;
        Ok(match known {
            Some(answer) => Begun::Known(answer),
            None => Begun::New(OpenTransaction {
                db: self.db.clone(),
                origin: origin.to_string(),
                txn_id: txn_id.to_owned(),
                _turn: turn,
            }),
        })
    }

    fn turn_of(&self, origin: &ServerName) -> Arc<tokio::sync::Mutex<()>> {
        let turns = self.turns.lock();
        match turns.get(origin) {
            Some(turn) => turn,
            None => {
                let turn = Arc::new(tokio::sync::Mutex::new(()));
                turns.insert(origin.to_owned(), Arc::clone(&turn));
                turn
            }
        }
    }
}

impl OpenTransaction {
    /// Notes the answer, so that the same transaction is answered the same again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end(self, now_ms: i64, answer: Vec<u8>) -> Result<()> {
        let Self { db, origin, txn_id, _turn } = self;
        Ok(transactions::note(&db, origin, txn_id, now_ms, answer).await?)
    }
}

//! Transactions of other servers: taken once, answered the same for ever.
//!
//! Source: Matrix v1.19, server-server, "Transactions".

use colonnade_federation::transaction::{Begun, Transaction};
use colonnade_model::ruma::ServerName;
use colonnade_rooms::Result;
use serde_json::{Map, Value, json};

use super::FederationService;

impl FederationService {
    /// Takes a transaction, and returns its answer. One that was taken before is answered as then; one that
    /// is being taken is waited for.
    ///
    /// # Errors
    /// When the database fails: then nothing is said, and the other server sends it again.
    pub async fn take_transaction(
        &self,
        origin: &ServerName,
        txn_id: &str,
        transaction: Transaction,
    ) -> Result<Vec<u8>> {
        let begun = self.transactions.begin(origin, txn_id).await?;
        let turn = match begun {
            Begun::Known(answer) => return Ok(answer),
            Begun::New(turn) => turn,
        };
        let received = self.messaging.receive(origin, transaction.pdus).await?;
        let mut pdus = Map::new();
        for one in received {
            let Some(event_id) = one.event_id else { continue };
            let result = match one.result {
                // Rejected ones, too, are dealt with.
                Ok(()) => json!({}),
                Err(why) => json!({ "error": why }),
            };
            pdus.insert(event_id.to_string(), result);
        }
        // After the events: what was read of them has to be there.
        self.take_edus(origin, &transaction.edus).await?;
        let answer = Value::Object(Map::from_iter([("pdus".to_owned(), Value::Object(pdus))]));
        let answer = answer.to_string().into_bytes();
        turn.end(self.context.now_ms(), answer.clone()).await?;
        Ok(answer)
    }
}

//! Tells others the keys of servers they cannot ask themselves, with our signature added: what is kept of them, and
//! newer ones where those will run out.
//!
//! Source: Matrix v1.19, server-server, "Querying Keys Through Another Server".

use std::collections::BTreeMap;

use colonnade_model::{
    MatrixError,
    ruma::{CanonicalJsonObject, OwnedServerName},
};
use colonnade_rooms::Result;
use colonnade_storage::federation::server_keys;
use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::KeyRing;
use crate::transport::BackoffRule;

/// Servers that one question may name.
const SERVERS_MAX: usize = 100;
/// Servers of one question that are asked at a time.
const AT_A_TIME: usize = 8;

impl KeyRing {
    /// Returns what is known of the keys of servers, each with the time until which they are wanted to be valid,
    /// in milliseconds since the Unix epoch; `None`: now. A server that nothing is known of is left out.
    ///
    /// # Errors
    /// `M_TOO_LARGE` for more than [`SERVERS_MAX`] servers.
    pub async fn vouch(
        &self,
        wanted: BTreeMap<OwnedServerName, Option<i64>>,
    ) -> Result<Vec<CanonicalJsonObject>> {
        if wanted.len() > SERVERS_MAX {
            let why = format!("keys of at most {SERVERS_MAX} servers are told at once");
            return Err(MatrixError::too_large(why).into());
        }
        let mut looks = Vec::new();
        for (server, until_ms) in wanted {
            looks.push(self.vouch_for(server, until_ms).boxed());
        }
        let found = stream::iter(looks).buffered(AT_A_TIME).collect::<Vec<_>>().await;
        found.into_iter().filter_map(Result::transpose).collect()
    }

    async fn vouch_for(
        &self,
        server: OwnedServerName,
        until_ms: Option<i64>,
    ) -> Result<Option<CanonicalJsonObject>> {
        let context = &self.inner.context;
        if server == context.server_name {
            return self.own_document().await.map(Some);
        }
        if !self.inner.transport.policy().permits(&server) {
            return Ok(None);
        }
        let now_ms = context.now_ms();
        let known = server_keys::answer(&context.db, server.as_str()).await?;
        let is_good = known.as_ref().is_some_and(|known| {
            let half = known.fetched_ms.midpoint(known.valid_until_ms);
            known.valid_until_ms >= until_ms.unwrap_or(now_ms) && now_ms < half
        });
        let known = match is_good {
            true => known,
            false => {
                self.fetch(&server, BTreeMap::new(), BackoffRule::Kept).await;
                server_keys::answer(&context.db, server.as_str()).await?
            }
        };
        let Some(known) = known else { return Ok(None) };
        // Whoever wrote it was we.
        let Ok(mut object) = serde_json::from_slice(&known.answer) else { return Ok(None) };
        self.sign(&mut object)?;
        Ok(Some(object))
    }
}

//! Asking the policy server of a room about an event. It may import `transport`.
//!
//! Source: Matrix v1.19, server-server, `POST /_matrix/policy/v1/sign`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use colonnade_model::{MatrixError, ruma::ServerName};
use colonnade_rooms::remote::policy_servers::{Asker, PolicyServers};
use colonnade_rules::{event::Event, policy::KEY_ID};
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use crate::transport::{Request, Transport, TransportError};

/// How long a policy server may take: whoever sends waits for it.
const WITHIN: Duration = Duration::from_secs(5);
/// How large an answer may be, in bytes: a signature takes two hundred.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Asks policy servers.
pub struct PolicyServerClient {
    transport: Transport,
}

impl PolicyServerClient {
    /// Asks by this way.
    pub fn shared(transport: Transport) -> Arc<dyn PolicyServers> {
        Arc::new(Self { transport })
    }

    async fn ask(
        &self,
        server: &ServerName,
        event: &Event,
        asker: Asker,
    ) -> Result<String, MatrixError> {
        let pdu: &RawValue = serde_json::from_str(event.json())
            .map_err(|error| MatrixError::internal(error.to_string()))?;
        let request =
            Request::post("/_matrix/policy/v1/sign", &pdu).map_err(|error| said(&error))?;
        let request = request.within(WITHIN).taking(ANSWER_BYTES_MAX);
        let request = match asker {
            Asker::Person => request.ignoring_backoff(),
            Asker::Arrival => request,
        };
        let answer = self.transport.send(server, request).await.map_err(|error| said(&error))?;
        let answer: Result<BTreeMap<String, BTreeMap<String, String>>, _> = answer.json().await;
        let mut signatures = answer.map_err(|error| said(&error))?;
        let signature = signatures.remove(server.as_str()).and_then(|mut keys| keys.remove(KEY_ID));
        signature.ok_or_else(|| {
            MatrixError::forbidden("the room's policy server answers without its signature")
        })
    }
}

impl PolicyServers for PolicyServerClient {
    fn signature<'a>(
        &'a self,
        server: &'a ServerName,
        event: &'a Event,
        asker: Asker,
    ) -> BoxFuture<'a, Result<String, MatrixError>> {
        Box::pin(self.ask(server, event, asker))
    }
}

/// Returns what the client is told: the policy server's own words, where it has some.
fn said(error: &TransportError) -> MatrixError {
    match error {
        TransportError::Status { status, errcode, message, retry_after_ms, .. }
            if (400..500).contains(status) && *status != 401 =>
        {
            let said = MatrixError::foreign(*status, errcode.as_deref(), message.clone());
            match retry_after_ms {
                Some(after) => said.with("retry_after_ms", *after),
                None => said,
            }
        }
        _ => MatrixError::unavailable("the room's policy server does not answer; try again"),
    }
}

//! Who asks the policy servers of rooms, and which rooms have one.

use std::sync::Arc;

use colonnade_model::{MatrixError, nid::RoomNid, ruma::ServerName};
use colonnade_rules::{event::Event, policy::RoomPolicy};
use colonnade_storage::rooms::servers;
use futures_util::future::BoxFuture;

use crate::{Context, Result, store::RoomEvent};

/// The status of an actor's answer that says: the room's policy server has to be asked first.
pub(crate) const POLICY_WANTED: u16 = 428;

/// Who wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Somebody here who waits: the server is asked although it was not reached a short while ago.
    Person,
    /// An event that arrived.
    Arrival,
}

/// Asks policy servers. Who speaks with other servers does it.
pub trait PolicyServers: Send + Sync + 'static {
    /// Returns the signature that a server gives for an event, in base64.
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    fn signature<'a>(
        &'a self,
        server: &'a ServerName,
        event: &'a Event,
        asker: Asker,
    ) -> BoxFuture<'a, Result<String, MatrixError>>;
}

/// For rooms that are of this server alone: there is nobody to ask.
pub struct NoPolicyServers;

impl PolicyServers for NoPolicyServers {
    fn signature<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a Event,
        _: Asker,
    ) -> BoxFuture<'a, Result<String, MatrixError>> {
        Box::pin(async { Err(MatrixError::unavailable("nobody is asked here")) })
    }
}

/// Says that the room's policy server has to be asked.
pub(crate) fn wanted() -> MatrixError {
    MatrixError::unknown("the room's policy server has to be asked").with_status(POLICY_WANTED)
}

/// Reads who is asked, if the room names somebody and that server is in it. This server is no policy server, so a
/// room that names it has none as far as it is concerned.
pub(crate) async fn in_use(
    context: &Context,
    room: RoomNid,
    named: Option<Arc<RoomEvent>>,
) -> Result<Option<RoomPolicy>> {
    let Some(policy) = named.and_then(|named| RoomPolicy::read(&named.event)) else {
        return Ok(None);
    };
    let server = policy.server();
    let is_used =
        server != context.server_name && servers::is_in(&context.db, room, server.as_str()).await?;
    Ok(is_used.then_some(policy))
}

//! What a service needs of other processes: somebody who carries a call to one of them. How it gets
//! there is the assembly's business.

use std::time::Duration;

use futures_util::future::BoxFuture;

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// It was not sent: the other process is not there.
    #[error("cannot be reached: {0}")]
    NotReached(String),
    /// It was sent, and the answer was lost: whether it was done is not known.
    #[error("no answer: {0}")]
    Lost(String),
}

/// Carries calls to other processes of the same deployment.
pub trait RpcClient: Send + Sync + 'static {
    /// Calls the process that listens at `address`, which may take so long to answer.
    fn call<'a>(
        &'a self,
        address: &'a str,
        body: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, RpcError>>;
}

/// The carrier of a process that is alone: there is nobody to call.
pub struct NoPeers;

impl RpcClient for NoPeers {
    fn call<'a>(
        &'a self,
        _: &'a str,
        _: Vec<u8>,
        _: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, RpcError>> {
        Box::pin(async { Err(RpcError::NotReached("this process is alone".to_owned())) })
    }
}

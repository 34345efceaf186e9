//! Carries calls to other processes of the deployment: HTTP/1.1 over connections that are kept, with
//! the secret of the database as the proof that both are of one deployment.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use colonnade_rooms::rpc::{RpcClient, RpcError};
use futures_util::future::BoxFuture;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpStream, UnixStream};

use crate::{address::Address, rpc::internal};

/// Idle connections kept to one process.
const IDLE_MAX: usize = 32;
/// How long connecting may take: the other process is on this machine or near it.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// The largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

type Line = SendRequest<Full<Bytes>>;

/// The lines to other processes.
pub(crate) struct ConnectionPool {
    proof: String,
    idle: Mutex<HashMap<String, Vec<Line>>>,
}

impl ConnectionPool {
    /// Makes lines that prove themselves by a secret of the deployment.
    pub(crate) fn new(proof: String) -> Self {
        Self { proof, idle: Mutex::default() }
    }

    /// Returns a line that is open, if one is idle.
    fn kept(&self, address: &str) -> Option<Line> {
        let mut idle = self.idle.lock();
        let lines = idle.get_mut(address)?;
        while let Some(line) = lines.pop() {
            if line.is_ready() {
                return Some(line);
            }
        }
        None
    }

    fn keep(&self, address: &str, line: Line) {
        let mut idle = self.idle.lock();
        let lines = idle.entry(address.to_owned()).or_default();
        if lines.len() < IDLE_MAX {
            lines.push(line);
        }
    }

    async fn try_call(
        &self,
        address: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, RpcError> {
        let mut line = match self.kept(address) {
            Some(line) => line,
            None => {
                let opened = tokio::time::timeout(CONNECT_MAX, open(address)).await;
                let late = |_| RpcError::NotReached("it does not accept in time".to_owned());
                opened.map_err(late)?.map_err(RpcError::NotReached)?
            }
        };
        let request = Request::post(internal::ROOMS)
            .header(header::HOST, "colonnade")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.proof))
            .header(internal::DEADLINE, within.as_millis().to_string())
            .body(Full::from(body))
            .map_err(|error| RpcError::NotReached(error.to_string()))?;
        // From here on nobody knows whether it arrived, unless an answer says so.
        let lost = |error: &dyn std::fmt::Display| RpcError::Lost(error.to_string());
        line.ready().await.map_err(|error| RpcError::NotReached(error.to_string()))?;
        let answer = line.send_request(request).await.map_err(|error| lost(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| lost(&error))?.to_bytes();
        self.keep(address, line);
        if status != StatusCode::OK {
            return Err(RpcError::Lost(format!("it answered {status}")));
        }
        Ok(body.into())
    }
}

impl RpcClient for ConnectionPool {
    fn call<'a>(
        &'a self,
        address: &'a str,
        body: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, RpcError>> {
        Box::pin(async move {
            let answer = tokio::time::timeout(within, self.try_call(address, body, within)).await;
            answer.unwrap_or_else(|_| Err(RpcError::Lost("it takes too long".to_owned())))
        })
    }
}

/// Opens a line to an address of the map.
async fn open(address: &str) -> Result<Line, String> {
    let text = |error: std::io::Error| error.to_string();
    match address.parse()? {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(text)?;
            let _slower_but_works = stream.set_nodelay(true);
            handshake(stream).await
        }
        Address::Unix(path) => handshake(UnixStream::connect(path).await.map_err(text)?).await,
    }
}

async fn handshake<S>(stream: S) -> Result<Line, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (line, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a line to another process ended");
        }
    });
    Ok(line)
}

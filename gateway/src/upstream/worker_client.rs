//! Questions of our own to workers: one GET on a fresh connection, the whole answer or none.

use std::io;
use std::time::Duration;

use pingora::http::RequestHeader;
use pingora::protocols::Stream as PingoraStream;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::protocols::l4::stream::Stream;
use tokio::net::{TcpStream, UnixStream};

use crate::config::Address;

/// What a worker answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Asks a worker, with these headers besides its name, waiting at most `patience` for the whole.
///
/// # Errors
/// If it cannot be reached, is too slow, answers what is no HTTP, or more than `bytes_max`.
pub(crate) async fn ask(
    worker: &Address,
    target: &str,
    headers: &[(&'static str, &str)],
    patience: Duration,
    bytes_max: usize,
) -> io::Result<Answer> {
    let asked = async {
        let stream: PingoraStream = match worker {
            Address::Tcp(address) => Box::new(Stream::from(TcpStream::connect(address).await?)),
            Address::Unix(path) => Box::new(Stream::from(UnixStream::connect(path).await?)),
        };
        ask_on(HttpSession::new(stream), target, headers, bytes_max).await
    };
    tokio::time::timeout(patience, asked).await?
}

async fn ask_on(
    mut session: HttpSession,
    target: &str,
    headers: &[(&'static str, &str)],
    bytes_max: usize,
) -> io::Result<Answer> {
    let wrong = |error: Box<pingora::Error>| io::Error::other(error.to_string());
    let mut head = RequestHeader::build("GET", target.as_bytes(), None).map_err(wrong)?;
    let own = [("host", "colonnade"), ("user-agent", "colonnade-gateway"), ("connection", "close")];
    for (name, value) in own.into_iter().chain(headers.iter().copied()) {
        head.insert_header(name, value).map_err(wrong)?;
    }
    session.write_request_header(Box::new(head)).await.map_err(wrong)?;
    session.finish_body().await.map_err(wrong)?;
    session.read_response().await.map_err(wrong)?;
    let status = session.get_status().map_or(0, |status| status.as_u16());
    let mut body = Vec::new();
    while let Some(piece) = session.read_body_bytes().await.map_err(wrong)? {
        body.extend_from_slice(&piece);
        if body.len() > bytes_max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
        }
    }
    Ok(Answer { status, body })
}

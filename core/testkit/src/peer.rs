//! Another server of which a test says every answer, byte for byte: an old one, one that keeps files elsewhere, one
//! that lies.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use colonnade_model::ruma::OwnedServerName;
use colonnade_rooms::Settings;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::authority::Authority;

/// A server that is not there yet: its address is known, so that others can be told.
pub struct PeerAddress {
    name: &'static str,
    socket: TcpListener,
    address: SocketAddr,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The path and query, as they were sent.
    pub target: String,
    /// All of the head.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

/// A server that answers what the test says. Gone when dropped.
pub struct Peer {
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl PeerAddress {
    /// Takes an address of this machine, `127.0.0.9` say.
    ///
    /// # Panics
    /// When it cannot be had.
    pub async fn at(address: &str, name: &'static str) -> Self {
        let socket = TcpListener::bind((address, 0)).await.expect("a free port");
        let address = socket.local_addr().expect("a bound address");
        Self { name, socket, address }
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets a server find it by its name.
    ///
    /// # Panics
    /// When its name is none.
    pub fn tell(&self, settings: &mut Settings) {
        let name = OwnedServerName::try_from(self.name).expect("a server name");
        let at = OwnedServerName::try_from(self.address.to_string()).expect("an address");
        settings.federation.overrides.insert(name, at);
    }

    /// Begins to answer. An empty answer is none: the connection stays open and silent.
    pub fn answer(
        self,
        authority: &Authority,
        answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static,
    ) -> Peer {
        let acceptor = authority.acceptor(self.name);
        self.answer_as(acceptor, answer)
    }

    /// Begins to answer with a certificate of the test's own.
    pub fn answer_as(
        self,
        acceptor: TlsAcceptor,
        answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static,
    ) -> Peer {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (Arc::clone(&asked), Arc::new(answer));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = self.socket.accept().await {
                let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let Ok(mut stream) = TlsAcceptor::accept(&acceptor, stream).await else {
                        return;
                    };
                    while let Some(asked) = read(&mut stream).await {
                        let bytes = answer(&asked);
                        noted.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
                        if bytes.is_empty() {
                            std::future::pending::<()>().await;
                        }
                        let written = stream.write_all(&bytes).await;
                        if written.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Peer { asked, serving }
    }
}

impl Peer {
    /// Returns what it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads a request; none at the end.
async fn read(stream: &mut TlsStream<tokio::net::TcpStream>) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(Some(0), |length| length.parse().ok())?];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked { method, target, head, body })
}

/// An answer of success with headers, each with its line end.
pub fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    said("200 OK", headers, body)
}

/// An answer of an error in the shape of the specification.
pub fn error(status: &str, errcode: &str) -> Vec<u8> {
    let body = format!("{{\"errcode\":\"{errcode}\",\"error\":\"no\"}}");
    said(status, "content-type: application/json\r\n", body.as_bytes())
}

fn said(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

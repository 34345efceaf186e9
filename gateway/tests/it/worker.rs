//! A worker for tests: an HTTP/1.1 server that remembers what it saw and answers what it is told
//! to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Answer 200 with this body.
    Say(String),
    /// Wait, then answer 200 with this body.
    Wait(Duration, String),
    /// Write these bytes and close.
    Raw(Vec<u8>),
    /// Close without a word.
    Hang,
    /// Never answer.
    Silence,
    /// Answer the slot map, once its epoch is another than the one the asker has.
    Slots(watch::Receiver<String>),
}

/// A worker that runs until dropped.
pub(crate) struct Worker {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Worker {
    /// Starts a worker that does as told.
    pub(crate) async fn start(act: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), act).await
    }

    /// The same at this address.
    pub(crate) async fn at(
        address: SocketAddr,
        act: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (act, log) = (Arc::new(act), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (act, log) = (Arc::clone(&act), Arc::clone(&log));
                connections.spawn(async move { serve(stream, &*act, &log).await });
            }
        });
        Self { address, seen, task }
    }

    /// Starts a worker that answers its own name.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::start(move |_| Act::Say(name.to_owned())).await
    }

    /// One that does not run: its address is taken, and refuses connections.
    pub(crate) async fn away() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let _taken = socket;
            std::future::pending().await
        });
        Self { address, seen: Arc::default(), task }
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    act: &(impl Fn(&Seen) -> Act + Send + Sync),
    log: &Mutex<Vec<Seen>>,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let seen = read_request(&mut stream, &mut buffer).await?;
        log.lock().unwrap().push(seen.clone());
        let body = match act(&seen) {
            Act::Say(body) => body,
            Act::Wait(time, body) => {
                tokio::time::sleep(time).await;
                body
            }
            Act::Raw(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                return None;
            }
            Act::Hang => return None,
            Act::Slots(map) => match slots(&seen.target, map).await {
                Some(map) => map,
                None => {
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok()?;
                    continue;
                }
            },
            Act::Silence => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                return None;
            }
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.ok()?;
        if seen.method != "HEAD" {
            stream.write_all(body.as_bytes()).await.ok()?;
        }
    }
}

/// The map for who asks with this target; `None` if there is no other in the time it gives.
async fn slots(target: &str, mut map: watch::Receiver<String>) -> Option<String> {
    let number = |name: &str| -> Option<u64> {
        let query = target.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.parse().ok())
    };
    let epoch = |map: &str| -> u64 {
        let map: serde_json::Value = serde_json::from_str(map).unwrap();
        map["epoch"].as_u64().unwrap()
    };
    let after = number("after=");
    // Without `after`, or with a smaller one: at once. Else when it is another one.
    let begun = epoch(&map.borrow());
    let changed = |map: &String| after.is_none_or(|after| after < begun) || epoch(map) != begun;
    let wait = Duration::from_millis(number("timeout=").unwrap_or(30_000));
    let changed = tokio::time::timeout(wait, map.wait_for(changed)).await;
    changed.ok()?.ok().map(|map| map.clone())
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}

pub(crate) async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end);
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut seen = Seen { method, target, headers, body: Vec::new() };
    let length: usize = seen.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    if seen.header("transfer-encoding").is_some() {
        loop {
            let line_end = loop {
                if let Some(at) = buffer.windows(2).position(|window| window == b"\r\n") {
                    break at;
                }
                more(stream, buffer).await?;
            };
            let size = usize::from_str_radix(&String::from_utf8_lossy(&buffer[..line_end]), 16);
            let size = size.ok()?;
            while buffer.len() < line_end + 2 + size + 2 {
                more(stream, buffer).await?;
            }
            seen.body.extend_from_slice(&buffer[line_end + 2..line_end + 2 + size]);
            buffer.drain(..line_end + 2 + size + 2);
            if size == 0 {
                return Some(seen);
            }
        }
    }
    while buffer.len() < length {
        more(stream, buffer).await?;
    }
    seen.body = buffer.drain(..length).collect();
    Some(seen)
}

//! A push gateway: a real HTTP server that notes what it is told, and fails, hangs or rejects as a test wants.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// How long a test waits for a notification: a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// It takes it.
    Takes,
    /// It answers with this status.
    Fails(u16),
    /// It never answers.
    Hangs,
    /// It does not know this key any more.
    Rejects(String),
}

#[derive(Default)]
struct Seen {
    manner: Option<Manner>,
    /// What it took.
    taken: Vec<Value>,
    /// Requests it did not take.
    refused: usize,
}

/// A push gateway; gone when dropped.
pub struct PushGateway {
    /// Where notifications are sent.
    pub url: String,
    seen: Arc<Mutex<Seen>>,
    serving: JoinHandle<()>,
}

impl Drop for PushGateway {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl PushGateway {
    /// Starts one that takes everything.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("a bound address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let noted = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&noted)));
            }
        });
        Self { url: format!("http://{address}/_matrix/push/v1/notify"), seen, serving }
    }

    /// Says what it does with requests from now on.
    pub fn does(&self, manner: Manner) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).manner = Some(manner);
    }

    /// Returns the notifications it took so far.
    pub fn taken(&self) -> Vec<Value> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).taken.clone()
    }

    /// Returns how many requests it did not take.
    pub fn refused(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).refused
    }

    /// Waits for a notification that fits, and returns it.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn told(&self, fits: impl Fn(&Value) -> bool) -> impl Future<Output = Value> {
        let at = std::panic::Location::caller();
        async move {
            let waited = tokio::time::timeout(PATIENCE, async {
                loop {
                    if let Some(found) = self.taken().into_iter().find(|told| fits(told)) {
                        return found;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            let waited = waited.await;
            waited.unwrap_or_else(|_| panic!("it was not told: {at}, but {:?}", self.taken()))
        }
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length?.parse().ok()?];
        stream.read_exact(&mut body).await.ok()?;
        let body: Value = serde_json::from_slice(&body).ok()?;
        let (status, answer) = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match seen.manner.clone().unwrap_or(Manner::Takes) {
                Manner::Takes => {
                    seen.taken.push(body["notification"].clone());
                    (200, json!({ "rejected": [] }))
                }
                Manner::Rejects(pushkey) => {
                    seen.refused += 1;
                    (200, json!({ "rejected": [pushkey] }))
                }
                Manner::Fails(status) => {
                    seen.refused += 1;
                    (status, json!({ "errcode": "M_UNKNOWN", "error": "no" }))
                }
                Manner::Hangs => {
                    seen.refused += 1;
                    (0, Value::Null)
                }
            }
        };
        if status == 0 {
            std::future::pending::<()>().await;
        }
        let answer = answer.to_string();
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

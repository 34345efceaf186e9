//! Each engine is the other's oracle: generated requests, answers of workers and faults go through both, and
//! what the workers saw and the clients got must agree.
//!
//! What may differ, and why, is taken out of the comparison by [`may_differ_for_workers`] and
//! [`may_differ_for_clients`]; docs/operating/gateway.md says the same to operators.

mod cases;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use colonnade_gateway::config::Engine;
use colonnade_gateway::{RunOptions, Running, Source};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::cases::{Ask, Say, ask, say};
use crate::client::{PATIENCE, start};
use crate::worker::{Seen, read_request};

/// Generated cases; each starts two gateways and sends both the same few requests.
const CASES: u32 = 300;

/// Two addresses of workers that say what the script tells, one thing for each request.
struct Workers {
    addresses: [SocketAddr; 2],
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: tokio::task::JoinSet<()>,
}

impl Workers {
    async fn start(script: Vec<Say>) -> Self {
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [first.local_addr().unwrap(), second.local_addr().unwrap()];
        for listener in [first, second] {
            let (script, seen, owner) = (Arc::clone(&script), Arc::clone(&seen), addresses[1]);
            tasks.spawn(async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                    connections.spawn(async move {
                        let _gone = serve(stream, owner, &script, &seen).await;
                    });
                }
            });
        }
        Self { addresses, seen, tasks }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

async fn serve(
    mut stream: TcpStream,
    owner: SocketAddr,
    script: &Mutex<VecDeque<Say>>,
    log: &Mutex<Vec<Seen>>,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let seen = read_request(&mut stream, &mut buffer).await?;
        log.lock().unwrap().push(seen.clone());
        let spare = Say::Length { status: 200, length: 5, extras: 0 };
        let say = script.lock().unwrap().pop_front().unwrap_or(spare);
        let (bytes, closes) = say.bytes(&seen, owner);
        stream.write_all(&bytes).await.ok()?;
        if closes {
            return None;
        }
    }
}

/// What a client got.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    interims: Vec<u16>,
    status: u16,
    headers: Vec<(String, String)>,
    /// None where the answer was cut.
    body: Option<String>,
    /// Whether the connection can carry another request.
    stays: bool,
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.buffer).await.ok()?;
        (read > 0).then_some(())
    }

    async fn until(&mut self, length: usize) -> Option<String> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        let taken: Vec<u8> = self.buffer.drain(..length).collect();
        Some(String::from_utf8_lossy(&taken).into_owned())
    }

    async fn line(&mut self, end: &str) -> Option<String> {
        loop {
            let found = self.buffer.windows(end.len()).position(|w| w == end.as_bytes());
            match found {
                Some(at) => return self.until(at + end.len()).await,
                None => self.more().await?,
            }
        }
    }

    async fn rest(&mut self) -> String {
        while self.more().await.is_some() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }

    async fn chunks(&mut self) -> Option<String> {
        let mut body = String::new();
        loop {
            let line = self.line("\r\n").await?;
            let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
            body.push_str(&self.until(size).await?);
            self.until(2).await?;
            if size == 0 {
                return Some(body);
            }
        }
    }

    /// Hears one answer; none where nothing comes.
    async fn hear(&mut self, ask: &Ask) -> Option<Heard> {
        let mut interims = Vec::new();
        let (status, headers) = loop {
            let head = self.line("\r\n\r\n").await?;
            let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let headers: Vec<(String, String)> =
                lines.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
            if status >= 200 || status == 101 {
                break (status, headers);
            }
            interims.push(status);
        };
        let header =
            |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, v)| v.clone());
        let length = header("content-length").and_then(|length| length.parse().ok());
        let chunked = header("transfer-encoding").is_some();
        let http10 = ask.is_http10();
        let connection = header("connection").unwrap_or_default().to_lowercase();
        let mut stays = connection != "close" && (!http10 || connection == "keep-alive");
        let body = if ask.is_head() || matches!(status, 204 | 304) {
            Some(String::new())
        } else if chunked {
            self.chunks().await
        } else if let Some(length) = length {
            self.until(length).await
        } else {
            stays = false;
            Some(self.rest().await)
        };
        let stays = stays && body.is_some();
        Some(Heard { interims, status, headers, body, stays })
    }
}

/// What a worker's request may have or lack on one engine, with the reason.
fn may_differ_for_workers(seen: &Seen) -> Vec<(String, String)> {
    let switch = seen.header("upgrade").is_some();
    let mut headers: Vec<(String, String)> = seen
        .headers
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value.clone()))
        // Each gateway makes ids of its own.
        .filter(|(name, value)| name != "x-request-id" || value == "given")
        // Pingora is told of a body, so that it does not take its end for the tunnel's.
        .filter(|(name, _)| !(switch && name == "content-length"))
        .collect();
    headers.sort();
    headers
}

/// The same of an answer.
fn may_differ_for_clients(mut heard: Heard) -> Heard {
    // Whether leave to send a body is given that has come already is a matter of time.
    heard.interims.retain(|status| *status != 100);
    heard.headers.retain(|(name, value)| {
        // Pingora writes a date, and says that connections stay where that is understood anyway.
        name != "date"
            && !(name == "connection" && value != "Upgrade")
            && (name != "x-request-id" || value == "given")
    });
    heard.headers.sort();
    heard.body = heard.body.map(|body| short(&body));
    if heard.body.is_none() {
        // How much of an answer that is cut has left already is a matter of time.
        heard.stays = false;
    }
    heard
}

/// A body as a person reads it in a failure: bodies are of one letter.
fn short(body: &str) -> String {
    format!("{} bytes of {:?}", body.len(), body.get(..body.len().min(5)))
}

/// What one engine makes of a case: what the clients heard, and what the workers saw.
type Outcome = (Vec<Option<Heard>>, Vec<(String, String, Vec<(String, String)>, String)>);

async fn run(engine: Engine, asks: &[Ask], script: &[Say], away: SocketAddr) -> Outcome {
    let workers = Workers::start(script.to_vec()).await;
    let gateway = gateway(engine, &workers, away);
    let mut heard = Vec::new();
    let mut kept: Option<Client> = None;
    for ask in asks {
        let mut client = match kept.take() {
            Some(kept) => kept,
            None => {
                let stream = TcpStream::connect(gateway.addrs()[0]).await.unwrap();
                Client { stream, buffer: Vec::new() }
            }
        };
        client.stream.write_all(&ask.bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, client.hear(ask)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{engine:?} does not answer {ask:?}"));
        if answer.as_ref().is_some_and(|answer| answer.stays) {
            kept = Some(client);
        }
        // To HTTP/1.0 a cut answer is a reset, which may overtake what has been written of it.
        let reset = |heard: &Heard| heard.body.is_none() && ask.is_http10();
        let answer = answer.filter(|answer| !reset(answer));
        heard.push(answer.map(may_differ_for_clients));
    }
    drop(kept);
    let seen = workers.seen.lock().unwrap().clone();
    let seen = seen.into_iter().map(|seen| {
        let headers = may_differ_for_workers(&seen);
        (seen.method, seen.target, headers, short(&String::from_utf8_lossy(&seen.body)))
    });
    (heard, seen.collect())
}

fn gateway(engine: Engine, workers: &Workers, away: SocketAddr) -> Running {
    let [first, second] = workers.addresses;
    let text = format!(
        "listen: [{{ name: test, bind: \"127.0.0.1:0\" }}]\n\
         trusted_proxies: [\"9.9.0.0/16\"]\n\
         well_known: {{ client: {{ a: b }} }}\n\
         limits: {{ body_bytes: 4KiB, hold: 0s }}\n\
         pools:\n\
         \x20 all: {{ balance: single, workers: [\"{first}\", \"{second}\"], eject_after: 0, slow_start: 0s }}\n\
         \x20 away: {{ balance: single, workers: [\"{away}\", \"{second}\"], eject_after: 0, slow_start: 0s }}\n\
         routes:\n\
         - {{ match: \"^/denied$\", deny: true }}\n\
         - {{ match: \"^/away$\", pool: away }}\n\
         - {{ match: \"^/.*$\", pool: all }}\n"
    );
    let mut options = RunOptions::new(Source::Text { name: "both.yaml".to_owned(), text });
    options.watch = false;
    options.overrides.engine = Some(engine);
    start(options)
}

#[test]
fn both_engines_agree_on_generated_requests_answers_and_faults() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let away = runtime.block_on(crate::worker::Worker::away());
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let cases = (prop::collection::vec(ask(), 1..4), prop::collection::vec(say(), 0..5));
    let agreed = TestRunner::new(config).run(&cases, |(asks, script)| {
        let both = async {
            let direct = run(Engine::Direct, &asks, &script, away.address).await;
            (direct, run(Engine::Pingora, &asks, &script, away.address).await)
        };
        let (direct, pingora) = runtime.block_on(both);
        if direct != pingora {
            return Err(TestCaseError::fail(format!("{direct:?}\nis not\n{pingora:?}")));
        }
        Ok(())
    });
    if let Err(error) = agreed {
        panic!("{error}");
    }
}

//! Clients for tests, a gateway to talk to, and the smallest HTTP that shows every byte.

use std::net::SocketAddr;
use std::time::Duration;

use colonnade_gateway::config::Engine;
use colonnade_gateway::{RunOptions, Running, Source, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn errcode(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert!(json["error"].is_string());
        json["errcode"].as_str().unwrap().to_owned()
    }
}

/// A connection to the gateway.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads one answer; `None` if the connection ends before one is whole.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        tokio::time::timeout(PATIENCE, self.read_answer(false)).await.unwrap()
    }

    async fn more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.buffer).await.ok()?;
        (read > 0).then_some(())
    }

    async fn read_answer(&mut self, bodiless: bool) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: String::new() };
        if bodiless || status == 204 || status == 304 {
            return Some(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.read_chunked().await?;
            return Some(answer);
        }
        match answer.header("content-length").and_then(|v| v.parse::<usize>().ok()) {
            Some(length) => {
                while self.buffer.len() < length {
                    self.more().await?;
                }
                let body: Vec<u8> = self.buffer.drain(..length).collect();
                answer.body = String::from_utf8_lossy(&body).into_owned();
            }
            None => {
                while self.more().await.is_some() {}
                answer.body = String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into();
            }
        }
        Some(answer)
    }

    async fn read_chunked(&mut self) -> Option<String> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                    break at;
                }
                self.more().await?;
            };
            let size = String::from_utf8_lossy(&self.buffer[..line_end]).into_owned();
            let size = usize::from_str_radix(&size, 16).ok()?;
            while self.buffer.len() < line_end + 2 + size + 2 {
                self.more().await?;
            }
            body.extend_from_slice(&self.buffer[line_end + 2..line_end + 2 + size]);
            self.buffer.drain(..line_end + 2 + size + 2);
            if size == 0 {
                return Some(String::from_utf8_lossy(&body).into_owned());
            }
        }
    }

    pub(crate) async fn get(&mut self, target: &str) -> Option<Answer> {
        self.send(format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n")).await;
        self.answer().await
    }

    pub(crate) async fn head(&mut self, target: &str) -> Option<Answer> {
        self.send(format!("HEAD {target} HTTP/1.1\r\nhost: h\r\n\r\n")).await;
        tokio::time::timeout(PATIENCE, self.read_answer(true)).await.unwrap()
    }

    /// Waits until the gateway closes, and says what came before that.
    pub(crate) async fn rest(&mut self) -> String {
        let read = async { while self.more().await.is_some() {} };
        tokio::time::timeout(PATIENCE, read).await.unwrap();
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut client = Client::connect(address).await;
    client.send(request).await;
    client.answer().await.unwrap()
}

pub(crate) async fn get(address: SocketAddr, target: &str) -> Answer {
    ask(address, &format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await
}

/// Waits until the gateway's metrics contain this.
pub(crate) async fn metrics_say(gateway: &Running, expected: &str) {
    let admin = gateway.admin_addr().unwrap();
    let said = async {
        while !get(admin, "/metrics").await.body.contains(expected) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let said = tokio::time::timeout(PATIENCE, said).await;
    assert!(said.is_ok(), "{expected} is not in\n{}", get(admin, "/metrics").await.body);
}

/// The engine of every listener, unless a test asks for one: `direct`, or what `COLONNADE_TEST_ENGINE` says.
#[expect(clippy::disallowed_methods, reason = "it is the test run that says so")]
pub(crate) fn engine() -> Engine {
    match std::env::var("COLONNADE_TEST_ENGINE").as_deref() {
        Err(_) | Ok("" | "direct") => Engine::Direct,
        Ok("pingora") => Engine::Pingora,
        Ok(other) => panic!("COLONNADE_TEST_ENGINE: no engine is called {other}"),
    }
}

/// Starts a gateway with the engine that is tested.
pub(crate) fn start(mut options: RunOptions) -> Running {
    options.overrides.engine = options.overrides.engine.or(Some(engine()));
    run(options).unwrap()
}

/// A gateway with a listener and an admin listener on port 0, from the rest of a routes file.
pub(crate) fn gateway(rest: &str) -> Running {
    let text = format!(
        "listen: [{{ name: test, bind: \"127.0.0.1:0\" }}]\nadmin: \"127.0.0.1:0\"\n{rest}"
    );
    let mut options = RunOptions::new(Source::Text { name: "test.yaml".to_owned(), text });
    options.watch = false;
    start(options)
}

/// A routes file with one pool that takes everything.
pub(crate) fn one_pool(balance: &str, workers: &[SocketAddr]) -> String {
    let workers: Vec<String> = workers.iter().map(|w| format!("\"{w}\"")).collect();
    format!(
        "pools: {{ all: {{ balance: {balance}, workers: [{}] }} }}\n\
         routes: [{{ match: \"^/.*$\", pool: all }}]\n",
        workers.join(", ")
    )
}

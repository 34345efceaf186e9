//! Memory under hostile peers: what each kind may make the gateway hold, measured as the growth of this
//! process, which holds the gateway, its clients and its workers and nothing else. Each sends far more
//! than it may cost. One test, so that nothing else is measured.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    dead_code,
    reason = "tests, and parts shared with other tests"
)]

#[path = "it/client.rs"]
mod client;
#[path = "it/trusting.rs"]
mod trusting;
#[path = "it/worker.rs"]
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use colonnade_gateway::config::Engine;
use colonnade_gateway::{RunOptions, Running, Source};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Client, engine, get};
use crate::trusting::{FOLDER, Trusting};

const MIB: u64 = 1 << 20;

/// No case takes longer, also on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Memory of this process alone, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// A worker that answers `/` and `/a` in full, and otherwise never stops sending what the path says.
async fn worker() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn serve(mut stream: TcpStream) -> Option<()> {
    let mut scrap = vec![0; 16 << 10];
    loop {
        let read = stream.read(&mut scrap).await.ok().filter(|read| *read > 0)?;
        let head = String::from_utf8_lossy(&scrap[..read]).into_owned();
        let (begin, piece): (&str, Vec<u8>) = match head.split(' ').nth(1)? {
            "/never" => {
                scrap.truncate(1 << 10);
                scrap.shrink_to_fit();
                while stream.read(&mut scrap).await.ok()? > 0 {}
                return None;
            }
            "/endless-head" => ("HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n".repeat(4_000)),
            "/endless-line" => ("HTTP/1.1 200 OK\r\nx: ", vec![b'x'; 64 << 10]),
            "/endless-chunk" => {
                ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", vec![b'x'; 64 << 10])
            }
            "/large" => {
                ("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n", vec![b'x'; 64 << 10])
            }
            _ => {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nw";
                stream.write_all(answer).await.ok()?;
                continue;
            }
        };
        stream.write_all(begin.as_bytes()).await.ok()?;
        loop {
            stream.write_all(&piece).await.ok()?;
        }
    }
}

fn start(worker: SocketAddr) -> Running {
    let text = format!(
        "listen:\n\
         \x20 - {{ name: plain, bind: \"127.0.0.1:0\" }}\n\
         \x20 - {{ name: tls, bind: \"127.0.0.1:0\", tls: {{ certificates: [\
         {{ cert: \"{FOLDER}/one.crt\", key: \"{FOLDER}/one.key\" }}] }} }}\n\
         admin: \"127.0.0.1:0\"\n\
         limits: {{ response_timeout: 5s, connections_per_ip: 5000, kept_body_bytes: 8MiB }}\n\
         pools: {{ all: {{ balance: single, workers: [\"{worker}\"], eject_after: 0 }} }}\n\
         routes: [{{ match: \"^/.*$\", pool: all }}]\n"
    );
    let mut options = RunOptions::new(Source::Text { name: "memory.yaml".to_owned(), text });
    options.watch = false;
    crate::client::start(options)
}

/// Measures what a case makes the process hold while it holds most, and that others are served then.
async fn bounded<T>(
    name: &str,
    gateway: &Running,
    bytes_max: u64,
    attack: impl Future<Output = T>,
) -> T {
    let before = resident();
    let held = tokio::time::timeout(PATIENCE, attack).await;
    let held = held.unwrap_or_else(|_| panic!("{name}: it does not end"));
    let grown = resident().saturating_sub(before);
    println!("{name}: {} kB", grown / 1024);
    assert!(grown < bytes_max, "{name}: {} kB, at most {}", grown / 1024, bytes_max / 1024);
    assert_eq!(get(gateway.addrs()[0], "/a").await.status, 200, "{name}: nobody else is served");
    held
}

async fn over_http2(gateway: &Running) -> tokio_rustls::client::TlsStream<TcpStream> {
    let config = Arc::new(Trusting::default()).client(&[b"h2"]);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = TcpStream::connect(gateway.addrs()[1]).await.unwrap();
    connector.connect(ServerName::try_from("one.example.org").unwrap(), tcp).await.unwrap()
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Writes until the other side closes, stops reading for a while, or has taken 64 MB.
async fn pour(stream: &mut (impl AsyncWriteExt + Unpin), piece: &[u8]) -> u64 {
    let mut sent = 0;
    while sent < 64 * MIB {
        let writing = tokio::time::timeout(Duration::from_secs(2), stream.write_all(piece)).await;
        if !matches!(writing, Ok(Ok(()))) {
            break;
        }
        sent += piece.len() as u64;
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_peers_cost_a_bounded_amount_of_memory() {
    let gateway = start(worker().await);
    // Whatever is allocated once.
    for _ in 0..200 {
        get(gateway.addrs()[0], "/a").await;
    }
    idle_and_slow_clients(&gateway).await;
    bodies_that_stop(&gateway).await;
    floods(&gateway).await;
    endless_workers(&gateway).await;
    clients_that_do_not_read(&gateway).await;
}

async fn idle_and_slow_clients(gateway: &Running) {
    let front = gateway.addrs()[0];
    let idle = bounded("a thousand idle connections", gateway, 64 * MIB, async {
        let mut held = Vec::new();
        for _ in 0..1_000 {
            let mut client = Client::connect(front).await;
            assert_eq!(client.get("/a").await.unwrap().status, 200);
            held.push(client);
        }
        held
    });
    drop(idle.await);
    let silent = bounded("a thousand connections that say nothing", gateway, 48 * MIB, async {
        let mut held = Vec::new();
        for _ in 0..1_000 {
            held.push(TcpStream::connect(front).await.unwrap());
        }
        held
    });
    drop(silent.await);
    let slow = bounded("two hundred heads of 60 kB that do not end", gateway, 64 * MIB, async {
        let mut held = Vec::new();
        for _ in 0..200 {
            let mut client = Client::connect(front).await;
            client.send("GET /a HTTP/1.1\r\nhost: h\r\n").await;
            client.send(b"x-more: and more\r\n".repeat(3_300)).await;
            held.push(client);
        }
        held
    });
    drop(slow.await);
    let bodies = bounded("two hundred bodies that stop", gateway, 96 * MIB, async {
        let mut held = Vec::new();
        for _ in 0..200 {
            let mut client = Client::connect(front).await;
            client.send("PUT /a HTTP/1.1\r\nhost: h\r\ncontent-length: 90000000\r\n\r\n").await;
            client.send(vec![b'x'; 100 << 10]).await;
            held.push(client);
        }
        held
    });
    drop(bodies.await);
}

/// As many as a real gateway has, in small: they hold 70 to 94 MB without a bound. What is kept of their
/// bodies is bounded for all together, and given back, so that the second thousand costs no more than the
/// first.
async fn bodies_that_stop(gateway: &Running) {
    let (front, admin) = (gateway.addrs()[0], gateway.admin_addr().unwrap());
    let most = match engine() {
        Engine::Direct => 64 * MIB,
        // Beyond the budget bodies are refused, and connections cost more; without a bound it was 234 MB.
        Engine::Pingora => 128 * MIB,
    };
    let before = resident();
    for round in 0..2 {
        let name = "a thousand bodies of 60 kB that stop";
        let held = bounded(name, gateway, most, async {
            let mut held = Vec::new();
            for _ in 0..1_000 {
                let mut client = Client::connect(front).await;
                client
                    .send("POST /never HTTP/1.1\r\nhost: h\r\ncontent-length: 61000\r\n\r\n")
                    .await;
                client.send(vec![b'x'; 60_000]).await;
                held.push(client);
            }
            held
        });
        let held = held.await;
        let grown = resident().saturating_sub(before);
        println!("round {round}: {} kB", grown / 1024);
        assert!(grown < most, "round {round}: {} kB", grown / 1024);
        let kept = |most: i64| async move {
            loop {
                let metrics = get(admin, "/metrics").await.body;
                let line = metrics.lines().find(|line| line.starts_with(KEPT)).unwrap().to_owned();
                let kept: i64 = line.split(' ').nth(1).unwrap().parse().unwrap();
                assert!(kept <= 8 << 20, "{line}");
                if kept <= most {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        kept(8 << 20).await;
        drop(held);
        tokio::time::timeout(PATIENCE, kept(0)).await.unwrap();
        // The next thousand shall not be counted together with what is left of this one.
        let gone = async {
            loop {
                let pools: serde_json::Value =
                    serde_json::from_str(&get(admin, "/pools").await.body).unwrap();
                if pools["pools"][0]["workers"][0]["working"] == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
    }
}

/// The gauge of what is kept.
const KEPT: &str = "colonnade_gateway_kept_body_bytes ";

async fn floods(gateway: &Running) {
    let front = gateway.addrs()[0];
    bounded("headers without end", gateway, 16 * MIB, async {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(front).await.unwrap();
            stream.write_all(b"GET /a HTTP/1.1\r\n").await.unwrap();
            let sent = pour(&mut stream, &b"x-more: and more\r\n".repeat(4_000)).await;
            assert!(sent < 64 * MIB, "{sent} bytes of headers were taken");
        }
    })
    .await;
    // Each frame asks for an answer that the client does not read.
    for (name, piece) in [
        ("SETTINGS without end", frame(4, 0, 0, &[]).repeat(2_000)),
        ("PING without end", frame(6, 0, 0, &[7; 8]).repeat(2_000)),
        ("an HTTP/2 head without end", {
            frame(9, 0, 1, &[0x00, 0x01, b'x', 0x02, b'y', b'z'].repeat(500)).repeat(20)
        }),
    ] {
        bounded(name, gateway, 24 * MIB, async {
            let mut stream = over_http2(gateway).await;
            stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
            if name.contains("head") {
                let head = [0x82, 0x87, 0x84, 0x41, 0x01, b'h'];
                stream.write_all(&frame(1, 0, 1, &head)).await.unwrap();
            }
            let sent = pour(&mut stream, &piece).await;
            assert!(sent < 64 * MIB, "{name}: {sent} bytes were taken");
            stream
        })
        .await;
    }
    // Rapid reset (CVE-2023-44487), unread. How much the client gets rid of says nothing: the kernel takes
    // megabytes, and what comes behind the last word is thrown away. What was worked on counts, and the end.
    let requests = || async {
        let metrics = get(gateway.admin_addr().unwrap(), "/metrics").await.body;
        let lines = metrics.lines().filter(|line| line.starts_with(REQUESTS));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    let before = requests().await;
    bounded("rapid reset", gateway, 24 * MIB, async {
        let mut stream = over_http2(gateway).await;
        stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
        let head = [0x82, 0x87, 0x84, 0x41, 0x01, b'h'];
        for number in 0..100_000 {
            let id = 1 + 2 * number;
            let both = [frame(1, 5, id, &head), frame(3, 0, id, &8u32.to_be_bytes())].concat();
            let writing = tokio::time::timeout(Duration::from_secs(2), stream.write_all(&both));
            if !matches!(writing.await, Ok(Ok(()))) {
                break;
            }
        }
        // Its end, in order or not.
        while !matches!(stream.read(&mut [0; 4_096]).await, Ok(0) | Err(_)) {}
    })
    .await;
    let served = requests().await - before;
    assert!((1.0..1_000.0).contains(&served), "{served} abandoned requests were worked on");
}

/// The counter of requests, of all outcomes.
const REQUESTS: &str = "colonnade_gateway_requests_total{";

/// Workers are not trusted to stop, either.
async fn endless_workers(gateway: &Running) {
    let front = gateway.addrs()[0];
    for target in ["/endless-head", "/endless-line", "/endless-chunk"] {
        bounded(target, gateway, 24 * MIB, async {
            for _ in 0..4 {
                let mut client = Client::connect(front).await;
                client.send(format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n")).await;
                let said = client.rest().await;
                assert!(!said.contains("x-more") && said.len() < 4_096, "{target}: {}", said.len());
            }
        })
        .await;
    }
}

/// A hundred answers of 100 MB over one HTTP/2 connection whose client takes none of them.
async fn clients_that_do_not_read(gateway: &Running) {
    bounded("a hundred large answers nobody reads", gateway, 96 * MIB, async {
        let (mut client, connection) =
            h2::client::handshake(over_http2(gateway).await).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut held = Vec::new();
        for _ in 0..100 {
            let request = http::Request::get("https://one.example.org/large").body(());
            client = client.ready().await.unwrap();
            let answer = client.send_request(request.unwrap(), true).unwrap().0.await.unwrap();
            assert_eq!(answer.status(), 200);
            held.push(answer);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        (held, client, connection)
    })
    .await;
}

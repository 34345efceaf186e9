//! What floods of request bodies make a worker hold: no more than the budget, whoever sends them, and
//! nothing of it afterwards.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use colonnade_testkit::Client;
use serde_json::json;

use crate::process::{PATIENCE, Server};

/// Connections of a flood.
const CONNECTIONS: usize = 200;
/// What each of them sends before it falls silent.
const BODY_BYTES: usize = 4 * 1024 * 1024;
/// What strangers may make it hold, in MB: a few kilobytes and a buffer of 64 kB for each connection.
const STRANGERS_MB_MAX: u64 = 40;
/// What one user may: a quarter of 128 MiB, which a buffer may exceed by its half, and the connections.
const USER_MB_MAX: u64 = 100;
/// What may stay when all is over: the allocator keeps some pages at hand.
const AFTER_MB_MAX: u64 = 40;

/// The memory of a process, in MB.
fn rss_mb(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Opens a connection, sends a request's head and all of its body but the end, as far as it is taken.
fn silent(server: &Server, head: &str) -> TcpStream {
    let address = server.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..BODY_BYTES / 0x10000 {
        // Who is refused may be cut off.
        if stream.write_all(piece.as_bytes()).is_err() {
            break;
        }
    }
    stream
}

#[tokio::test]
async fn floods_of_bodies_hold_a_bounded_memory_and_give_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["--set", "registration.open=true", "--set", "rate_limits.enabled=false"];
    let server = Server::worker(folder.path(), "all", &settings);
    let user = Client::register(&server.url, "alice").await;
    let before = rss_mb(&server);
    let chunked = "host: x\r\ntransfer-encoding: chunked\r\n\r\n";

    for path in ["refresh", "account/password", "login"] {
        let head = format!("POST /_matrix/client/v3/{path} HTTP/1.1\r\n{chunked}");
        let flood: Vec<TcpStream> = (0..CONNECTIONS).map(|_| silent(&server, &head)).collect();
        let during = rss_mb(&server);
        assert!(during < before + STRANGERS_MB_MAX, "{path}: {before} MB, then {during} MB");
        drop(flood);
    }

    let token = user.token.clone().unwrap();
    let path = format!("/_matrix/client/v3/user/{}/account_data/org.x", user.user_id);
    let head = format!("PUT {path} HTTP/1.1\r\nauthorization: Bearer {token}\r\n{chunked}");
    let mut flood: Vec<TcpStream> = (0..CONNECTIONS).map(|_| silent(&server, &head)).collect();
    let during = rss_mb(&server);
    assert!(during < before + USER_MB_MAX, "one user: {before} MB, then {during} MB");
    let last = flood.last_mut().unwrap();
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 12];
    // A connection that was cut off has told nothing.
    if last.read_exact(&mut answer).is_ok() {
        assert_eq!(&answer, b"HTTP/1.1 429");
    }
    // Another user is served meanwhile.
    let other = Client::register(&server.url, "bob").await;
    let path = format!("/_matrix/client/v3/user/{}/account_data/org.x", other.user_id);
    other.put(&path, json!({ "x": "y".repeat(100_000) })).await.ok();
    drop(flood);

    let begun = Instant::now();
    loop {
        // What was freed is given back when something is done.
        other.get("/_matrix/client/v3/account/whoami").await.ok();
        let after = rss_mb(&server);
        if after < before + AFTER_MB_MAX {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{before} MB before, {after} MB after");
    }
    server.stop();
}

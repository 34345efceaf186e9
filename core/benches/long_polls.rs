//! What an idle long poll keeps in memory: `cargo bench --profile dist -p colonnade-core --bench
//! long_polls`. Users who each have a room sync until nothing is new; then each waits on several
//! connections at once, and the growth of the process is divided by their number. The clients are
//! bare sockets, so nearly all of it is the server's, buffers of HTTP included. The limit is 16 kB.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figure")]

use std::{io::Write as _, net::TcpStream, time::Duration};

use colonnade_testkit::{Client, TestServer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

/// The allocator of the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Users.
const USERS: usize = 500;
/// Long polls of each, enough that memory freed before is a small part of what they take.
const EACH: usize = 16;
/// Users at a time who register: each hash takes its memory and a core.
const TOGETHER: usize = 4;

#[tokio::main]
async fn main() {
    // As the command does.
    nix::sys::prctl::set_thp_disable(true).expect("Linux");
    // Two sockets each, client and server, are in this process.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("the soft limit may rise");
    let server = TestServer::start().await;
    let mut waiting = Vec::new();
    for first in (0..USERS).step_by(TOGETHER) {
        let some = (first..USERS.min(first + TOGETHER)).map(|n| newcomer(&server, n));
        waiting.extend(futures_util::future::join_all(some).await);
    }
    let before = resident();
    let polls = waiting.iter().cycle().take(USERS * EACH);
    let sockets: Vec<TcpStream> = polls.map(|poll| park(&server.url, poll)).collect();
    while server.inside().await.metrics.waiting() < sockets.len() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let grown = resident().saturating_sub(before);
    let (polls, before) = (sockets.len(), before >> 20);
    println!("{polls} idle long polls: {} bytes each, over {before} MB", grown / polls);
}

/// A long poll to be: the request's text.
async fn newcomer(server: &TestServer, n: usize) -> String {
    let user = server.user(&format!("user{n}")).await;
    let room = json!({ "preset": "public_chat", "name": format!("Room {n}") });
    user.post("/_matrix/client/v3/createRoom", room).await.ok();
    let since = caught_up(&user).await;
    let token = user.token.as_deref().expect("a registered user has a token");
    format!(
        "GET /_matrix/client/v3/sync?timeout=600000&since={since} HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    )
}

/// Syncs until nothing is new (presence and device lists of the registration come a little later).
async fn caught_up(user: &Client) -> String {
    let mut path = "/_matrix/client/v3/sync?timeout=0".to_owned();
    for _ in 0..2 {
        let answer = user.get(&path).await.ok();
        let since = answer["next_batch"].as_str().expect("a token").to_owned();
        path = format!("/_matrix/client/v3/sync?timeout=0&since={since}");
    }
    path.rsplit('=').next().expect("a token").to_owned()
}

fn park(url: &str, request: &str) -> TcpStream {
    let address = url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).expect("the server listens");
    socket.write_all(request.as_bytes()).expect("a request fits a socket's buffer");
    socket
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kilobytes = line.split_whitespace().nth(1).and_then(|text| text.parse::<usize>().ok());
    kilobytes.expect("a number") * 1024
}

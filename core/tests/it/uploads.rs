//! Uploads that are refused, and many at once: nothing refused stays on disk, and what is on its way
//! counts against the quota of who sends it.

use std::path::PathBuf;

use colonnade_rooms::settings::OwnerLimits;
use colonnade_testkit::{Client, Method, TestServer, server::open_settings};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::media::{files, wait_for};

const UPLOAD: &str = "/_matrix/media/v3/upload";
const CHUNKED: &str = "transfer-encoding: chunked";

async fn server(narrow: impl FnOnce(&mut OwnerLimits)) -> TestServer {
    let mut settings = open_settings();
    narrow(&mut settings.limits);
    TestServer::with_settings(settings).await
}

fn folder(server: &TestServer) -> PathBuf {
    server.data_dir.join("media")
}

/// Waits until so many bodies are on their way.
async fn wait_for_bodies(server: &TestServer, count: usize) {
    let aside = folder(server).join("aside");
    wait_for(|| files(&aside).len() == count).await;
}

/// Sends the head of an upload and the beginning of its body.
async fn begin(
    server: &TestServer,
    user: &Client,
    target: &str,
    length: &str,
    body: &[u8],
) -> TcpStream {
    let token = user.token.as_deref().unwrap();
    let head = format!(
        "{target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n{length}\r\n\
         connection: close\r\n\r\n"
    );
    let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    socket
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Reads the status and the whole answer.
async fn answer(mut socket: TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    // A server that reads no further may reset the connection after its answer.
    let _ = socket.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let status = text.split(' ').nth(1).unwrap_or_default().parse();
    (status.unwrap_or_else(|_| panic!("{text:?}")), text)
}

async fn upload(user: &Client, bytes: usize) -> colonnade_testkit::Answer {
    user.raw(Method::POST, UPLOAD, &[], vec![b'u'; bytes]).await.answer()
}

#[tokio::test]
async fn a_body_of_unsaid_length_is_read_as_far_as_the_quota() {
    let server = server(|limits| limits.media_bytes_max = 100_000).await;
    let alice = server.user("alice").await;
    upload(&alice, 60_000).await.ok();
    let target = format!("POST {UPLOAD}");
    for (letter, is_whole) in [(b'a', false), (b'b', true)] {
        let mut body = [chunk(&[letter; 30_000]), chunk(&[letter; 20_000])].concat();
        if is_whole {
            body.extend_from_slice(b"0\r\n\r\n");
        }
        let socket = begin(&server, &alice, &target, CHUNKED, &body).await;
        let (status, text) = answer(socket).await;
        assert_eq!(status, 403, "{text}");
        assert!(text.contains("limits.media_bytes_max"), "{text}");
    }
    wait_for(|| files(&folder(&server)).len() == 1).await;
    let body = [chunk(&[b'c'; 40_000]), b"0\r\n\r\n".to_vec()].concat();
    let (status, text) = answer(begin(&server, &alice, &target, CHUNKED, &body).await).await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test]
async fn an_id_filled_by_many_at_once_has_one_file() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut kept = 0;
    for is_same in [false, true] {
        let made = alice.post("/_matrix/media/v1/create", json!({})).await.ok();
        let place = made["content_uri"].as_str().unwrap().trim_start_matches("mxc://").to_owned();
        let target = format!("PUT /_matrix/media/v3/upload/{place}");
        let mut sockets = Vec::new();
        for n in 0..6 {
            let body = [if is_same { b's' } else { b'0' + n }; 999];
            sockets.push(begin(&server, &alice, &target, "content-length: 1000", &body).await);
        }
        // Each was told that the id is free.
        wait_for_bodies(&server, 6).await;
        for socket in &mut sockets {
            socket.write_all(b"!").await.unwrap();
        }
        let mut statuses = Vec::new();
        for socket in sockets {
            statuses.push(answer(socket).await.0);
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409, 409, 409, 409, 409]);
        kept += 1;
        assert_eq!(files(&folder(&server)).len(), kept);
        let path = format!("/_matrix/client/v1/media/download/{place}");
        let answer = alice.raw(Method::GET, &path, &[], vec![]).await;
        assert_eq!((answer.status, answer.bytes.len()), (200, 1_000));
    }
}

#[tokio::test]
async fn uploads_on_their_way_count_against_the_quota() {
    let server = server(|limits| {
        limits.media_files_max = 3;
        limits.media_bytes_max = 10_000;
    })
    .await;
    if server.takes_turns() || server.has_gateway() {
        // Each process counts what arrives at it; the transaction has the last word.
        return;
    }
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let target = format!("POST {UPLOAD}");
    let mut sockets = Vec::new();
    for n in 0..3 {
        let body = [b'0' + n; 999];
        sockets.push(begin(&server, &alice, &target, "content-length: 1000", &body).await);
    }
    wait_for_bodies(&server, 3).await;
    let refused = upload(&alice, 1).await.err(403, "M_FORBIDDEN");
    assert!(refused["error"].as_str().unwrap().contains("limits.media_files_max"), "{refused}");
    // Bytes count as they were announced, before they are there.
    let large = begin(&server, &bob, &target, "content-length: 9000", b"x").await;
    wait_for_bodies(&server, 4).await;
    let refused = upload(&bob, 1_001).await.err(403, "M_FORBIDDEN");
    assert!(refused["error"].as_str().unwrap().contains("limits.media_bytes_max"), "{refused}");
    upload(&bob, 1_000).await.ok();
    // What breaks off counts no longer.
    drop(large);
    drop(sockets.remove(0));
    wait_for_bodies(&server, 2).await;
    while upload(&bob, 9_000).await.status != 200 {}
    while upload(&alice, 5).await.status != 200 {}
    for mut socket in sockets {
        socket.write_all(b"!").await.unwrap();
        let (status, text) = answer(socket).await;
        assert_eq!(status, 200, "{text}");
    }
    upload(&alice, 1).await.err(403, "M_FORBIDDEN");
    assert_eq!(files(&folder(&server)).len(), 5);
}

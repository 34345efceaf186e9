//! What the path of HTTP/1 decides by itself, byte for byte on raw sockets, from both sides.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use colonnade_gateway::config::Engine;

use crate::client::{Client, PATIENCE, ask, engine, gateway, get, one_pool};
use crate::worker::{Act, Worker};

/// A worker's side of a connection on which the test itself speaks.
struct Side {
    stream: TcpStream,
}

impl Side {
    async fn accept(listener: &TcpListener) -> Self {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap();
        Self { stream: accepted.unwrap().0 }
    }

    /// Reads up to the end of a head, and what comes in the same breath.
    async fn head(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut bytes)).await;
            assert!(read.unwrap().unwrap() > 0, "{}", String::from_utf8_lossy(&bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Waits until the gateway closes.
    async fn closed(&mut self) {
        let mut scrap = vec![0; 4096];
        let closed = async { while matches!(self.stream.read(&mut scrap).await, Ok(1..)) {} };
        tokio::time::timeout(PATIENCE, closed).await.unwrap();
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves every connection of the gateway's in the same way.
fn serve_all<F>(listener: TcpListener, serve: impl Fn(Side) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            let side = Side::accept(&listener).await;
            tokio::spawn(serve(side));
        }
    });
}

/// Reads from a client's socket up to the end of a head.
async fn raw_head(client: &mut Client) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, client.stream.read_exact(&mut byte)).await;
        read.unwrap().unwrap();
        bytes.extend(byte);
    }
    String::from_utf8(bytes).unwrap()
}

const UPGRADE: &str =
    "GET /s HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

#[tokio::test]
async fn a_worker_may_switch_protocols_at_once() {
    let (listener, worker) = listener().await;
    serve_all(listener, |mut side| async move {
        side.head().await;
        // The worker's first words come with its consent.
        side.say([SWITCH.as_bytes(), b"hello"].concat()).await;
        let mut word = [0; 5];
        side.stream.read_exact(&mut word).await.unwrap();
        side.say(word).await;
    });
    let gateway = gateway(&one_pool("single", &[worker]));
    for _ in 0..100 {
        let mut client = Client::connect(gateway.addrs()[0]).await;
        client.send(UPGRADE).await;
        let head = raw_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.to_lowercase().contains("upgrade: websocket\r\n"), "{head}");
        client.send("world").await;
        let mut words = [0; 10];
        client.stream.read_exact(&mut words).await.unwrap();
        assert_eq!(&words, b"helloworld");
        assert_eq!(client.rest().await, "");
    }
}

/// What is sent behind a request to switch reaches the worker only if it switches: else it is the next request.
#[tokio::test]
async fn nothing_is_smuggled_behind_a_request_to_switch() {
    let (listener, worker) = listener().await;
    let gateway = gateway(&format!(
        "pools: {{ all: {{ balance: single, workers: [\"{worker}\"] }} }}\n\
         routes: [{{ match: \"^/secret$\", deny: true }}, {{ match: \"^/.*$\", pool: all }}]\n"
    ));
    let smuggled = "GET /secret HTTP/1.1\r\nhost: h\r\n\r\n";
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send([UPGRADE, smuggled].concat()).await;
    let mut side = Side::accept(&listener).await;
    let head = side.head().await;
    assert!(head.starts_with("GET /s ") && !head.contains("/secret"), "{head}");
    let mut scrap = [0; 100];
    let silence = tokio::time::timeout(Duration::from_millis(200), side.stream.read(&mut scrap));
    assert!(silence.await.is_err(), "bytes came before the worker had switched");
    side.say("HTTP/1.1 426 no\r\ncontent-length: 2\r\n\r\nno").await;
    assert_eq!(client.answer().await.unwrap().status, 426);
    assert_eq!(client.answer().await.unwrap().status, 404);
    // Of those who do switch, they are the first words.
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send([UPGRADE, "early"].concat()).await;
    let head = side.head().await;
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    side.say(SWITCH).await;
    let mut word = [0; 5];
    side.stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"early");
}

#[tokio::test]
async fn an_answer_may_come_before_the_body_has() {
    let (listener, worker) = listener().await;
    let gateway = gateway(&one_pool("single", &[worker]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send("POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 50000000\r\n\r\nbegin").await;
    let mut side = Side::accept(&listener).await;
    side.head().await;
    side.say("HTTP/1.1 403 no\r\ncontent-length: 2\r\n\r\nno").await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (403, "no"));
    assert_eq!(answer.header("connection"), Some("close"));
    side.closed().await;
    // Also when the worker slams the door behind it.
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send("POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 5000000\r\n\r\nbegin").await;
    let mut side = Side::accept(&listener).await;
    side.head().await;
    side.say("HTTP/1.1 413 no\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno").await;
    side.stream.shutdown().await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 413);
}

#[tokio::test]
async fn interim_answers_pass_and_leave_to_send_is_the_workers() {
    let (listener, worker) = listener().await;
    let gateway = gateway(&one_pool("single", &[worker]));
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client
        .send("PUT /a HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        .await;
    let mut side = Side::accept(&listener).await;
    let mut request = side.head().await;
    side.say("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(raw_head(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    while !request.ends_with("body") {
        let mut byte = [0];
        side.stream.read_exact(&mut byte).await.unwrap();
        request.push(byte[0] as char);
    }
    assert!(request.to_lowercase().contains("\r\nexpect: 100-continue\r\n"), "{request}");
    // It ends its connection, so that the next request comes over another one.
    let last = answer.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    side.say([interim, last.as_str()].concat()).await;
    let hints = raw_head(&mut client).await;
    assert!(hints.starts_with("HTTP/1.1 103 ") && hints.contains("link: x\r\n"), "{hints}");
    assert_eq!(client.answer().await.unwrap().body, "ok");
    // HTTP/1.0 knows none of them.
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send("GET /a HTTP/1.0\r\n\r\n").await;
    let mut side = Side::accept(&listener).await;
    let head = side.head().await;
    assert!(head.starts_with("GET /a HTTP/1.1\r\nhost: \r\n"), "{head}");
    side.say([interim, answer].concat()).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    assert_eq!(client.rest().await, "");
}

const EXPECTS: &str =
    "PUT /a HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";

/// RFC 9110 §10.1.1: the final answer comes first where the head decides it.
#[tokio::test]
async fn who_is_refused_by_his_head_is_not_told_to_send_the_body() {
    let (listener, worker) = listener().await;
    let gateway = gateway(&one_pool("single", &[worker]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send(EXPECTS).await;
    let mut side = Side::accept(&listener).await;
    side.head().await;
    side.say("HTTP/1.1 401 no\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno").await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_worker_that_does_not_know_of_leave_to_send_gets_the_body_nevertheless() {
    if engine() == Engine::Pingora {
        // There the client waits no longer than it likes.
        return;
    }
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send(EXPECTS).await;
    assert_eq!(raw_head(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    assert_eq!(worker.last().body, b"body");
}

#[tokio::test]
async fn answers_are_framed_anew_for_whoever_asks() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: t\r\n\r\n\
         3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nt: u\r\n\r\n";
    let endless = "HTTP/1.1 200 OK\r\n\r\nabcde";
    let old = "HTTP/1.0 200 OK\r\n\r\nabcde";
    for said in [chunked, endless, old] {
        let worker = Worker::start(move |_| Act::Raw(said.into())).await;
        let gateway = gateway(&one_pool("single", &[worker.address]));
        let mut client = Client::connect(gateway.addrs()[0]).await;
        for _ in 0..2 {
            let answer = client.get("/a").await.unwrap();
            assert_eq!(answer.header("transfer-encoding"), Some("chunked"), "{said}");
            assert_eq!((answer.header("trailer"), answer.body.as_str()), (None, "abcde"), "{said}");
        }
        // For HTTP/1.0 the end of the connection is the end of the body.
        let mut client = Client::connect(gateway.addrs()[0]).await;
        client.send("GET /a HTTP/1.0\r\nhost: h\r\nconnection: keep-alive\r\n\r\n").await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.header("transfer-encoding"), answer.body.as_str()), (None, "abcde"));
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    for _ in 0..2 {
        client.send("GET /a HTTP/1.0\r\nhost: h\r\nconnection: keep-alive\r\n\r\n").await;
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    client.send("GET /a HTTP/1.0\r\nhost: h\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().header("connection"), Some("close"));
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn answers_without_a_body_are_followed_by_the_next() {
    let worker = Worker::start(|seen| match (seen.method.as_str(), seen.target.as_str()) {
        (_, "/204") => Act::Raw(b"HTTP/1.1 204 x\r\n\r\n".to_vec()),
        (_, "/304") => Act::Raw(b"HTTP/1.1 304 x\r\ncontent-length: 9\r\netag: e\r\n\r\n".to_vec()),
        ("HEAD", "/chunked") => {
            Act::Raw(b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec())
        }
        _ => Act::Say("body".into()),
    })
    .await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    assert_eq!(client.get("/204").await.unwrap().status, 204);
    let unchanged = client.get("/304").await.unwrap();
    assert_eq!((unchanged.status, unchanged.header("content-length")), (304, Some("9")));
    assert_eq!(client.head("/chunked").await.unwrap().status, 200);
    assert_eq!(client.head("/a").await.unwrap().header("content-length"), Some("4"));
    assert_eq!(client.get("/a").await.unwrap().body, "body");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_taken_for_a_whole_one() {
    let broken = [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
    ];
    for said in broken {
        let worker = Worker::start(move |_| Act::Raw(said.into())).await;
        let gateway = gateway(&one_pool("single", &[worker.address]));
        let mut client = Client::connect(gateway.addrs()[0]).await;
        assert!(client.get("/a").await.is_none(), "{said}");
        // On HTTP/1.0 only an error tells.
        let mut client = Client::connect(gateway.addrs()[0]).await;
        client.send("GET /a HTTP/1.0\r\nhost: h\r\n\r\n").await;
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, client.stream.read_to_end(&mut bytes)).await;
        let complete = String::from_utf8_lossy(&bytes).contains("content-length: 5");
        assert!(read.unwrap().is_err() || complete, "{said}");
    }
}

#[tokio::test]
async fn what_workers_must_not_say_is_a_502() {
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70_000));
    let heads: [&str; 8] = [
        SWITCH,
        "HTTP/1.1 101 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1x\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        &huge,
    ];
    for said in heads {
        // Pingora takes a length beside chunks away, and unfolds lines, before any phase sees the answer; what
        // the client gets has one framing, and no folded line.
        let mended = said.contains("content-length: 1\r\ntransfer") || said.contains("folded");
        if engine() == Engine::Pingora && mended {
            continue;
        }
        let said = said.to_owned();
        let shown = said[..said.len().min(60)].to_owned();
        let worker = Worker::start(move |_| Act::Raw(said.clone().into())).await;
        let gateway = gateway(&one_pool("single", &[worker.address]));
        let answer = get(gateway.addrs()[0], "/a").await;
        assert_eq!(answer.status, 502, "{shown}");
        assert_eq!(answer.errcode(), "M_UNKNOWN", "{shown}");
    }
}

/// Bytes behind an answer belong to nobody: above all not to whoever asks next.
#[tokio::test]
async fn what_a_worker_says_too_much_is_nobodys_answer() {
    let (listener, worker) = listener().await;
    serve_all(listener, |mut side| async move {
        side.head().await;
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let surplus = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
        side.say([answer, surplus].concat()).await;
    });
    let gateway = gateway(&one_pool("single", &[worker]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    for _ in 0..50 {
        let answer = client.get("/a").await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    }
}

#[tokio::test]
async fn connections_that_workers_have_closed_are_not_used_again() {
    let worker =
        Worker::start(|_| Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()))
            .await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    for n in 0..20 {
        // The worker closes after each answer, without having said so.
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.send("PUT /a HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n\r\nx").await;
        assert_eq!(client.answer().await.unwrap().status, 200, "{n}");
    }
    assert_eq!(worker.count(), 20);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let worker = Worker::start(|seen| {
        let millis = if seen.target.ends_with('0') { 20 } else { 0 };
        Act::Wait(Duration::from_millis(millis), format!("{}{}", seen.target, seen.body.len()))
    })
    .await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    let mut all = String::new();
    for n in 0..40 {
        let body = "b".repeat(n);
        all += &match n % 3 {
            0 => format!("GET /{n} HTTP/1.1\r\nhost: h\r\n\r\n"),
            1 => format!("\r\nPUT /{n} HTTP/1.1\r\nhost: h\r\ncontent-length: {n}\r\n\r\n{body}"),
            _ => format!(
                "PUT /{n} HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
                 {n:x}\r\n{body}\r\n0\r\n\r\n"
            ),
        };
    }
    client.send(&all).await;
    for n in 0..40 {
        let length = if n % 3 == 0 { 0 } else { n };
        assert_eq!(client.answer().await.unwrap().body, format!("/{n}{length}"));
    }
    assert_eq!(worker.count(), 40);
}

#[tokio::test]
async fn a_body_nobody_wants_does_not_become_a_request() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&format!(
        "pools: {{ all: {{ balance: single, workers: [\"{}\"] }} }}\n\
         routes: [{{ match: \"^/a$\", pool: all }}]\n",
        worker.address
    ));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    let inner = "GET /a HTTP/1.1\r\nhost: h\r\n\r\n";
    let refused = format!("PUT /b HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", inner.len());
    client.send(&refused).await;
    assert_eq!(client.answer().await.unwrap().status, 404);
    client.send(inner).await;
    client.send("GET /c HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().status, 404);
    assert_eq!(worker.count(), 0);
    // In chunks, nobody knows how much it is: the connection ends.
    let chunked = "PUT /b HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send(format!("{chunked}5\r\n{}\r\n0\r\n\r\n{inner}", "xxxxx")).await;
    let last = client.answer().await.unwrap();
    assert_eq!((last.status, last.header("connection")), (404, Some("close")));
    assert_eq!(client.rest().await, "");
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn heads_arrive_in_any_pieces() {
    let worker = Worker::start(|seen| Act::Say(seen.body.len().to_string())).await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.stream.set_nodelay(true).unwrap();
    let request = "\r\nPUT /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
         3;x\r\nabc\r\n0\r\nt: u\r\n\r\n";
    for byte in request.bytes() {
        client.send([byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.unwrap().body, "3");
    let answer = ask(gateway.addrs()[0], "GET /a HTTP/1.1\r\nhost: h\r\nx: \u{e9}\r\n\r\n").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn large_bodies_go_both_ways_at_once() {
    let (listener, worker) = listener().await;
    tokio::spawn(async move {
        let mut side = Side::accept(&listener).await;
        let head = side.head().await;
        let begun = head.split("\r\n\r\n").nth(1).unwrap_or_default().len();
        side.say("HTTP/1.1 200 OK\r\ncontent-length: 8000000\r\n\r\n").await;
        let (mut from, mut to) = side.stream.into_split();
        let echo = tokio::spawn(async move {
            let mut left = 8_000_000 - begun;
            let mut piece = vec![0; 64 << 10];
            while left > 0 {
                left -= from.read(&mut piece).await.unwrap();
            }
        });
        for _ in 0..8_000 {
            to.write_all(&[b'y'; 1_000]).await.unwrap();
        }
        echo.await.unwrap();
        std::future::pending::<()>().await;
    });
    let gateway = gateway(&one_pool("single", &[worker]));
    let client = Client::connect(gateway.addrs()[0]).await;
    let (mut from, mut to) = client.stream.into_split();
    let sending = tokio::spawn(async move {
        to.write_all(b"POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 8000000\r\n\r\n")
            .await
            .unwrap();
        for _ in 0..8_000 {
            to.write_all(&[b'x'; 1_000]).await.unwrap();
        }
        to
    });
    let mut got = Vec::new();
    let read = tokio::time::timeout(PATIENCE, from.read_to_end(&mut got)).await;
    read.unwrap().unwrap();
    let end = got.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(got.len() - end, 8_000_000);
    sending.await.unwrap();
}

//! Requests over HTTP/2 between a client and workers that speak HTTP/1: what each sees, and what becomes
//! of a stream when the other side misbehaves.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use colonnade_gateway::config::Engine;
use colonnade_gateway::{RunOptions, Running, Source};
use h2::client::SendRequest;
use http::{Request, Response, StatusCode};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::{PATIENCE, engine, get, metrics_say};
use crate::trusting::{FOLDER, Trusting};
use crate::worker::{Act, Worker};

pub(crate) fn start(limits: &str, worker: &Worker) -> Running {
    start_with(limits, "eject_after: 0", worker)
}

/// A gateway whose one pool has these keys besides.
pub(crate) fn start_with(limits: &str, pool: &str, worker: &Worker) -> Running {
    start_at(limits, pool, worker.address)
}

fn start_at(limits: &str, pool: &str, worker: SocketAddr) -> Running {
    let text = format!(
        "listen: [{{ name: tls, bind: \"127.0.0.1:0\", tls: {{ certificates: [\
         {{ cert: \"{FOLDER}/one.crt\", key: \"{FOLDER}/one.key\" }}] }} }}]\n\
         admin: \"127.0.0.1:0\"\nlimits: {{ {limits} }}\n\
         pools: {{ all: {{ balance: single, {pool}, workers: [\"{worker}\"] }} }}\n\
         routes: [{{ match: \"^/denied$\", deny: true }}, {{ match: \"^/.*$\", pool: all }}]\n"
    );
    crate::client::start(RunOptions::new(Source::Text { name: "http2.yaml".to_owned(), text }))
}

/// A connection on which HTTP/2 has been agreed on.
pub(crate) async fn dial(gateway: &Running) -> TlsStream<TcpStream> {
    let config = Arc::new(Trusting::default()).client(&[b"h2"]);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = TcpStream::connect(gateway.addrs()[0]).await.unwrap();
    let name = ServerName::try_from("one.example.org").unwrap();
    connector.connect(name, tcp).await.unwrap()
}

pub(crate) async fn connect(gateway: &Running) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(dial(gateway).await).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

pub(crate) fn request(method: &str, target: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("https://one.example.org{target}"))
}

/// Sends a request with its body, and reads the whole answer; the error of the stream, if it ends so.
pub(crate) async fn ask(
    client: &mut SendRequest<Bytes>,
    request: http::request::Builder,
    body: Option<&[u8]>,
) -> Result<Response<Vec<u8>>, h2::Error> {
    let asked = async {
        let request = request.body(()).unwrap();
        let (answer, mut stream) = client.send_request(request, body.is_none())?;
        if let Some(body) = body {
            for piece in body.chunks(10_000) {
                stream.reserve_capacity(piece.len());
                let mut piece = Bytes::copy_from_slice(piece);
                while !piece.is_empty() {
                    let got = poll_fn(|cx| stream.poll_capacity(cx)).await;
                    let Some(Ok(room)) = got else { break };
                    stream.send_data(piece.split_to(room.min(piece.len())), false)?;
                }
            }
            let _answered_already = stream.send_data(Bytes::new(), true);
        }
        let (head, mut pieces) = answer.await?.into_parts();
        let mut got = Vec::new();
        while let Some(piece) = pieces.data().await {
            let piece = piece?;
            pieces.flow_control().release_capacity(piece.len())?;
            got.extend_from_slice(&piece);
        }
        Ok(Response::from_parts(head, got))
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap()
}

#[tokio::test]
async fn a_worker_sees_one_request_of_http1() {
    let worker = Worker::start(|seen| Act::Say(seen.body.len().to_string())).await;
    let gateway = start("", &worker);
    let mut client = connect(&gateway).await;
    let with_cookies =
        request("PUT", "/a%2Fb?c=%20").header("cookie", "a=1").header("cookie", "b=2");
    let answer = ask(&mut client, with_cookies, Some(&[b'x'; 200_000])).await.unwrap();
    assert_eq!(answer.body(), b"200000");
    let seen = worker.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("PUT", "/a%2Fb?c=%20"));
    for (name, value) in [
        ("host", Some("one.example.org")),
        ("cookie", Some("a=1; b=2")),
        ("transfer-encoding", Some("chunked")),
        ("content-length", None),
        ("x-forwarded-proto", Some("https")),
        ("x-forwarded-for", Some("127.0.0.1")),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    let declared = request("POST", "/a").header("content-length", "3");
    assert_eq!(ask(&mut client, declared, Some(b"abc")).await.unwrap().body(), b"3");
    assert_eq!(worker.last().header("transfer-encoding"), None);
    let bare = ask(&mut client, request("GET", "/a"), None).await.unwrap();
    assert_eq!(bare.headers()["content-length"], "1");
    let head = ask(&mut client, request("HEAD", "/a"), None).await.unwrap();
    assert_eq!((head.headers()["content-length"].as_bytes(), head.body().len()), (&b"1"[..], 0));
    let denied = ask(&mut client, request("GET", "/denied"), None).await.unwrap();
    assert_eq!(denied.status(), 404);
    assert!(String::from_utf8_lossy(denied.body()).contains("M_UNRECOGNIZED"));
}

#[tokio::test]
async fn what_two_readers_could_understand_differently_is_refused() {
    let worker = Worker::named("w").await;
    let gateway = start("body_bytes: 100B", &worker);
    let mut client = connect(&gateway).await;
    let hosts = request("GET", "/a").header("host", "other.example.org");
    assert_eq!(ask(&mut client, hosts, None).await.unwrap().status(), 400);
    let hosts = request("GET", "/a").header("host", "h").header("host", "i");
    assert_eq!(ask(&mut client, hosts, None).await.unwrap().status(), 400);
    for length in ["5", "2", "+4", "4, 4"] {
        let wrong = request("PUT", "/a").header("content-length", length);
        let answer = ask(&mut client, wrong, Some(b"abcd")).await;
        assert!(answer.is_err() || answer.unwrap().status().is_client_error(), "{length}");
    }
    let large = ask(&mut client, request("PUT", "/a"), Some(&[b'x'; 101])).await.unwrap();
    assert_eq!(large.status(), 413);
    let large = request("PUT", "/a").header("content-length", "101");
    assert_eq!(ask(&mut client, large, Some(&[b'x'; 101])).await.unwrap().status(), 413);
    assert_eq!(worker.count(), 0);
    assert_eq!(ask(&mut client, request("GET", "/a"), None).await.unwrap().body(), b"w");
}

/// curl, for one, takes a reset in the middle of its body for a failure, and shows no answer.
#[tokio::test]
async fn who_sends_too_much_can_read_why() {
    let worker = Worker::named("w").await;
    let gateway = start("body_bytes: 100B", &worker);
    let mut client = connect(&gateway).await;
    let large = request("PUT", "/a").header("content-length", "1000000").body(()).unwrap();
    let (answer, mut stream) = client.send_request(large, false).unwrap();
    let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 413);
    // More than the window holds: somebody reads it.
    let mut left = 1_000_000;
    let sent = async {
        while left > 0 {
            stream.reserve_capacity(left);
            let room = poll_fn(|cx| stream.poll_capacity(cx)).await;
            let room = room.expect("the stream stays").expect("nobody resets it");
            stream.send_data(Bytes::from(vec![b'x'; room]), room == left).unwrap();
            left -= room;
        }
    };
    tokio::time::timeout(PATIENCE, sent).await.unwrap();
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn a_worker_that_fails_costs_its_stream_alone() {
    let worker = Worker::start(|seen| match seen.target.as_str() {
        "/half" => Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()),
        "/chunk" => {
            Act::Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf".to_vec())
        }
        "/endless" => Act::Raw(b"HTTP/1.1 200 OK\r\n\r\nwhole".to_vec()),
        "/chunks" => Act::Raw(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\nt: u\r\n\r\n"
                .to_vec(),
        ),
        "/204" => Act::Raw(b"HTTP/1.1 204 x\r\n\r\n".to_vec()),
        "/garbage" => Act::Raw(b"\0\0\0".to_vec()),
        "/hang" => Act::Hang,
        "/silence" => Act::Silence,
        _ => Act::Say("w".into()),
    })
    .await;
    let gateway = start("response_timeout: 500ms", &worker);
    let mut client = connect(&gateway).await;
    for target in ["/half", "/chunk"] {
        assert!(ask(&mut client, request("GET", target), None).await.is_err(), "{target}");
    }
    for target in ["/endless", "/chunks"] {
        let answer = ask(&mut client, request("GET", target), None).await.unwrap();
        assert_eq!(answer.body(), b"whole", "{target}");
        assert!(!answer.headers().contains_key("transfer-encoding"), "{target}");
    }
    for (target, status) in [("/garbage", 502), ("/hang", 502), ("/silence", 504), ("/204", 204)] {
        let answer = ask(&mut client, request("POST", target), Some(b"x")).await.unwrap();
        assert_eq!(answer.status(), status, "{target}");
    }
    assert_eq!(ask(&mut client, request("GET", "/a"), None).await.unwrap().body(), b"w");
}

#[tokio::test]
async fn a_stream_that_is_given_up_leaves_nothing_behind() {
    let worker = Worker::start(|_| Act::Wait(Duration::from_secs(30), "late".into())).await;
    let gateway = start("", &worker);
    let mut client = connect(&gateway).await;
    let waits = request("GET", "/poll").body(()).unwrap();
    let (answer, mut stream) = client.send_request(waits, true).unwrap();
    while worker.count() < 1 {
        tokio::task::yield_now().await;
    }
    stream.send_reset(h2::Reason::CANCEL);
    drop((answer, stream));
    let admin = gateway.admin_addr().unwrap();
    let emptied = async {
        loop {
            let pools: serde_json::Value =
                serde_json::from_str(&get(admin, "/pools").await.body).unwrap();
            if pools["pools"][0]["workers"][0]["working"] == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, emptied).await.unwrap();
}

/// The deadline of a body that stops: Pingora reads bodies over HTTP/2 without one of their own, and the time that
/// a worker has to answer ends the request. The other is far longer than any test.
pub(crate) fn body_deadline(time: &str) -> String {
    match engine() {
        Engine::Direct => format!("body_timeout: {time}, response_timeout: 10m"),
        Engine::Pingora => format!("body_timeout: 10m, response_timeout: {time}"),
    }
}

/// A body that stops is not waited for, and is not the fault of the worker that waits for it: the worker is not
/// left alone, though a single failure of its own would have it so.
#[tokio::test]
async fn a_body_that_stalls_is_not_the_workers_fault() {
    let worker = Worker::start(|seen| match seen.target.as_str() {
        "/silent" => Act::Silence,
        _ => Act::Say("w".to_owned()),
    })
    .await;
    let limits = format!("{}, hold: 100ms", body_deadline("500ms"));
    let gateway = start_with(&limits, "eject_after: 1", &worker);
    let admin = gateway.admin_addr().unwrap();
    let known = async || {
        let pools: serde_json::Value =
            serde_json::from_str(&get(admin, "/pools").await.body).unwrap();
        pools["pools"][0]["workers"][0].clone()
    };
    let mut client = connect(&gateway).await;
    for (method, begun) in [("PUT", ""), ("PUT", "half"), ("POST", "half")] {
        let (answer, mut stops) =
            client.send_request(request(method, "/a").body(()).unwrap(), false).unwrap();
        if !begun.is_empty() {
            stops.send_data(Bytes::from_static(begun.as_bytes()), false).unwrap();
        }
        let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), 408, "{method} {begun:?}");
        let known = known().await;
        assert_eq!((&known["ejections"], &known["failures"]), (&0.into(), &0.into()), "{known}");
        // The same connection and the same worker serve on.
        let next = ask(&mut client, request("PUT", "/a"), Some(b"whole")).await.unwrap();
        assert_eq!((next.status(), next.body().as_slice()), (StatusCode::OK, &b"w"[..]));
    }
    assert_eq!(worker.count(), 3);
    metrics_say(&gateway, "status=\"4xx\"} 3").await;
    if engine() == Engine::Pingora {
        // What is told apart: the same deadline, and the worker has the whole body.
        let late = ask(&mut client, request("POST", "/silent"), Some(b"whole")).await.unwrap();
        assert_eq!(late.status(), 504);
        assert_eq!(known().await["ejections"], 1);
    }
}

/// Clients that leave while they are held: enough that some do in the middle of an attempt.
const LEAVING: usize = 50;

#[tokio::test]
async fn who_leaves_while_held_is_not_waited_for() {
    let worker = Worker::away().await;
    let gateway = start("hold: 10m", &worker);
    let mut client = connect(&gateway).await;
    let held = || request("GET", "/a").body(()).unwrap();
    let (answer, mut stream) = client.send_request(held(), true).unwrap();
    metrics_say(&gateway, "outcome=\"no_connection\"").await;
    stream.send_reset(h2::Reason::CANCEL);
    metrics_say(&gateway, "status=\"none\"} 1").await;
    drop((answer, stream, client));
    // And who leaves altogether, while a worker is waited for or just being tried.
    for _ in 0..LEAVING {
        let (client, connection) = h2::client::handshake(dial(&gateway).await).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let (_answer, _stream) = client.send_request(held(), true).unwrap();
        // What follows it on the connection is answered: so it has arrived.
        assert_eq!(ask(&mut client, request("GET", "/denied"), None).await.unwrap().status(), 404);
        connection.abort();
    }
    metrics_say(&gateway, &format!("status=\"none\"}} {}", LEAVING + 1)).await;
}

#[tokio::test]
async fn who_is_refused_by_his_head_is_not_told_to_send_the_body() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = start_at("", "eject_after: 0", listener.local_addr().unwrap());
    let mut client = connect(&gateway).await;
    let waits = request("PUT", "/a").header("expect", "100-continue").body(()).unwrap();
    let (mut answer, _stream) = client.send_request(waits, false).unwrap();
    let refused = async {
        let (mut worker, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(worker.read_u8().await.unwrap());
        }
        let said = "HTTP/1.1 401 no\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno";
        worker.write_all(said.as_bytes()).await.unwrap();
        worker
    };
    let ended = async {
        let interim = poll_fn(|cx| answer.poll_informational(cx)).await;
        assert!(interim.is_none(), "nothing comes before the answer");
        assert_eq!(answer.await.unwrap().status(), StatusCode::UNAUTHORIZED);
    };
    // The worker's side stays open until then.
    let (_, _worker) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(ended, refused) }).await.unwrap();
}

#[tokio::test]
async fn interim_answers_pass_and_leave_to_send_is_given() {
    if engine() == Engine::Pingora {
        // Pingora writes no interim answers over HTTP/2.
        return;
    }
    let worker = Worker::start(|seen| match seen.target.as_str() {
        "/switch" => Act::Raw(b"HTTP/1.1 101 x\r\nupgrade: websocket\r\n\r\n".to_vec()),
        _ => Act::Raw(
            b"HTTP/1.1 100 Continue\r\n\r\n\
              HTTP/1.1 103 Early Hints\r\nlink: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n\
              HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
                .to_vec(),
        ),
    })
    .await;
    let gateway = start("", &worker);
    let mut client = connect(&gateway).await;
    let waits = request("PUT", "/a").header("expect", "100-continue").body(()).unwrap();
    let (mut answer, mut stream) = client.send_request(waits, false).unwrap();
    let ended = async {
        let leave = poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!((leave.status(), leave.headers().len()), (StatusCode::CONTINUE, 0));
        stream.send_data(Bytes::from_static(b"body"), true).unwrap();
        let hints = poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!((hints.status(), hints.headers().len()), (StatusCode::EARLY_HINTS, 1));
        assert_eq!(hints.headers()["link"], "x");
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-length"], "2");
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(
        (worker.last().header("expect"), worker.last().body.as_slice()),
        (Some("100-continue"), &b"body"[..])
    );
    let switched = ask(&mut client, request("GET", "/switch"), None).await.unwrap();
    assert_eq!(switched.status(), 502);
}

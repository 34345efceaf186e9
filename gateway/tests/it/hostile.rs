//! Peers that break the rules, on raw sockets: what comes in, what must come out. The gateway
//! lives on, and nothing ambiguous reaches a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use colonnade_gateway::config::Engine;

use crate::client::{Client, ask, engine, gateway, get, metrics_say, one_pool};
use crate::worker::{Act, Worker};

/// Requests that two readers could understand differently: refused, and the connection ends.
#[tokio::test]
async fn ambiguous_framing_is_refused() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let cases: [(&str, &str); 14] = [
        (
            "CL and TE",
            "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "TE and CL",
            "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        ),
        (
            "two lengths",
            "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
        ),
        ("signed length", "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: +4\r\n\r\nabcd"),
        ("hex length", "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 0x4\r\n\r\nabcd"),
        (
            "unknown coding",
            "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "coding after chunked",
            "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked on 1.0",
            "POST /a HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("obs-fold", "GET /a HTTP/1.1\r\nhost: h\r\nx: a\r\n b\r\n\r\n"),
        ("bare LF", "GET /a HTTP/1.1\nhost: h\n\n"),
        ("bare LF in headers", "GET /a HTTP/1.1\r\nhost: h\r\nx: y\nz: 1\r\n\r\n"),
        ("blank before colon", "GET /a HTTP/1.1\r\nhost: h\r\ncontent-length : 4\r\n\r\nabcd"),
        ("two hosts", "GET /a HTTP/1.1\r\nhost: h\r\nhost: i\r\n\r\n"),
        ("authority mismatch", "GET http://i/a HTTP/1.1\r\nhost: h\r\n\r\n"),
    ];
    for (name, request) in cases {
        let mut client = Client::connect(gateway.addrs()[0]).await;
        client.send(request).await;
        let answer = client.answer().await.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
        assert_eq!(answer.errcode(), "M_UNKNOWN", "{name}");
        assert_eq!(answer.header("connection"), Some("close"), "{name}");
        assert_eq!(client.rest().await, "", "{name}");
    }
    assert_eq!(worker.count(), 0);
    assert_eq!(get(gateway.addrs()[0], "/a").await.status, 200);
}

#[tokio::test]
async fn chunk_extensions_and_trailers_do_not_change_the_body() {
    let worker = Worker::start(|s| Act::Say(String::from_utf8_lossy(&s.body).into_owned())).await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client
        .send("POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.unwrap().body, "abc");
}

#[tokio::test]
async fn bad_chunks_end_the_request() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    for chunk in ["zz\r\nabc\r\n", "-3\r\nabc\r\n", "fffffffffffffffff\r\nabc\r\n"] {
        let mut client = Client::connect(gateway.addrs()[0]).await;
        client
            .send(format!(
                "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"
            ))
            .await;
        let answer = client.answer().await;
        assert!(answer.is_none_or(|answer| answer.status >= 400), "{chunk}");
    }
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn slow_and_endless_heads_are_cut_off() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&format!(
        "limits: {{ header_timeout: 400ms, keepalive_timeout: 700ms, header_bytes: 4KiB }}\n{}",
        one_pool("single", &[worker.address])
    ));
    let address = gateway.addrs()[0];

    // One byte every 50 ms never pauses, and is still too slow as a whole.
    let mut drip = Client::connect(address).await;
    let began = Instant::now();
    for byte in b"GET /a HTTP/1.1\r\nhost: h\r\nx: yyyyyyyyyyyyyyyyyyyyyyyyy" {
        if drip.stream.write_all(&[*byte]).await.is_err() || began.elapsed().as_millis() > 1500 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = drip.answer().await.unwrap();
    assert_eq!((answer.status, answer.errcode().as_str()), (408, "M_UNKNOWN"));

    // Headers without an end.
    let mut endless = Client::connect(address).await;
    endless.send("GET /a HTTP/1.1\r\n").await;
    for _ in 0..2_000 {
        if endless.stream.write_all(b"x: 0123456789012345678901234567890\r\n").await.is_err() {
            break;
        }
    }
    assert_eq!(endless.answer().await.unwrap().status, 431);

    // A connection that says nothing is ended without a word.
    let mut silent = Client::connect(address).await;
    assert_eq!(silent.rest().await, "");
    let mut rested = Client::connect(address).await;
    assert_eq!(rested.get("/a").await.unwrap().status, 200);
    let began = Instant::now();
    assert_eq!(rested.rest().await, "");
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn slow_bodies_are_cut_off() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&format!(
        "limits: {{ body_timeout: 300ms }}\n{}",
        one_pool("single", &[worker.address])
    ));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send("PUT /a HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nhalf").await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.errcode().as_str()), (408, "M_UNKNOWN"));
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn too_many_connections_are_turned_away_and_the_rest_served() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&format!(
        "limits: {{ connections: 5 }}\n{}",
        one_pool("single", &[worker.address])
    ));
    let address = gateway.addrs()[0];
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut client = Client::connect(address).await;
        assert_eq!(client.get("/a").await.unwrap().status, 200);
        held.push(client);
    }
    let mut sixth = Client::connect(address).await;
    assert_eq!(sixth.rest().await, "");
    assert_eq!(held[0].get("/a").await.unwrap().status, 200);
    held.pop();
    let served = async {
        loop {
            let mut client = Client::connect(address).await;
            let request = client.stream.write_all(b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n").await;
            if request.is_ok() && client.answer().await.is_some() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), served).await.unwrap();
}

#[tokio::test]
async fn workers_that_misbehave_give_a_matrix_error() {
    let garbage = Worker::start(|seen| match seen.target.as_str() {
        "/garbage" => Act::Raw(b"\x00\xffnot http at all\r\n\r\n".to_vec()),
        "/two-lengths" => Act::Raw(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc".to_vec(),
        ),
        "/hang" => Act::Hang,
        "/silence" => Act::Silence,
        _ => Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly half".to_vec()),
    })
    .await;
    let gateway = gateway(&format!(
        "limits: {{ response_timeout: 300ms }}\n{}",
        one_pool("single", &[garbage.address])
    ));
    let address = gateway.addrs()[0];
    for (target, status) in
        [("/garbage", 502), ("/two-lengths", 502), ("/hang", 502), ("/silence", 504)]
    {
        let answer = get(address, target).await;
        assert_eq!((answer.status, answer.errcode().as_str()), (status, "M_UNKNOWN"), "{target}");
    }
    // Dies in the middle: the client sees an answer that is not whole, never a wrong one.
    let mut client = Client::connect(address).await;
    assert!(client.get("/half").await.is_none());
}

#[tokio::test]
async fn clients_that_vanish_leave_nothing_behind() {
    let worker = Worker::start(|_| Act::Wait(Duration::from_secs(30), "late".into())).await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let address = gateway.addrs()[0];
    for n in 0..20 {
        let mut client = Client::connect(address).await;
        if n % 2 == 0 {
            client.send("GET /poll HTTP/1.1\r\nhost: h\r\n\r\n").await;
        } else {
            client.send("PUT /a HTTP/1.1\r\nhost: h\r\ncontent-length: 50\r\n\r\nhalf").await;
        }
    }
    let admin = gateway.admin_addr().unwrap();
    let emptied = async {
        loop {
            let pools: serde_json::Value =
                serde_json::from_str(&get(admin, "/pools").await.body).unwrap();
            let worker = &pools["pools"][0]["workers"][0];
            if pools["connections"] == 0 && worker["working"] == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), emptied).await.unwrap();
}

/// How much the kernel and the gateway together may hold for one connection: socket buffers grow to
/// some megabytes, the gateway adds some tens of kilobytes.
const HELD_MAX: usize = 32 << 20;

/// Waits until a count has not moved for a while, and gives it.
async fn settled(count: &AtomicUsize) -> usize {
    let mut seen = 0;
    let mut still = 0;
    while still < 10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = count.load(Ordering::Relaxed);
        still = if now == seen && now > 0 { still + 1 } else { 0 };
        seen = now;
    }
    seen
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_the_worker_down_and_fills_no_memory() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let worker = listener.local_addr().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut scrap = [0; 4096];
        let _request = stream.read(&mut scrap).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        while stream.write_all(&[b'x'; 64 << 10]).await.is_ok() {
            count.fetch_add(64 << 10, Ordering::Relaxed);
        }
    });
    let gateway = gateway(&one_pool("single", &[worker]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send("GET /a HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let held = tokio::time::timeout(Duration::from_secs(20), settled(&written)).await.unwrap();
    assert!(held < HELD_MAX, "{held} bytes went into somebody's memory");
}

#[tokio::test]
async fn a_worker_that_does_not_read_slows_the_client_down_and_fills_no_memory() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let worker = listener.local_addr().unwrap();
    let gateway =
        gateway(&format!("limits: {{ body_bytes: 1GiB }}\n{}", one_pool("single", &[worker])));
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send("PUT /a HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000000\r\n\r\n").await;
    let (_held_open, _) = listener.accept().await.unwrap();
    tokio::spawn(async move {
        while client.stream.write_all(&[b'x'; 64 << 10]).await.is_ok() {
            count.fetch_add(64 << 10, Ordering::Relaxed);
        }
    });
    let held = tokio::time::timeout(Duration::from_secs(20), settled(&sent)).await.unwrap();
    assert!(held < HELD_MAX, "{held} bytes went into somebody's memory");
}

#[tokio::test]
async fn a_client_that_stops_sending_is_gone_and_its_request_with_it() {
    let worker = Worker::start(|_| Act::Wait(Duration::from_secs(30), "late".into())).await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send("GET /poll HTTP/1.1\r\nhost: h\r\n\r\n").await;
    while worker.count() < 1 {
        tokio::task::yield_now().await;
    }
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "");
}

/// What is kept of bodies, to send them again, has a bound for all together. Beyond it `direct` passes them on
/// without keeping them; Pingora cannot, and refuses what is not small.
#[tokio::test]
async fn bodies_that_do_not_end_are_kept_up_to_a_bound_for_all_together() {
    let worker = Worker::named("w").await;
    let rest = one_pool("single", &[worker.address]);
    let gateway = gateway(&format!("limits: {{ kept_body_bytes: 100KiB }}\n{rest}"));
    let begin = "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 60001\r\n\r\n";
    let most = "x".repeat(60_000);
    let mut stops = Client::connect(gateway.addrs()[0]).await;
    stops.send(format!("{begin}{most}")).await;
    let (admin, mut kept) = (gateway.admin_addr().unwrap(), 0_u64);
    while kept < 60_000 {
        let metrics = get(admin, "/metrics").await.body;
        let name = "colonnade_gateway_kept_body_bytes ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        kept = line.parse().unwrap();
    }
    let mut another = Client::connect(gateway.addrs()[0]).await;
    another.send(format!("{begin}{most}")).await;
    let status = match engine() {
        Engine::Direct => {
            another.send("x").await;
            200
        }
        Engine::Pingora => 503,
    };
    assert_eq!(another.answer().await.unwrap().status, status);
    // A little is always kept.
    let body = "x".repeat(3_000);
    let small = format!("POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 3000\r\n\r\n{body}");
    assert_eq!(ask(gateway.addrs()[0], &small).await.status, 200);
    stops.send("x").await;
    assert_eq!(stops.answer().await.unwrap().status, 200);
    metrics_say(&gateway, "colonnade_gateway_kept_body_bytes 0\n").await;
}

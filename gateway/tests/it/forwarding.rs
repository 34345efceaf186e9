//! What a request and its answer look like on the other side.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Client, ask, gateway, get, one_pool};
use crate::worker::{Act, Worker};

#[tokio::test]
async fn path_and_query_arrive_as_they_were_read() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("least_conn", &[worker.address]));
    let targets = [
        ("/_matrix/client/v3/rooms/%21a%3Ab/send/m.x/t%2F..?a=%20b&&c=d+e&", None),
        ("/_matrix/client/v3/rooms/%21a%3Ab/send/m.x/t%2F..x?%", Some(400)),
        ("/a//b/c/", None),
        ("/a//b/./../c/", Some(400)),
        ("/%C3%A9?", None),
        ("/;x=1?y?z", None),
    ];
    for (target, refused) in targets {
        let answer = get(gateway.addrs()[0], target).await;
        assert_eq!(answer.status, refused.unwrap_or(200), "{target}");
        assert!(refused.is_some() || worker.last().target == target, "{target}");
    }
    // Federation signs the target as it was sent: only what nobody writes so is spelled anew.
    assert_eq!(get(gateway.addrs()[0], "/%61%2fb?%").await.status, 400);
    assert_eq!(get(gateway.addrs()[0], "/%61%2fb?c=%7e").await.status, 200);
    assert_eq!(worker.last().target, "/a%2Fb?c=~");
    let absolute = "GET http://h/x%2Fy?q=1 HTTP/1.1\r\nhost: h\r\n\r\n";
    assert_eq!(ask(gateway.addrs()[0], absolute).await.status, 200);
    assert_eq!(worker.last().target, "/x%2Fy?q=1");
}

#[tokio::test]
async fn bodies_arrive_whole_in_both_framings() {
    let worker = Worker::start(|seen| Act::Say(seen.body.len().to_string())).await;
    let gateway = gateway(&one_pool("least_conn", &[worker.address]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    let body = vec![b'x'; 300_000];
    client
        .send(format!("PUT /a HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", body.len()))
        .await;
    client.send(&body).await;
    assert_eq!(client.answer().await.unwrap().body, "300000");
    client.send("POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for _ in 0..10 {
        client.send("3e8\r\n").await;
        client.send(&body[..1000]).await;
        client.send("\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().body, "10000");
}

#[tokio::test]
async fn the_worker_learns_who_asks() {
    let worker = Worker::named("w").await;
    let trusted = "trusted_proxies: [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n";
    let gateway_trusting = gateway(&format!("{trusted}{}", one_pool("single", &[worker.address])));
    let request = "GET /a HTTP/1.1\r\nhost: chat.example.org\r\nx-request-id: r-1\r\n\
         x-forwarded-for: 6.6.6.6, 203.0.113.9\r\nx-forwarded-for: 10.1.1.1\r\n\
         x-forwarded-proto: https\r\n\r\n";
    let answer = ask(gateway_trusting.addrs()[0], request).await;
    assert_eq!(answer.header("x-request-id"), Some("r-1"));
    let seen = worker.last();
    let chain = "6.6.6.6, 203.0.113.9, 10.1.1.1, 127.0.0.1";
    assert_eq!(seen.header("x-forwarded-for"), Some(chain));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-request-id"), Some("r-1"));
    assert_eq!(seen.header("host"), Some("chat.example.org"));

    let gateway = gateway(&one_pool("single", &[worker.address]));
    let answer = ask(gateway.addrs()[0], &request.replace("r-1", "no good")).await;
    let seen = worker.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    let id = seen.header("x-request-id").unwrap();
    assert_ne!(id, "no good");
    assert_eq!(answer.header("x-request-id"), Some(id));
}

#[tokio::test]
async fn errors_are_matrix_shaped_and_readable_from_a_browser() {
    let worker = Worker::named("w").await;
    let routes = format!(
        "limits: {{ body_bytes: 100B, header_bytes: 4KiB }}\n\
         pools: {{ all: {{ balance: single, workers: [\"{}\"] }}, none: {{ balance: single }} }}\n\
         routes:\n\
         \x20 - {{ match: \"^/a$\", methods: [GET, PUT], pool: all }}\n\
         \x20 - {{ match: \"^/none$\", pool: none }}\n\
         \x20 - {{ match: \"^/secret$\", deny: true }}\n",
        worker.address
    );
    let gateway = gateway(&routes);
    let long = "x".repeat(6000);
    let cases = [
        ("GET /b HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(), 404, "M_UNRECOGNIZED"),
        ("GET /secret HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(), 404, "M_UNRECOGNIZED"),
        ("DELETE /a HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(), 405, "M_UNRECOGNIZED"),
        ("GET /none HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(), 503, "M_UNKNOWN"),
        (
            "PUT /a HTTP/1.1\r\nhost: h\r\ncontent-length: 101\r\n\r\n".to_owned(),
            413,
            "M_TOO_LARGE",
        ),
        (
            format!(
                "PUT /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n65\r\n{}\r\n0\r\n\r\n",
                "x".repeat(0x65)
            ),
            413,
            "M_TOO_LARGE",
        ),
        (format!("GET /a HTTP/1.1\r\nhost: h\r\nx: {long}\r\n\r\n"), 431, "M_TOO_LARGE"),
        ("nonsense\r\n\r\n".to_owned(), 400, "M_UNKNOWN"),
        ("CONNECT h:80 HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(), 405, "M_UNRECOGNIZED"),
    ];
    for (request, status, errcode) in cases {
        let answer = ask(gateway.addrs()[0], &request).await;
        let shown = &request[..request.len().min(60)];
        assert_eq!((answer.status, answer.errcode().as_str()), (status, errcode), "{shown}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{shown}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{shown}");
        assert_eq!(answer.header("retry-after").is_some(), status == 503, "{shown}");
    }
    assert_eq!(worker.seen.lock().unwrap().iter().filter(|s| s.method != "PUT").count(), 0);
}

#[tokio::test]
async fn preflights_are_answered_at_the_door() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let request =
        "OPTIONS /_matrix/client/v3/sync HTTP/1.1\r\nhost: h\r\norigin: https://c\r\n\r\n";
    let answer = ask(gateway.addrs()[0], request).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("Authorization"));
    assert_eq!(worker.count(), 0);
    let answer = get(gateway.addrs()[0], "/x").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn a_connection_carries_many_requests_and_pipelines() {
    let worker = Worker::start(|seen| Act::Say(seen.target.clone())).await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    for n in 0..5 {
        let target = format!("/{n}");
        assert_eq!(client.get(&target).await.unwrap().body, target);
    }
    let head = client.head("/head").await.unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    client.send("GET /p1 HTTP/1.1\r\nhost: h\r\n\r\nGET /p2 HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().body, "/p1");
    assert_eq!(client.answer().await.unwrap().body, "/p2");
}

#[tokio::test]
async fn a_dead_worker_costs_an_attempt_not_a_request() {
    let alive = Worker::named("alive").await;
    let dead = {
        let gone = Worker::named("gone").await;
        gone.address
    };
    let gateway = gateway(&one_pool("round_robin", &[dead, alive.address]));
    for n in 0..6 {
        let answer = get(gateway.addrs()[0], &format!("/{n}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "alive"));
    }
}

#[tokio::test]
async fn a_worker_that_breaks_off_is_retried_only_where_that_is_safe() {
    let broken = Worker::start(|_| Act::Hang).await;
    let alive = Worker::named("alive").await;
    let routes = format!(
        "pools: {{ all: {{ balance: single, eject_after: 0, workers: [\"{}\", \"{}\"] }} }}\n\
         routes:\n\
         \x20 - {{ match: \"^/never$\", retry: never, pool: all }}\n\
         \x20 - {{ match: \"^/.*$\", pool: all }}\n",
        broken.address, alive.address
    );
    let gateway = gateway(&routes);
    let address = gateway.addrs()[0];
    assert_eq!(get(address, "/safe").await.body, "alive");
    let put = "PUT /txn HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi";
    assert_eq!(ask(address, put).await.body, "alive");
    assert_eq!(alive.last().body, b"hi");
    assert_eq!(get(address, "/never").await.status, 502);
    let post = "POST /claim HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi";
    assert_eq!(ask(address, post).await.status, 502);
    assert_eq!(alive.count(), 2);
}

#[tokio::test]
async fn requests_of_a_room_meet_one_worker_however_it_is_written() {
    let (a, b, c) = (Worker::named("a").await, Worker::named("b").await, Worker::named("c").await);
    let workers = format!("[\"{}\", \"{}\", \"{}\"]", a.address, b.address, c.address);
    let gateway = gateway(&format!(
        "pools: {{ rooms: {{ balance: {{ hash: room }}, workers: {workers} }} }}\n\
         routes: [{{ match: \"^/rooms/(?<room>[^/]+)/(send|state)$\", pool: rooms }}]\n"
    ));
    let mut met = std::collections::HashSet::new();
    for n in 0..30 {
        let plain = get(gateway.addrs()[0], &format!("/rooms/!{n}:h/send")).await.body;
        let coded = get(gateway.addrs()[0], &format!("/rooms/%21{n}%3Ah/state")).await.body;
        assert_eq!(plain, coded);
        met.insert(plain);
    }
    assert_eq!(met.len(), 3);
}

#[tokio::test]
async fn long_polls_park_and_do_not_count_as_work() {
    let waiting = Worker::start(|_| Act::Wait(Duration::from_millis(600), "late".into())).await;
    let gateway = gateway(&format!(
        "limits: {{ response_timeout: 100ms, long_poll_timeout: 10s }}\n\
         pools: {{ sync: {{ balance: least_conn, workers: [\"{}\"] }} }}\n\
         routes:\n\
         \x20 - {{ match: \"^/sync$\", pool: sync, long_poll: true }}\n\
         \x20 - {{ match: \"^/.*$\", pool: sync }}\n",
        waiting.address
    ));
    let address = gateway.addrs()[0];
    let poll = tokio::spawn(async move { get(address, "/sync?timeout=8000").await });
    let admin = gateway.admin_addr().unwrap();
    let long_polling = async {
        loop {
            let pools: serde_json::Value =
                serde_json::from_str(&get(admin, "/pools").await.body).unwrap();
            let worker = &pools["pools"][0]["workers"][0];
            if worker["long_polling"] == 1 {
                return worker["working"].as_u64().unwrap();
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), long_polling).await.unwrap(), 0);
    assert_eq!(poll.await.unwrap().body, "late");
    // What asks for less time gets less, and what is no long poll gets none on top.
    for target in ["/slow", "/slow?timeout=8000", "/sync?timeout=200"] {
        let slow = get(address, target).await;
        assert_eq!((slow.status, slow.errcode().as_str()), (504, "M_UNKNOWN"), "{target}");
    }
}

/// A connection that both sides agree to use otherwise is theirs, in both directions, until either ends.
#[tokio::test]
async fn upgraded_connections_pass_through() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let worker = listener.local_addr().unwrap();
    let gateway = gateway(&one_pool("single", &[worker]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client
        .send(
            "GET /socket HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.unwrap() > 0);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    for named in ["upgrade: websocket", "connection: upgrade", "sec-websocket-key: "] {
        assert!(head.contains(named), "{named}: {head}");
    }
    // Pingora 0.9.1 ends an upgraded connection whose worker switches before the end of the request's empty
    // body has gone from one half of the proxy to the other; real ones take longer than that.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let switching = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                     upgrade: websocket\r\n\r\n";
    stream.write_all(switching.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        assert!(client.stream.read_buf(&mut got).await.unwrap() > 0);
    }
    assert!(got.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&got));
    let mut bytes = [0; 4];
    // Neither is HTTP, and nobody waits for the other.
    stream.write_all(b"\x81\x02hi").await.unwrap();
    client.stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"\x81\x02hi");
    client.stream.write_all(b"\x81\x02ho").await.unwrap();
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"\x81\x02ho");
    drop(stream);
    assert_eq!(client.rest().await, "");
}

//! What is asked for has one reading: what rules, keys, limits and the log see is what the worker is sent,
//! and what could be read in another way is refused, on HTTP/1 and HTTP/2.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::client::{Client, ask, gateway, get, one_pool};
use crate::http2;
use crate::worker::{Act, Worker};

/// One rule that denies, and one pool for the rest.
fn denying(worker: &Worker) -> String {
    format!(
        "pools: {{ all: {{ balance: single, workers: [\"{}\"] }} }}\n\
         routes: [{{ match: \"^/_colonnade/slots(/.*)?$\", deny: true }}, \
         {{ match: \"^/rooms/!closed:h$\", deny: true }}, {{ match: \"^/.*$\", pool: all }}]\n",
        worker.address
    )
}

#[tokio::test]
async fn a_deny_rule_is_not_passed_by_another_spelling() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&denying(&worker));
    for (target, status) in [
        ("/_colonnade/slots", 404),
        ("/_colonnade/slots?x", 404),
        ("/_colonnade/%73lots", 404),
        ("/%5Fcolonnade/slots", 404),
        ("/rooms/%21closed%3Ah", 404),
        ("/rooms/%21closed%3ah", 404),
        ("/_colonnade/slots#", 400),
        ("/_colonnade/slots#x", 400),
        ("/_colonnade/slots?#", 400),
        ("/#/_colonnade/slots", 400),
        ("http://h/_colonnade/slots#", 400),
        ("http://h#/_colonnade/slots", 400),
        ("/x/../_colonnade/slots", 400),
        ("/x/%2e%2E/_colonnade/slots", 400),
        ("/./_colonnade/slots", 400),
        ("/x\\..\\_colonnade\\slots", 400),
        ("/_colonnade/slots%", 400),
        ("/_colonnade/slots%00", 400),
        ("/_colonnade/slots\u{e9}", 400),
        ("/_colonnade/slots%ff", 400),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n");
        assert_eq!(ask(gateway.addrs()[0], &request).await.status, status, "{target}");
    }
    assert_eq!(worker.count(), 0);
    let long = format!("/{}", "a".repeat(9_000));
    let answer = get(gateway.addrs()[0], &long).await;
    assert_eq!((answer.status, answer.errcode().as_str()), (414, "M_TOO_LARGE"));
}

/// The h2 crate itself throws away what stands behind a `#`: there is one reading of what is left.
#[tokio::test]
async fn over_http2_it_is_the_same() {
    let worker = Worker::named("w").await;
    let gateway = http2::start("", &worker);
    let mut client = http2::connect(&gateway).await;
    for (target, status) in [
        ("/denied", 404),
        ("/%64enied", 404),
        ("/denied?access_token=a&access_token=b", 400),
        ("/a?access%5Ftoken=b", 400),
        ("/a/%2e%2e/b", 400),
        ("/a%", 400),
        ("/a%00", 400),
    ] {
        let answer = http2::ask(&mut client, http2::request("GET", target), None).await.unwrap();
        assert_eq!(answer.status(), status, "{target}");
    }
    let twice = http2::request("GET", "/a?access_token=b").header("authorization", "Bearer a");
    assert_eq!(http2::ask(&mut client, twice, None).await.unwrap().status(), 400);
    let elsewhere = http2::request("GET", "/a").header("host", "two.example.org");
    assert_eq!(http2::ask(&mut client, elsewhere, None).await.unwrap().status(), 400);
    let refused = http2::ask(&mut client, http2::request("BREW", "/denied"), None).await.unwrap();
    assert_eq!(refused.status(), 404, "rules without methods take all");
    assert_eq!(worker.count(), 0);
    let sent = http2::request("GET", "/%61?b=%7e");
    assert_eq!(http2::ask(&mut client, sent, None).await.unwrap().status(), 200);
    assert_eq!(worker.last().target, "/a?b=~");
}

#[tokio::test]
async fn hosts_are_hosts() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let front = gateway.addrs()[0];
    for host in ["a b", "a/b", "[::1", "a,b", "a?b", "a#b", "a\\b", "u@a", "a:x", "a:1:2", "", ":1"]
    {
        let request = format!("GET /a HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(ask(front, &request).await.status, 400, "{host}");
    }
    // RFC 9112 §3.2: a Host there must be, also where the target names it; HTTP/1.0 knows none.
    assert_eq!(ask(front, "GET http://h/a HTTP/1.1\r\n\r\n").await.status, 400);
    assert_eq!(ask(front, "GET http://h/a HTTP/1.1\r\nhost: i\r\n\r\n").await.status, 400);
    assert_eq!(worker.count(), 0);
    for request in [
        "GET http://h/a HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET http://h/a HTTP/1.0\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: [::1]:8008\r\n\r\n",
    ] {
        assert_eq!(ask(front, request).await.status, 200, "{request}");
    }
}

/// However a token is spelled, it is one token, and who has it has one rate.
#[tokio::test]
async fn a_token_has_one_rate_however_it_is_sent() {
    let worker = Worker::start(|seen| match seen.target.as_str() {
        "/_matrix/client/v3/account/whoami" => Act::Say("{\"user_id\":\"@a:h\"}".to_owned()),
        _ => Act::Say(String::new()),
    })
    .await;
    for rates in ["per_token", "per_user"] {
        let gateway = gateway(&format!(
            "rate_limits: {{ {rates}: {{ per_second: 0.01, burst: 2 }} }}\nwhoami: all\n{}",
            one_pool("single", &[worker.address])
        ));
        let mut statuses = Vec::new();
        for (target, header) in [
            ("/a?access_token=to%6ben", ""),
            ("/a?access%5Ftoken=token", ""),
            ("/a?access_token=token", "authorization: Bearer other\r\n"),
            ("/a?access_token=other&access_token=token", ""),
            ("/a", "authorization: bEARER token\r\n"),
            ("/a?access_token=token", ""),
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nhost: h\r\n{header}\r\n");
            statuses.push(ask(gateway.addrs()[0], &request).await.status);
        }
        assert_eq!(statuses, [200, 400, 400, 400, 200, 429], "{rates}");
    }
}

#[tokio::test]
async fn the_pool_is_chosen_by_what_the_worker_reads() {
    let (first, later) = (Worker::named("first").await, Worker::named("later").await);
    let gateway = gateway(&format!(
        "pools:\n  first: {{ balance: single, workers: [\"{}\"] }}\n\
         \x20 later: {{ balance: single, workers: [\"{}\"] }}\n\
         routes:\n  - {{ match: \"^/s$\", if_query: [\"mode=a b\"], pool: first }}\n\
         \x20 - {{ match: \"^/s$\", unless_query: [since], pool: first }}\n\
         \x20 - {{ match: \"^/s$\", pool: later }}\n",
        first.address, later.address
    ));
    for (target, body) in [
        ("/s", "first"),
        ("/s?since=s1", "later"),
        ("/s?since", "later"),
        ("/s?mode=a+b&since=s1", "first"),
        ("/s?mode=%61%20b&since=s1", "first"),
    ] {
        assert_eq!(get(gateway.addrs()[0], target).await.body, body, "{target}");
    }
    let count = first.count() + later.count();
    for target in ["/s?s%69nce=s1", "/s?since=1&since=2", "/s?mode=a&mode=a+b&since=1"] {
        assert_eq!(get(gateway.addrs()[0], target).await.status, 400, "{target}");
    }
    assert_eq!(first.count() + later.count(), count);
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_the_right_ones() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&format!(
        "pools: {{ all: {{ balance: single, workers: [\"{}\"] }} }}\n\
         routes: [{{ match: \"^/a$\", methods: [GET], pool: all }}, \
         {{ match: \"^/(a|b)$\", methods: [PUT], pool: all }}]\n",
        worker.address
    ));
    let request = |line: &str| format!("{line} HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
    for (line, allow) in [
        ("POST /a", "GET, HEAD, PUT, OPTIONS"),
        ("GET /b", "PUT, OPTIONS"),
        ("BREW /b", "PUT, OPTIONS"),
        ("CONNECT h:80", "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),
    ] {
        let answer = ask(gateway.addrs()[0], &request(line)).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{line}");
    }
    let admin = gateway.admin_addr().unwrap();
    let asked = "POST /metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(ask(admin, asked).await.header("allow"), Some("GET"));
    assert_eq!(get(admin, "/reload").await.header("allow"), Some("POST"));
}

#[tokio::test]
async fn the_admin_listener_answers_only_to_its_own_names() {
    let worker = Worker::named("w").await;
    let rest = one_pool("single", &[worker.address]);
    let gateway = gateway(&format!("admin_hosts: [gateway.internal]\n{rest}"));
    let admin = gateway.admin_addr().unwrap();
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:8009", 200),
        ("gateway.internal:8009", 200),
        ("evil.example", 403),
        ("localhost.evil.example:8009", 403),
    ] {
        for path in ["/", "/health", "/metrics", "/table", "/pools", "/explain?target=/a"] {
            let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
            assert_eq!(ask(admin, &request).await.status, status, "{host} {path}");
        }
    }
    assert_eq!(ask(admin, "GET /health HTTP/1.0\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn an_address_has_some_hundred_connections_unless_the_file_says_otherwise() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut client = Client::connect(gateway.addrs()[0]).await;
        assert_eq!(client.get("/a").await.unwrap().status, 200);
        held.push(client);
    }
    assert_eq!(Client::connect(gateway.addrs()[0]).await.rest().await, "");
}

/// A worker that refuses a request before its body has come closes the connection, and says so: it is not
/// used again, and no request is lost on it.
#[tokio::test]
async fn a_connection_whose_worker_left_a_body_unread_is_not_used_again() {
    let connections = std::sync::Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = std::sync::Arc::clone(&connections);
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut scrap = [0; 512];
                let _head = stream.read(&mut scrap).await;
                let answer = "HTTP/1.1 401 no\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
                let _sent = stream.write_all(answer.as_bytes()).await;
                // Open as long as the gateway has it.
                while stream.read(&mut scrap).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    let gateway = gateway(&one_pool("single", &[address]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    for round in 1..=20 {
        let body = "x".repeat(1_000);
        client
            .send(format!("POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\n\r\n{body}"))
            .await;
        assert_eq!(client.answer().await.unwrap().status, 401);
        assert_eq!(connections.load(Ordering::Relaxed), round);
    }
}

#[tokio::test]
async fn who_comes_through_a_unix_socket_shares_no_address() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let worker = Worker::named("w").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("front.sock");
    let text = format!(
        "listen: [{{ name: u, bind: \"unix:{}\" }}]\nlimits: {{ connections_per_ip: 2 }}\n{}",
        path.display(),
        one_pool("single", &[worker.address])
    );
    let source = colonnade_gateway::Source::Text { name: "unix.yaml".to_owned(), text };
    let _gateway = crate::client::start(colonnade_gateway::RunOptions::new(source));
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        held.push(stream);
    }
}

#[tokio::test]
async fn a_unix_socket_is_for_the_group() {
    use std::os::unix::fs::PermissionsExt as _;
    let worker = Worker::named("w").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("front.sock");
    let listen = format!("listen: [{{ name: u, bind: \"unix:{}\" }}]\n", path.display());
    let text = format!("{listen}{}", one_pool("single", &[worker.address]));
    let source = colonnade_gateway::Source::Text { name: "unix.yaml".to_owned(), text };
    let _gateway = crate::client::start(colonnade_gateway::RunOptions::new(source));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(format!("{:o}", mode & 0o777), "660");
}

/// RFC 9112 §3.2: a `Host` there is, one, and the target in absolute form counts more than it.
/// The same cases as the homeserver's (core/src/admin.rs).
#[tokio::test]
async fn the_admin_listener_takes_the_names_that_the_homeservers_takes() {
    let worker = Worker::named("w").await;
    let rest = one_pool("single", &[worker.address]);
    let gateway = gateway(&format!("admin_hosts: [monitor.internal]\n{rest}"));
    let admin = gateway.admin_addr().unwrap();
    let cases = include_str!("../../../docs/admin_hosts.tsv");
    for case in cases.lines().filter(|line| !line.starts_with('#')) {
        let [status, version, target, hosts] = case.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{case}");
        };
        let hosts = hosts.split(',').filter(|host| *host != "-");
        let hosts: String = hosts.map(|host| format!("host: {host}\r\n")).collect();
        let request = format!("GET {target} HTTP/{version}\r\n{hosts}\r\n");
        assert_eq!(ask(admin, &request).await.status.to_string(), status, "{case}");
    }
}

#[tokio::test]
async fn the_admin_listener_is_not_asked_by_another_name_in_the_target() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let admin = gateway.admin_addr().unwrap();
    for (line, hosts, status) in [
        ("GET http://localhost/metrics HTTP/1.1", "host: localhost\r\n", 200),
        ("GET http://evil/metrics HTTP/1.1", "host: localhost\r\n", 400),
        ("GET http://localhost/metrics HTTP/1.1", "host: evil\r\n", 400),
        ("GET http://evil/metrics HTTP/1.1", "host: evil\r\n", 403),
        ("GET http://evil/metrics HTTP/1.0", "", 403),
        ("GET /metrics HTTP/1.1", "host: localhost\r\nhost: localhost\r\n", 400),
        ("GET /metrics HTTP/1.1", "host: localhost\r\nhost: evil\r\n", 400),
        ("POST http://evil/reload HTTP/1.1", "host: localhost\r\ncontent-length: 0\r\n", 400),
    ] {
        let answer = ask(admin, &format!("{line}\r\n{hosts}\r\n")).await;
        assert_eq!(answer.status, status, "{line} {hosts:?}");
    }
}

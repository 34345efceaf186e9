//! Starting, stopping, and what the admin listener tells.

use std::time::{Duration, Instant};

use colonnade_gateway::config::Overrides;
use colonnade_gateway::{RunOptions, Source, StartError, run};

use crate::client::{Client, ask, gateway, get, one_pool};
use crate::worker::{Act, Worker};

/// How long a request may go on: far longer than any here takes.
const GRACE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_bundled_routes_serve_one_worker_for_every_pool() {
    let worker = Worker::start(|seen| Act::Say(seen.target.clone())).await;
    let mut options = RunOptions::new(Source::bundled());
    options.overrides = Overrides {
        listen: Some(vec!["127.0.0.1:0".parse().unwrap()]),
        workers_for_all_pools: Some(vec![worker.address.to_string().parse().unwrap()]),
        admin: Some("127.0.0.1:0".parse().unwrap()),
        no_admin: false,
        ..Overrides::default()
    };
    let gateway = crate::client::start(options);
    let address = gateway.addrs()[0];
    for path in ["/_matrix/client/versions", "/_matrix/client/v3/sync?timeout=0", "/"] {
        assert_eq!(get(address, path).await.body, path);
    }
    assert_eq!(get(address, "/_matrix/client/v3/nonsense").await.errcode(), "M_UNRECOGNIZED");
    assert_eq!(get(gateway.admin_addr().unwrap(), "/ready").await.status, 200);
}

#[tokio::test]
async fn workers_may_listen_on_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut scrap = [0; 4096];
            let _read = stream.read(&mut scrap).await;
            let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nunix").await;
        }
    });
    let gateway = gateway(&format!(
        "pools: {{ all: {{ balance: single, workers: [\"unix:{}\"] }} }}\n\
         routes: [{{ match: \"^/.*$\", pool: all }}]\n",
        path.display()
    ));
    assert_eq!(get(gateway.addrs()[0], "/a").await.body, "unix");
}

#[tokio::test]
async fn a_taken_port_is_an_error_of_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = RunOptions::new(Source::bundled());
    options.overrides.listen = Some(vec![taken.local_addr().unwrap()]);
    let error = run(options).unwrap_err();
    assert!(matches!(error, StartError::Bind { .. }), "{error}");
}

#[tokio::test]
async fn shutdown_finishes_what_is_in_flight_and_announces_the_end() {
    let worker = Worker::start(|seen| match seen.target.as_str() {
        "/slow" => Act::Wait(Duration::from_millis(700), "done".into()),
        _ => Act::Say("quick".into()),
    })
    .await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let address = gateway.addrs()[0];
    let mut idle = Client::connect(address).await;
    assert_eq!(idle.get("/quick").await.unwrap().status, 200);
    let slow = tokio::spawn(async move { get(address, "/slow").await });
    while worker.count() < 2 {
        tokio::task::yield_now().await;
    }
    let ending = async {
        let began = Instant::now();
        gateway.shutdown(GRACE).await;
        began.elapsed()
    };
    let using = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The idle connection is still answered, and told that this was the last time.
        let last = idle.get("/quick").await.unwrap();
        assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    };
    let (took, ()) = tokio::join!(ending, using);
    assert_eq!(slow.await.unwrap().body, "done");
    assert!(took < GRACE, "{took:?}");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_without_end_is_cut_at_the_end_of_the_grace() {
    let worker = Worker::start(|_| Act::Silence).await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send("GET /a HTTP/1.1\r\nhost: h\r\n\r\n").await;
    while worker.count() < 1 {
        tokio::task::yield_now().await;
    }
    let ended = gateway.shutdown(Duration::from_millis(300));
    tokio::time::timeout(GRACE, ended).await.expect("the gateway waits for it for ever");
}

#[tokio::test]
async fn the_admin_listener_tells_what_is_in_force() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("round_robin", &[worker.address]));
    let admin = gateway.admin_addr().unwrap();
    for _ in 0..3 {
        get(gateway.addrs()[0], "/a").await;
    }
    assert_eq!(get(gateway.addrs()[0], "*bad").await.status, 400);
    assert_eq!(ask(gateway.addrs()[0], "no HTTP\r\n\r\n").await.status, 400);
    assert_eq!(get(admin, "/health").await.status, 200);
    let table: serde_json::Value = serde_json::from_str(&get(admin, "/table").await.body).unwrap();
    assert_eq!(table["version"], 1);
    assert_eq!(table["rules"][0]["pool"], "all");
    let metrics = get(admin, "/metrics").await.body;
    for line in [
        "colonnade_gateway_requests_total{pool=\"all\",rule=\"^/.*$\",status=\"2xx\"} 3",
        "colonnade_gateway_table_version 1",
        "colonnade_gateway_connections_refused_total{reason=\"malformed\"} 2",
        "outcome=\"answered\"",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let explained = get(admin, "/explain?method=PUT&target=%2Fa%3Fb%3Dc").await;
    assert!(explained.body.contains("\"pool\":\"all\""), "{}", explained.body);
    assert_eq!(get(admin, "/nothing").await.status, 404);
    assert_eq!(get(admin, "/reload").await.status, 405);
    let from_page = "POST /reload HTTP/1.1\r\nhost: localhost\r\norigin: https://evil\r\n\r\n";
    assert_eq!(ask(admin, from_page).await.status, 403);
}

#[tokio::test]
async fn a_running_gateway_explains_itself_to_the_command_line() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("{ hash: user }", &[worker.address]));
    let admin = gateway.admin_addr().unwrap();
    let target = colonnade_gateway::explain_target("GET", "/s?a=b&c", Some("cln_ab_x"), None);
    let asked = tokio::task::spawn_blocking(move || {
        colonnade_gateway::ask_admin(admin, "GET", &target, "")
    });
    let (status, body) = asked.await.unwrap().unwrap();
    let explained: colonnade_gateway::Explanation = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!((explained.pool.as_deref(), explained.key.as_deref()), (Some("all"), Some("ab")));
    assert_eq!(explained.worker, Some(worker.address.to_string()));
}

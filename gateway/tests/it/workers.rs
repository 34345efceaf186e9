//! Workers that fail, come back, drain, and stand in for each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, ask, gateway, get, metrics_say, one_pool};
use crate::worker::{Act, Worker};

async fn states(admin: SocketAddr) -> Vec<String> {
    let pools: serde_json::Value = serde_json::from_str(&get(admin, "/pools").await.body).unwrap();
    let workers = pools["pools"][0]["workers"].as_array().unwrap().clone();
    workers.iter().map(|worker| worker["state"].as_str().unwrap().to_owned()).collect()
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(15), wait).await.is_ok(), "{what}");
}

/// A port nobody listens at.
async fn nobody() -> SocketAddr {
    Worker::named("gone").await.address
}

#[tokio::test]
async fn requests_are_held_while_the_only_worker_restarts() {
    let address = nobody().await;
    let gateway = gateway(&one_pool("single", &[address]));
    let front = gateway.addrs()[0];
    let held: Vec<_> = (0..10)
        .map(|n| {
            let body = format!("{n}");
            tokio::spawn(async move {
                ask(
                    front,
                    &format!(
                        "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    ),
                )
                .await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(held.iter().all(|request| !request.is_finished()));
    let worker = Worker::at(address, |_| Act::Say("back".into())).await;
    for request in held {
        let answer = request.await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "back"));
    }
    assert_eq!(worker.count(), 10);
}

/// Long before the hold ends, so that a worker that comes back is not flooded by requests of nobody.
#[tokio::test]
async fn who_leaves_while_held_is_not_waited_for() {
    let worker = Worker::away().await;
    let gateway =
        gateway(&format!("limits: {{ hold: 10m }}\n{}", one_pool("single", &[worker.address])));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    client.send("GET /a HTTP/1.1\r\nhost: h\r\n\r\n").await;
    metrics_say(&gateway, "outcome=\"no_connection\"").await;
    drop(client);
    metrics_say(&gateway, "status=\"none\"} 1").await;
}

#[tokio::test]
async fn the_hold_ends_with_a_503_that_says_when_to_come_back() {
    let gateway =
        gateway(&format!("limits: {{ hold: 300ms }}\n{}", one_pool("single", &[nobody().await])));
    let began = Instant::now();
    let answer = get(gateway.addrs()[0], "/a").await;
    assert_eq!((answer.status, answer.errcode().as_str()), (503, "M_UNKNOWN"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(began.elapsed() > Duration::from_millis(250), "{:?}", began.elapsed());
    assert_eq!(get(gateway.admin_addr().unwrap(), "/ready").await.status, 503);
}

#[tokio::test]
async fn a_failing_worker_is_ejected_and_probed_back() {
    let broken = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&broken);
    let flaky = Worker::start(move |_| match flag.load(Ordering::Relaxed) {
        true => Act::Hang,
        false => Act::Say("flaky".into()),
    })
    .await;
    let steady = Worker::named("steady").await;
    let gateway = gateway(&one_pool("round_robin", &[flaky.address, steady.address]));
    let (front, admin) = (gateway.addrs()[0], gateway.admin_addr().unwrap());
    for _ in 0..20 {
        assert_eq!(get(front, "/a").await.body, "steady");
    }
    assert!(flaky.count() < 10, "{}", flaky.count());
    broken.store(false, Ordering::Relaxed);
    until("probed back", async || get(front, "/a").await.body == "flaky").await;
    until("open", async || states(admin).await == ["open", "open"]).await;
}

#[tokio::test]
async fn checks_close_and_open_workers_without_any_request() {
    let well = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&well);
    let checked = Worker::start(move |seen| match seen.target.as_str() {
        "/health" if !flag.load(Ordering::Relaxed) => {
            Act::Raw(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n".to_vec())
        }
        "/health" => Act::Say(String::new()),
        _ => Act::Say("checked".into()),
    })
    .await;
    let gateway = gateway(&format!(
        "limits: {{ hold: 0ms }}\n\
         pools:\n  all:\n    balance: single\n    workers: [\"{}\"]\n\
         \x20   health: {{ path: /health, interval: 100ms, down_after: 2, up_after: 1 }}\n\
         routes: [{{ match: \"^/.*$\", pool: all }}]\n",
        checked.address
    ));
    let (front, admin) = (gateway.addrs()[0], gateway.admin_addr().unwrap());
    assert_eq!(get(front, "/a").await.body, "checked");
    well.store(false, Ordering::Relaxed);
    until("down", async || states(admin).await == ["down"]).await;
    assert_eq!(get(front, "/a").await.status, 503);
    well.store(true, Ordering::Relaxed);
    until("up", async || states(admin).await == ["open"]).await;
    assert_eq!(get(front, "/a").await.body, "checked");
}

#[tokio::test]
async fn a_drained_worker_finishes_what_it_holds_and_gets_nothing_new() {
    let slow = |name: &'static str| {
        Worker::start(move |seen| match seen.target.as_str() {
            "/slow" => Act::Wait(Duration::from_millis(500), name.into()),
            _ => Act::Say(name.into()),
        })
    };
    let (a, b) = (slow("a").await, slow("b").await);
    let gateway = gateway(&one_pool("single", &[a.address, b.address]));
    let (front, admin) = (gateway.addrs()[0], gateway.admin_addr().unwrap());
    let begun = tokio::spawn(async move { get(front, "/slow").await });
    until("begun", async || a.count() == 1).await;
    let drain = format!("POST /drain?worker={} HTTP/1.1\r\nhost: localhost\r\n\r\n", a.address);
    let answer = ask(admin, &drain).await;
    assert!(answer.body.contains("\"working\":1"), "{}", answer.body);
    assert_eq!(states(admin).await, ["draining", "open"]);
    for _ in 0..5 {
        assert_eq!(get(front, "/a").await.body, "b");
    }
    assert_eq!(begun.await.unwrap().body, "a");
    assert_eq!(ask(admin, &drain.replace("drain", "undrain")).await.status, 200);
    assert_eq!(get(front, "/a").await.body, "a");
    let unknown = "POST /drain?worker=1.1.1.1:1 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(ask(admin, unknown).await.status, 404);
}

#[tokio::test]
async fn a_fallback_pool_serves_while_the_first_cannot() {
    let reserve = Worker::named("reserve").await;
    let address = nobody().await;
    let gateway = gateway(&format!(
        "pools:\n  first: {{ balance: single, workers: [\"{address}\"], fallback: second, slow_start: 0s }}\n\
         \x20 second: {{ balance: single, workers: [\"{}\"] }}\n\
         routes: [{{ match: \"^/.*$\", pool: first }}]\n",
        reserve.address
    ));
    for _ in 0..5 {
        assert_eq!(get(gateway.addrs()[0], "/a").await.body, "reserve");
    }
    let _first = Worker::at(address, |_| Act::Say("first".into())).await;
    until("first again", async || get(gateway.addrs()[0], "/a").await.body == "first").await;
}

#[tokio::test]
async fn a_worker_that_is_not_the_owner_names_it() {
    let owner = Worker::start(|s| Act::Say(String::from_utf8_lossy(&s.body).into_owned())).await;
    let header = format!("x-colonnade-owner: {}", owner.address);
    let other = Worker::start(move |_| {
        let answer = format!("HTTP/1.1 421 no\r\n{header}\r\ncontent-length: 2\r\n\r\n{{}}");
        Act::Raw(answer.into_bytes())
    })
    .await;
    let gateway = gateway(&one_pool("single", &[other.address, owner.address]));
    let post = "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody";
    let answer = ask(gateway.addrs()[0], post).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "body"));
    assert_eq!((other.count(), owner.count()), (1, 1));
}

#[tokio::test]
async fn misdirection_that_goes_round_ends_as_the_answer_it_is() {
    let lost =
        Worker::start(|_| Act::Raw(b"HTTP/1.1 421 no\r\ncontent-length: 4\r\n\r\nlost".to_vec()))
            .await;
    let gateway = gateway(&one_pool("single", &[lost.address]));
    assert_eq!(get(gateway.addrs()[0], "/a").await.status, 421);
}

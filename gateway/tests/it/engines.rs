//! What is true of `engine:` of a listener, and where the engines may differ.

use std::time::Duration;

use colonnade_gateway::config::{Config, Engine};
use colonnade_gateway::{Explanation, RunOptions, Running, Source};

use crate::client::{Client, PATIENCE, get, one_pool, start};
use crate::worker::{Act, Worker};

fn file(engine: &str, worker: &Worker) -> String {
    format!(
        "listen: [{{ name: test, bind: \"127.0.0.1:0\", engine: {engine} }}]\nadmin: \"127.0.0.1:0\"\n{}",
        one_pool("single", &[worker.address])
    )
}

/// Starts a gateway whose engine is what its file says.
fn from_file(path: &std::path::Path) -> Running {
    let mut options = RunOptions::new(Source::File(path.to_owned()));
    options.watch = false;
    colonnade_gateway::run(options).unwrap()
}

/// Which engine has answered: Pingora's writes a date.
fn is_pingora(answer: &crate::client::Answer) -> bool {
    answer.header("date").is_some()
}

fn slow_ones(worker: &Worker) -> usize {
    worker.seen.lock().unwrap().iter().filter(|seen| seen.target == "/slow").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_engine_and_ends_old_connections_in_order() {
    let worker = Worker::start(|seen| match seen.target.as_str() {
        "/slow" => Act::Wait(Duration::from_millis(300), "slow".into()),
        _ => Act::Say("quick".into()),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.yaml");
    std::fs::write(&path, file("direct", &worker)).unwrap();
    let gateway = from_file(&path);
    let address = gateway.addrs()[0];
    let mut slow = 0;
    for (next, before, after) in [("pingora", false, true), ("direct", true, false)] {
        let mut rests = Client::connect(address).await;
        let answer = rests.get("/").await.unwrap();
        assert_eq!((answer.status, is_pingora(&answer)), (200, before));
        assert_ne!(answer.header("connection"), Some("close"));
        let mut waits = Client::connect(address).await;
        waits.send("GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await;
        slow += 1;
        while slow_ones(&worker) < slow {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::fs::write(&path, file(next, &worker)).unwrap();
        let changes = gateway.reload().unwrap().changes;
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert!(changes[0].starts_with("listener changed: test, from "), "{changes:?}");
        // What is under way ends where it began; a connection that rests is told at its next request.
        let answer = waits.answer().await.unwrap();
        assert_eq!((answer.body.as_str(), is_pingora(&answer)), ("slow", before));
        let ended = async {
            loop {
                let answer = rests.get("/").await.unwrap();
                assert_eq!((answer.status, is_pingora(&answer)), (200, before));
                if answer.header("connection") == Some("close") {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.unwrap();
        assert_eq!(rests.rest().await, "");
        // New ones go to the new engine.
        let carried = async { while is_pingora(&get(address, "/").await) != after {} };
        tokio::time::timeout(PATIENCE, carried).await.unwrap();
    }
}

#[test]
fn an_engine_that_does_not_exist_is_refused_with_its_place() {
    let text = "listen:\n  - { name: a, bind: \"127.0.0.1:1\", engine: pingra }\n\
                pools: { all: { balance: single, workers: [\"127.0.0.1:2\"] } }\n\
                routes: [{ match: \"^/.*$\", pool: all }]\n";
    let error = colonnade_gateway::config::Config::parse("r.yaml", text).unwrap_err().to_string();
    assert!(error.starts_with("r.yaml:2:"), "{error}");
    assert!(error.contains("pingra") && error.contains("did you mean `pingora`?"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_the_start_names_have_the_engine_of_the_first_listener() {
    let worker = Worker::named("w").await;
    let source = Source::Text { name: "r.yaml".to_owned(), text: file("pingora", &worker) };
    let mut options = RunOptions::new(source);
    options.overrides.listen = Some(vec!["127.0.0.1:0".parse().unwrap()]);
    let gateway = colonnade_gateway::run(options).unwrap();
    assert!(is_pingora(&get(gateway.addrs()[0], "/").await));
    let mut options =
        RunOptions::new(Source::Text { name: "r.yaml".to_owned(), text: file("pingora", &worker) });
    options.overrides.engine = Some(Engine::Direct);
    assert!(!is_pingora(&get(start(options).addrs()[0], "/").await));
}

#[tokio::test]
async fn a_request_is_explained_with_the_engine_of_each_listener() {
    let worker = Worker::named("w").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.yaml");
    std::fs::write(&path, file("pingora", &worker)).unwrap();
    let gateway = from_file(&path);
    let explained = async || {
        let said = get(gateway.admin_addr().unwrap(), "/explain?target=%2Fa").await.body;
        serde_json::from_str::<Explanation>(&said).unwrap().to_string()
    };
    assert!(explained().await.contains("\nengine  pingora\n"));
    std::fs::write(&path, file("direct", &worker)).unwrap();
    gateway.reload().unwrap();
    assert!(explained().await.contains("\nengine  direct\n"));
    // Where listeners differ, each says its own; a request that no rule takes has an engine, too.
    let pool = one_pool("single", &[worker.address]).replace("^/.*$", "^/a$");
    let listen = |name: &str, engine: &str| {
        format!("{{ name: {name}, bind: \"127.0.0.1:0\", engine: {engine} }}")
    };
    for (second, expected) in
        [("pingora", "engine  pingora\n"), ("direct", "pingora (a), direct (b)\n")]
    {
        let text = format!("listen: [{}, {}]\n{pool}", listen("a", "pingora"), listen("b", second));
        let config = Config::parse("r.yaml", &text).unwrap();
        let said = colonnade_gateway::explain(&config, "GET", "/nowhere", None, None).unwrap();
        assert!(said.to_string().contains(expected) && said.pool.is_none(), "{said}");
    }
}

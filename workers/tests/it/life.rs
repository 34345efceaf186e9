//! From the first start to a clean stop, through the gateway.

use std::time::{Duration, Instant};

use colonnade_testkit::Client;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::process::Server;

/// The idle server's memory, in kB: what is promised, less the program text of a release build.
const IDLE_KB_MAX: u64 = 60_000;

#[tokio::test]
async fn a_first_start_explains_itself_and_serves() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let said = server.out.lock().unwrap().clone();
    for part in ["Colonnade serves localhost", "just written", "ANYBODY", "/register", "Element"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(folder.path().join("data/signing.key").exists());
    if let Some(resident_kb) = server.resident_kb() {
        assert!(resident_kb < IDLE_KB_MAX, "{resident_kb} kB when idle");
    }
    let alice = Client::register(&server.url, "alice").await;
    let who = alice.get("/_matrix/client/v3/account/whoami").await.ok();
    assert_eq!(who["user_id"], "@alice:localhost");
    alice.get("/_matrix/client/v3/nonsense").await.err(404, "M_UNRECOGNIZED");
    alice.get("/_synapse/replication/x").await.err(404, "M_UNRECOGNIZED");
    let log = server.stop();
    // One line per request, with its user, never with its token.
    assert!(log.contains("user=\"@alice:localhost\""), "{log}");
    assert!(!log.contains(alice.token.as_deref().unwrap()), "{log}");

    let again = Server::start(folder.path());
    assert!(!again.out.lock().unwrap().contains("just written"));
    let mut alice = alice;
    alice.url = again.url.clone();
    alice.get("/_matrix/client/v3/account/whoami").await.ok();
    again.stop();
}

#[tokio::test]
async fn a_stop_answers_who_waits() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path());
    let alice = Client::register(&server.url, "alice").await;
    let first = alice.get("/_matrix/client/v3/sync").await.ok();
    let since = first["next_batch"].as_str().unwrap().to_owned();
    let waiting = tokio::spawn(async move {
        alice.get(&format!("/_matrix/client/v3/sync?timeout=30000&since={since}")).await
    });
    // Wait until the request is counted as waiting.
    let admin = admin_url(&server);
    let plain = Client::new(&admin);
    while !text(&plain, "/metrics").await.contains("colonnade_long_polls 1") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body["next_batch"].is_string());
    assert_eq!(server.wait(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn routes_are_reloaded_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let routes = folder.path().join("routes.yaml");
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/../routes.yaml");
    let bundled = std::fs::read_to_string(bundled).unwrap();
    std::fs::write(&routes, &bundled).unwrap();
    let server = Server::start(folder.path());
    let client = Client::new(&server.url);
    std::fs::write(&routes, "routes: [").unwrap();
    server.signal(Signal::SIGHUP);
    wait_for_log(&server, "the old ones stay in force").await;
    client.get("/_matrix/client/versions").await.ok();
    let closed = bundled.replace("routes:\n", "routes:\n  - { match: \"^/.*$\", deny: true }\n");
    std::fs::write(&routes, closed).unwrap();
    server.signal(Signal::SIGHUP);
    wait_for_log(&server, "routes reloaded").await;
    client.get("/_matrix/client/versions").await.err(404, "M_UNRECOGNIZED");
    server.stop();
}

#[tokio::test]
async fn the_admin_listener_shows_health_and_figures() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let alice = Client::register(&server.url, "alice").await;
    alice.put("/_matrix/client/v3/profile/@alice:localhost/displayname", json!({})).await;
    let admin = Client::new(&admin_url(&server));
    assert_eq!(text(&admin, "/health").await, "running\n");
    assert_eq!(text(&admin, "/ready").await, "ready\n");
    let metrics = text(&admin, "/metrics").await;
    for part in [
        r#"colonnade_requests_total{endpoint="/_matrix/client/v3/register",method="POST""#,
        r#"colonnade_stream_position{stream="events"}"#,
        "colonnade_commit_writes_bucket{le=\"1\"}",
        "colonnade_writes_waiting 0",
        "colonnade_long_polls 0",
        r#"colonnade_cache_requests_total{cache="sessions",result="hit"}"#,
    ] {
        assert!(metrics.contains(part), "{part}: {metrics}");
    }
    assert!(!metrics.contains("@alice"), "{metrics}");
    // Nothing of this is reachable from outside.
    let outside = Client::new(&server.url).get("/metrics").await;
    assert_eq!((outside.status, outside.body["errcode"].clone()), (404, json!("M_UNRECOGNIZED")));
    server.stop();
}

/// Where the worker says its metrics are.
fn admin_url(server: &Server) -> String {
    let said = server.out.lock().unwrap().clone();
    let line = said.lines().find(|line| line.contains("worker admin")).unwrap().to_owned();
    line.split_whitespace().last().unwrap().to_owned()
}

async fn text(client: &Client, path: &str) -> String {
    let answer = reqwest::get(format!("{}{path}", client.url)).await.unwrap();
    answer.text().await.unwrap()
}

async fn wait_for_log(server: &Server, text: &str) {
    let begun = Instant::now();
    while !server.log.lock().unwrap().contains(text) {
        assert!(begun.elapsed() < Duration::from_secs(30), "no `{text}` in the log");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_a_server_leaves_on_disk_is_private_whatever_the_umask_is() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with_umask(folder.path(), "000");
    let alice = Client::register(&server.url, "alice").await;
    let text = [("content-type", "text/plain")];
    let upload = "/_matrix/media/v3/upload";
    let method = colonnade_testkit::Method::POST;
    alice.raw(method, upload, &text, b"x".to_vec()).await.answer().ok();
    let data = folder.path().join("data");
    let (mut open, mut found) = (vec![data.clone(), folder.path().join("colonnade.yaml")], 0);
    while let Some(path) = open.pop() {
        let facts = std::fs::symlink_metadata(&path).unwrap();
        let mode = facts.permissions().mode() & 0o777;
        if facts.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let wanted = if facts.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(format!("{mode:o}"), format!("{wanted:o}"), "{}", path.display());
        found += 1;
    }
    assert!(found > 8, "database, its log, key, socket, folders and the file: {found}");
    let log = server.stop();
    assert!(!log.contains("others may enter the data folder"), "{log}");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let log = Server::start(folder.path()).stop();
    assert!(log.contains("others may enter the data folder"), "{log}");
    assert!(log.contains("chmod -R go="), "{log}");
    // A configuration that others may read is warned of where it holds secrets.
    let file = folder.path().join("colonnade.yaml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let log = Server::start(folder.path()).stop();
    assert!(!log.contains("others may read the configuration"), "{log}");
    let text = std::fs::read_to_string(&file).unwrap();
    let secret = text.replace("#shared_secret: null", "shared_secret: between us");
    assert_ne!(secret, text);
    std::fs::write(&file, secret).unwrap();
    let log = Server::start(folder.path()).stop();
    assert!(log.contains("others may read the configuration"), "{log}");
    assert!(log.contains("chmod 600"), "{log}");
    assert!(!log.contains("between us"), "{log}");
}

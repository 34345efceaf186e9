//! `colonnade db`: what lacks is listed and made; a deployment moves from SQLite to PostgreSQL with
//! its accounts, tokens, rooms, keys and media, and clients go on where they were.

use std::path::Path;

use colonnade_testkit::{Client, Method};
use colonnade_testkit_postgres::Cluster;
use serde_json::{Value, json};

use crate::process::{Finished, Server, run};

fn db(folder: &Path, arguments: &[&str]) -> Finished {
    run(folder, &[&["db"], arguments].concat(), "")
}

#[test]
fn missing_migrations_are_listed_and_made() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("database={}", Cluster::shared().database());
    for setting in ["database=sqlite", &url] {
        let dry = db(folder.path(), &["migrate", "--dry-run", "--set", setting]);
        assert_eq!(dry.code, Some(0), "{dry:?}");
        assert!(dry.out.contains("changes would be made:\n  0001_foundation\n"), "{dry:?}");
        let again = db(folder.path(), &["migrate", "--dry-run", "--set", setting]);
        assert_eq!(again.out, dry.out, "a dry run changes nothing");
        let made = db(folder.path(), &["migrate", "--set", setting]);
        assert_eq!(made.out, dry.out.replace("would be made", "made"), "{made:?}");
        let done = db(folder.path(), &["migrate", "--set", setting]);
        assert_eq!(done.out, "the database is up to date\n", "{done:?}");
    }
    assert!(!folder.path().join("colonnade.yaml").exists(), "nothing was started");
}

#[tokio::test]
async fn a_deployment_moves_to_postgresql() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let alice = Client::register(&server.url, "alice").await;
    let bob = Client::register(&server.url, "bob").await;
    let media = alice.raw(Method::POST, "/_matrix/media/v3/upload", &[], b"bytes".to_vec()).await;
    let media: Value = serde_json::from_slice(&media.bytes).unwrap();
    let media = media["content_uri"].as_str().unwrap().trim_start_matches("mxc://").to_owned();
    let request = json!({ "preset": "public_chat", "name": "Küche", "room_alias_name": "kitchen" });
    let room = alice.post("/_matrix/client/v3/createRoom", request).await.ok();
    let room = room["room_id"].as_str().unwrap().to_owned();
    bob.post(&format!("/_matrix/client/v3/join/{room}"), json!({})).await.ok();
    let send = async |who: &Client, n: usize| {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{n}");
        let body = json!({ "msgtype": "m.text", "body": format!("message {n}") });
        who.put(&path, body).await.ok()["event_id"].clone()
    };
    for n in 0..30 {
        send(&alice, n).await;
    }
    let account = format!("/_matrix/client/v3/user/{}/account_data/x.y", "@bob:localhost");
    bob.put(&account, json!({ "a": [1, null, "ü"] })).await.ok();
    let since = bob.get("/_matrix/client/v3/sync").await.ok()["next_batch"].clone();
    let last = send(&alice, 30).await;
    server.stop();

    let url = Cluster::shared().database();
    let secret = url.replacen("colonnade@", "colonnade:not-for-the-log@", 1);
    let wrong = db(folder.path(), &["copy", "--from", "postgres://x", "--to", &secret]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    let copied =
        db(folder.path(), &["copy", "--from", "sqlite:data/colonnade.db", "--to", &secret]);
    assert_eq!(copied.code, Some(0), "{copied:?}");
    let counted = |table: &str, rows: &str| {
        let mut lines = copied.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert!(
            lines.any(|words| words.starts_with(&[table, rows, "rows"])),
            "{table}: {copied:?}"
        );
    };
    counted("accounts", "2");
    counted("account_data", "1");
    assert!(copied.out.contains("are the same in both"), "{copied:?}");
    assert!(!format!("{wrong:?}{copied:?}").contains("not-for-the-log"), "{copied:?}");

    let database = format!("database={url}");
    let limits = "rate_limits.enabled=false";
    let server = Server::start_with(folder.path(), &["--set", &database, "--set", limits]);
    let (alice, bob) = (alice.at(&server.url), bob.at(&server.url));
    let sync = format!("/_matrix/client/v3/sync?since={}", since.as_str().unwrap());
    let news = bob.get(&sync).await.ok();
    let timeline = &news["rooms"]["join"][&room]["timeline"]["events"];
    assert_eq!(timeline.as_array().unwrap().len(), 1, "{news}");
    assert_eq!(timeline[0]["event_id"], last);
    assert_eq!(bob.get(&account).await.ok()["a"][2], "ü");
    let history = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=31");
    let history = bob.get(&history).await.ok();
    assert_eq!(history["chunk"].as_array().unwrap().len(), 31);
    assert_eq!(send(&alice, 30).await, last, "a transaction id is known still");
    assert_ne!(send(&alice, 31).await, last);
    let name = format!("/_matrix/client/v3/rooms/{room}/state/m.room.name");
    assert_eq!(bob.get(&name).await.ok()["name"], "Küche");
    let download = format!("/_matrix/client/v1/media/download/{media}");
    assert_eq!(bob.raw(Method::GET, &download, &[], vec![]).await.bytes, b"bytes");
    // New people and rooms get ids of their own.
    let carol = Client::register(&server.url, "carol").await;
    carol.post("/_matrix/client/v3/join/%23kitchen:localhost", json!({})).await.ok();
    server.stop();
}

#[tokio::test]
async fn nobody_misses_what_comes_after_a_backup_was_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let server = Server::start(folder.path());
    let alice = Client::register(&server.url, "alice").await;
    let room = alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
    let room = room["room_id"].as_str().unwrap().to_owned();
    let send = async |who: &Client, n: usize| {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{n}");
        who.put(&path, json!({ "msgtype": "m.text", "body": "x" })).await.ok()["event_id"].clone()
    };
    send(&alice, 0).await;
    let running = db(folder.path(), &["restored"]);
    assert_eq!(running.code, Some(1), "{running:?}");
    server.stop();
    put_in_place_of(&copy, &data);

    let server = Server::start(folder.path());
    let alice = alice.at(&server.url);
    for n in 1..10 {
        send(&alice, n).await;
    }
    let since = alice.get("/_matrix/client/v3/sync").await.ok()["next_batch"].clone();
    server.stop();
    put_in_place_of(&data, &copy);
    let said = db(folder.path(), &["restored"]);
    assert_eq!(said.code, Some(0), "{said:?}");

    let server = Server::start(folder.path());
    let alice = alice.at(&server.url);
    // More than were lost: without the leap some of these stand below the client's token.
    let mut sent = Vec::new();
    for n in 20..35 {
        sent.push(send(&alice, n).await);
    }
    let filter = "%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:100%7D%7D%7D";
    let since = since.as_str().unwrap();
    let path = format!("/_matrix/client/v3/sync?since={since}&filter={filter}");
    let news = alice.get(&path).await.ok();
    let timeline = news["rooms"]["join"][&room]["timeline"]["events"].as_array().unwrap();
    let ids: Vec<_> = timeline.iter().map(|event| event["event_id"].clone()).collect();
    assert_eq!(ids, sent, "{news}");
    server.stop();
}

/// Makes `old` a copy of the folder `new`, without what is in folders of that.
fn put_in_place_of(old: &Path, new: &Path) {
    let _none = std::fs::remove_dir_all(old);
    std::fs::create_dir(old).unwrap();
    for entry in std::fs::read_dir(new).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), old.join(entry.file_name())).unwrap();
        }
    }
}

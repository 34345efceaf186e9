//! What goes wrong with PostgreSQL is said with the mend, the password in none of it, and nothing
//! is touched.

use std::path::Path;

use colonnade_testkit::Client;
use colonnade_testkit_postgres::Cluster;
use serde_json::json;

use crate::process::{Finished, Server, run};

const PASSWORD: &str = "not-for-the-log";

/// The name of a database in its URL.
pub(crate) fn name(url: &str) -> &str {
    url.split('?').next().unwrap().rsplit('/').next().unwrap()
}

fn with_password(url: &str) -> String {
    url.replacen("colonnade@", &format!("colonnade:{PASSWORD}@"), 1)
}

/// Runs `up` on a database that it refuses.
#[track_caller]
fn refused(folder: &Path, url: &str, expected: &[&str]) -> Finished {
    let database = format!("database={}", with_password(url));
    let log = "logging.level=trace";
    let said = run(folder, &["--listen", "127.0.0.1:0", "--set", &database, "--set", log], "");
    said.failed(expected).hides(PASSWORD)
}

/// Everything in a database that could have been touched.
fn tables(url: &str) -> String {
    const TABLES: &str = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
    Cluster::shared().sql(name(url), TABLES)
}

#[test]
fn a_server_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!("postgres://colonnade@localhost/x?host={}", folder.path().display());
    refused(folder.path(), &nowhere, &["cannot connect", "is PostgreSQL running there"]);
    refused(folder.path(), "postgres://colonnade@127.0.0.1:1/x", &["127.0.0.1:1", "is PostgreSQL"]);
    let url = "postgres://colonnade@localhost:port/x";
    let database = format!("database={}", with_password(url));
    let said = run(folder.path(), &["--listen", "127.0.0.1:0", "--set", &database], "");
    assert!(said.err.contains("database.url is not understood"), "{said:?}");
    assert!(!said.err.contains(PASSWORD), "{said:?}");
}

#[test]
fn a_database_or_a_user_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::shared();
    let missing = cluster.url("missing");
    refused(folder.path(), &missing, &["CREATE DATABASE missing OWNER colonnade"]);
    let stranger = cluster.database().replacen("colonnade@", "stranger@", 1);
    let database = format!("database={stranger}");
    let said = run(folder.path(), &["--listen", "127.0.0.1:0", "--set", &database], "");
    assert!(said.err.contains("user or password in database.url is wrong"), "{said:?}");
}

#[test]
fn rights_that_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::shared();
    let url = cluster.database();
    cluster.sql(name(&url), "CREATE ROLE guest LOGIN");
    let database = format!("database={}", url.replacen("colonnade@", "guest@", 1));
    let said = run(folder.path(), &["--listen", "127.0.0.1:0", "--set", &database], "");
    assert!(said.err.contains("permission denied"), "{said:?}");
    assert!(said.err.contains("OWNER TO"), "{said:?}");
    assert_eq!(tables(&url), "");
}

#[test]
fn a_database_of_another_program_or_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::shared();
    let url = cluster.database();
    cluster.sql(name(&url), "CREATE TABLE invoices (id BIGINT)");
    refused(folder.path(), &url, &["1 tables of something else", "a database of its own"]);
    assert_eq!(tables(&url).trim(), "invoices");
    cluster.sql("postgres", "CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0");
    refused(folder.path(), &cluster.url("ascii"), &["SQL_ASCII", "ENCODING 'UTF8'"]);
}

#[test]
fn a_database_of_a_newer_version() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::shared();
    let url = cluster.database();
    start(folder.path(), &url).stop();
    const NEWER: &str = "INSERT INTO _sqlx_migrations \
         (version, description, success, checksum, execution_time) VALUES (9999, 'x', true, '', 0)";
    const LESS: &str = "UPDATE cluster SET value = 9999 WHERE key = 'schema_known_min'";
    cluster.sql(name(&url), NEWER);
    // One that only added.
    start(folder.path(), &url).stop();
    let database = format!("database={url}");
    let said = run(folder.path(), &["db", "migrate", "--dry-run", "--set", &database], "");
    assert!(said.out.contains("newer version was here (migrations [9999])"), "{said:?}");
    assert!(said.out.contains("up to date"), "{said:?}");
    // One that took something away.
    cluster.sql(name(&url), LESS);
    let mend = "start the newer version (any that knows migration 9999)";
    refused(folder.path(), &url, &["migration 9999 of a newer version", mend]);
    let said = run(folder.path(), &["db", "migrate", "--set", &database], "");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains(mend), "{said:?}");
}

#[test]
fn a_process_of_another_server_or_with_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let url = Cluster::shared().database();
    start(folder.path(), &url).stop();
    let database = format!("database={url}");
    let other = ["--listen", "127.0.0.1:0", "--set", &database, "--set", "server_name=b.example"];
    let said = run(folder.path(), &other, "");
    assert!(said.err.contains("belongs to the server localhost"), "{said:?}");
    let elsewhere = tempfile::tempdir().unwrap();
    refused(elsewhere.path(), &url, &["signing.key", "there is no such file", "put the file back"]);
    assert!(!elsewhere.path().join("data/signing.key").exists(), "a key was made");
    let key = folder.path().join("data/signing.key");
    let ours = std::fs::read_to_string(&key).unwrap();
    let seed = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    std::fs::write(&key, format!("ed25519 a_1 {seed}\n")).unwrap();
    refused(folder.path(), &url, &["signing.key", "it holds ed25519:a_1"]);
    std::fs::write(&key, ours).unwrap();
    start(folder.path(), &url).stop();
}

#[test]
fn a_second_process_on_the_same_database() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = Cluster::shared().database();
    let first = start(one.path(), &url);
    refused(two.path(), &url, &["another process of colonnade uses this database"]);
    first.stop();
}

/// A database that cannot store says 503, and when it can again, it does.
#[tokio::test]
async fn a_full_disk() {
    const FULL: &str = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
         $$BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END$$; \
         CREATE TRIGGER full_disk BEFORE INSERT ON event_json EXECUTE FUNCTION full_disk()";
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::shared();
    let url = cluster.database();
    let server = start(folder.path(), &url);
    let alice = Client::register(&server.url, "alice").await;
    let room = alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
    let send = format!(
        "/_matrix/client/v3/rooms/{}/send/m.room.message/t1",
        room["room_id"].as_str().unwrap()
    );
    let message = json!({ "msgtype": "m.text", "body": "x" });
    cluster.sql(name(&url), FULL);
    let answer = alice.put(&send, message.clone()).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    alice.get("/_matrix/client/v3/joined_rooms").await.ok();
    cluster.sql(name(&url), "DROP TRIGGER full_disk ON event_json");
    alice.put(&send, message).await.ok();
    server.stop();
}

fn start(folder: &Path, url: &str) -> Server {
    let database = format!("database={url}");
    Server::start_with(folder, &["--set", "rate_limits.enabled=false", "--set", &database])
}

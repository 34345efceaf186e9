//! PostgreSQL and Redis that take nothing but TLS: with the right authority all works and nothing
//! goes in clear; with another, a wrong name or none, a start is refused with the mend.

use colonnade_testkit::Client;
use colonnade_testkit_postgres::Cluster;
use colonnade_testkit_redis as redis;
use serde_json::json;

use crate::{
    authority::Authority,
    process::{self, Server, command},
};

const HERE: &str = "DNS:localhost,IP:127.0.0.1";

/// The database that the tests of this file use.
const DATABASE: &str = "t0";

/// Starts a worker that is refused, in a folder of its own.
#[track_caller]
fn refused(settings: &[String], expected: &[&str]) {
    process::refused(tempfile::tempdir().unwrap().path(), settings, expected);
}

#[tokio::test]
async fn a_database_that_takes_nothing_but_tls() {
    let authority = Authority::new();
    let shown = authority.certificate(HERE);
    let cluster = Cluster::start_secured(&shown.certificate, &shown.key);
    cluster.database();
    let url = cluster.secured_url(DATABASE);
    let with = |query: &str| [format!("database={url}?{query}")];

    refused(&with("sslmode=disable"), &["takes connections with TLS only", "sslmode=verify-full"]);
    // The authorities that the system trusts do not know this one.
    let mend = ["is the authority that signed its certificate known", "sslrootcert=FILE"];
    refused(&with("sslmode=verify-full"), &mend);
    let other = Authority::new();
    let named = format!("sslmode=verify-full&sslrootcert={}", other.file().display());
    refused(&with(&named), &mend);
    drop(other);
    refused(&with(&named), &["No such file", "sslrootcert=FILE in database.url names no file"]);
    const TABLES: &str = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(cluster.sql(DATABASE, TABLES).trim(), "0", "nothing was touched");

    let folder = tempfile::tempdir().unwrap();
    let trusted =
        format!("database={url}?sslmode=verify-full&sslrootcert={}", authority.file().display());
    let worker = Server::worker(
        folder.path(),
        "all",
        &["--set", "registration.open=true", "--set", &trusted],
    );
    let alice = Client::register(&worker.url, "alice").await;
    alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
    const IN_CLEAR: &str = "SELECT count(*) FILTER (WHERE NOT ssl), count(*) > 1 \
         FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'colonnade'";
    assert_eq!(cluster.sql(DATABASE, IN_CLEAR).trim(), "0|t");
    worker.stop();
}

#[test]
fn a_database_with_the_certificate_of_another_host() {
    let authority = Authority::new();
    let shown = authority.certificate("DNS:db.example.org");
    let cluster = Cluster::start_secured(&shown.certificate, &shown.key);
    cluster.database();
    let url = cluster.secured_url(DATABASE);
    let full = format!("sslmode=verify-full&sslrootcert={}", authority.file().display());
    refused(&[format!("database={url}?{full}")], &["certificate", "sslrootcert=FILE"]);
}

#[tokio::test]
async fn a_redis_that_takes_nothing_but_tls() {
    let authority = Authority::new();
    let shown = authority.certificate(HERE);
    let server = redis::Server::start_secured(&shown.certificate, &shown.key);
    let database = format!("database={}", Cluster::shared().database());
    let url = format!("redis.url={}", server.url());
    let settings = [database, url, "registration.open=true".to_owned()];
    let folder = tempfile::tempdir().unwrap();
    process::refused(folder.path(), &settings, &["cannot use the Redis", "SSL_CERT_FILE"]);
    let in_clear = format!("redis.url={}", server.url().replacen("rediss:", "redis:", 1));
    let in_clear = [settings[0].clone(), in_clear];
    let mend = ["cannot use the Redis", "it speaks TLS: write rediss:// instead of redis://"];
    process::refused(folder.path(), &in_clear, &mend);

    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let mut command = command(folder.path());
    command.env("SSL_CERT_FILE", authority.file());
    let worker = Server::worker_of(command, "all", &arguments);
    Client::register(&worker.url, "alice").await;
    let channels = server.command("PUBSUB CHANNELS colonnade:*:streams");
    assert!(channels.contains("colonnade:"), "{channels}");
    let log = worker.stop();
    assert!(!log.contains("Redis is away"), "{log}");
}

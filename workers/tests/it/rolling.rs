//! An upgrade while people chat: processes that know different migrations side by side on one database,
//! and one SIGHUP that brings new workers and a new gateway. Nothing is lost or doubled, and no request
//! fails.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use colonnade_testkit_postgres::Cluster;
use colonnade_testkit_redis as redis;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    cluster::Deployment,
    discovered::gateway,
    fleet::{all_run, pid, status, until},
    postgres::name,
    process::{PROGRAM, Server, run},
    scaling::{Load, REST, all_end_well, until_known},
};

/// Writes the migrations of the version to come: every table gets columns, one that is empty and one that is
/// not, and the busiest ones an index; a new table is there, too. Returns how many.
fn expansion(database: &str, folder: &Path) -> usize {
    const TABLES: &str = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' \
         AND tablename <> '_sqlx_migrations' ORDER BY 1";
    fs::create_dir(folder).unwrap();
    let mut migrations =
        vec!["CREATE TABLE further (id BIGINT NOT NULL PRIMARY KEY, text TEXT);".to_owned()];
    let tables = Cluster::shared().sql(database, TABLES);
    for table in tables.lines().map(str::trim).filter(|table| !table.is_empty()) {
        let mut sql = format!("ALTER TABLE {table} ADD COLUMN further_text TEXT;\n");
        sql += &format!("ALTER TABLE {table} ADD COLUMN further_n BIGINT NOT NULL DEFAULT 7;\n");
        if ["events", "receipts", "devices", "stream_positions"].contains(&table) {
            sql += &format!("CREATE INDEX further_{table} ON {table} (further_n);\n");
        }
        migrations.push(sql);
    }
    for (n, sql) in migrations.iter().enumerate() {
        fs::write(folder.join(format!("{}_further.sql", 9001 + n)), sql).unwrap();
    }
    migrations.len()
}

/// The processes that take part, and the newest migration each of them knows.
fn known(database: &str) -> BTreeMap<String, i64> {
    const LIVE: &str = "SELECT address || ' ' || schema_known FROM incarnations WHERE state = 1";
    let said = Cluster::shared().sql(database, LIVE);
    let rows = said.lines().filter_map(|line| line.trim().split_once(' '));
    rows.map(|(address, known)| (address.to_owned(), known.trim().parse().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_run_side_by_side_on_a_database_that_was_expanded() {
    let deployment = Deployment::new();
    let rest = deployment.worker(REST);
    let (sync, rooms) = (deployment.worker("sync"), deployment.worker("rooms"));
    let database = name(deployment.database()).to_owned();
    let folder = deployment.path().join("next");
    let changes_expected = expansion(&database, &folder);
    let newest = 9000 + i64::try_from(changes_expected).unwrap();
    let next = format!("database.next_migrations={}", folder.display());
    let next = ["--set", next.as_str()];

    let gateway = gateway(&rest);
    until_known(&gateway, &[&rest, &sync, &rooms], 1).await;
    let (load, clients) = Load::start(&format!("http://{}", gateway.addrs()[0]));
    let changes = async {
        load.goes_on().await;
        // A dry run says what would be done, and does nothing.
        let dry = ["db", "migrate", "--dry-run", "--set", deployment.database()];
        let said = run(deployment.path(), &[&dry[..], &next].concat(), "");
        let expected = format!("{changes_expected} changes would be made:\n  9001_further\n");
        assert!(said.out.starts_with(&expected), "{said:?}");
        let again = run(deployment.path(), &[&dry[..], &next].concat(), "");
        assert_eq!(again.out, said.out, "{again:?}");
        load.goes_on().await;

        // Each of the next version beside its like of this one; the first of them expands.
        let next_rooms = deployment.worker_with("rooms", &next);
        until_known(&gateway, &[&rest, &sync, &rooms, &next_rooms], 2).await;
        load.goes_on().await;
        let next_sync = deployment.worker_with("sync", &next);
        let next_rest = deployment.worker_with(REST, &next);
        let both = [&rest, &sync, &rooms, &next_rooms, &next_sync, &next_rest];
        until_known(&gateway, &both, 2).await;
        let all = known(&database);
        assert_eq!(all.len(), 6, "{all:?}");
        assert_eq!(all.values().filter(|known| **known == newest).count(), 3, "{all:?}");
        load.goes_on().await;
        // One of this version that comes back, or comes late.
        let late = deployment.worker("rooms,sync");
        let all = [&rest, &sync, &rooms, &next_rooms, &next_sync, &next_rest, &late];
        until_known(&gateway, &all, 3).await;
        load.goes_on().await;

        // What takes something away has to wait for them.
        let less = format!("-- contracting: needs {newest}\nDROP TABLE events;");
        fs::write(folder.join("9999_less.sql"), less).unwrap();
        for arguments in [&dry[..], &["db", "migrate", "--set", deployment.database()]] {
            let said = run(deployment.path(), &[arguments, &next].concat(), "");
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(said.err.contains("older processes use which still run"), "{said:?}");
            assert!(said.err.contains("nothing was changed"), "{said:?}");
        }
        fs::remove_file(folder.join("9999_less.sql")).unwrap();
        load.goes_on().await;

        for old in [late, rooms, sync, rest] {
            let log = old.stop();
            assert!(!log.contains("panicked"), "{log}");
            load.goes_on().await;
        }
        until_known(&gateway, &[&next_sync, &next_rest, &next_rooms], 1).await;
        load.goes_on().await;
        load.stop();
        [next_rooms, next_sync, next_rest]
    };
    let (next, ()) = tokio::join!(changes, all_end_well(clients));
    let kept =
        Cluster::shared().sql(&database, "SELECT count(*) > 0 FROM events WHERE further_n = 7");
    assert_eq!(kept.trim(), "t");
    gateway.shutdown(std::time::Duration::from_secs(5)).await;
    for worker in next {
        let log = worker.stop();
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// The inode of the program that a process runs.
fn program_of(process: &Value) -> u64 {
    fs::metadata(format!("/proc/{}/exe", pid(process))).unwrap().ino()
}

/// Puts a copy of the program into its place as a package would: beside it, then over it.
fn install(place: &Path) -> u64 {
    let beside = place.with_extension("next");
    fs::copy(PROGRAM, &beside).unwrap();
    fs::rename(&beside, place).unwrap();
    fs::metadata(place).unwrap().ino()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_hangup_replaces_workers_and_gateway_and_no_request_fails() {
    let folder = tempfile::Builder::new().prefix("c").tempdir_in("/tmp").unwrap();
    let (database, redis) = (Cluster::shared().database(), redis::Server::start());
    let place: PathBuf = folder.path().join("colonnade");
    let before = install(&place);
    let url = redis.url();
    let arguments = ["up", "--workers", "2", "--database", &database, "--redis", &url];
    let limits = ["--set", "rate_limits.enabled=false"];
    let mut server = Server::start_copy(&place, folder.path(), &[&limits[..], &arguments].concat());
    let all = async || {
        let mut all = until(folder.path(), all_run).await;
        all.push(status(folder.path())["gateway"].clone());
        all
    };
    let old = all().await;
    assert!(old.iter().all(|process| program_of(process) == before), "{old:?}");
    let (load, clients) = Load::start(&server.url);
    let changes = async {
        load.goes_on().await;
        let mut old = old;
        for _ in 0..2 {
            let installed = install(&place);
            assert_ne!(installed, before);
            server.signal(Signal::SIGHUP);
            let gateway = old.last().unwrap()["pid"].clone();
            let is_replaced = |workers: &[Value]| {
                let now = status(folder.path())["gateway"].clone();
                all_run(workers) && now["state"] == "running" && now["pid"] != gateway
            };
            until(folder.path(), is_replaced).await;
            let new = all().await;
            assert!(new.iter().all(|process| program_of(process) == installed), "{new:?}");
            assert!(new.iter().zip(&old).all(|(new, old)| new["pid"] != old["pid"]), "{new:?}");
            assert!(new.iter().all(|process| process["failures"] == 0), "{new:?}");
            load.goes_on().await;
            old = new;
        }
        load.stop();
    };
    tokio::join!(changes, all_end_well(clients));
    server.signal(Signal::SIGTERM);
    let code = server.wait();
    let log = server.log.lock().unwrap().clone();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

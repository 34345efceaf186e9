//! Workers behind a PgBouncer in transaction mode, but for the one session by which each shows that it
//! lives. With one that is too old (before 1.21) the start says so. Left out without PgBouncer.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use colonnade_testkit::Client;
use colonnade_testkit_postgres::Cluster;
use serde_json::json;

use crate::process::{LONG, Server, run};

/// The first that keeps prepared statements apart in transaction mode.
const PREPARES: (u32, u32) = (1, 21);

/// A PgBouncer of the test's own, behind a socket.
struct Pooler {
    child: Child,
    folder: PathBuf,
}

impl Pooler {
    /// Starts one before a server, or says why not.
    fn start(program: &Path, cluster: &Cluster, prepares: bool) -> Self {
        let folder = cluster.folder().join("pooler");
        std::fs::create_dir(&folder).unwrap();
        let (user, group) = cluster.owner();
        let prepared = if prepares { "max_prepared_statements = 512\n" } else { "" };
        let configuration = format!(
            "[databases]\n* = host={} user=colonnade\n[pgbouncer]\nlisten_addr =\n\
             listen_port = 6432\nunix_socket_dir = {}\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 6\nmax_client_conn = 200\n{prepared}",
            cluster.folder().display(),
            folder.display()
        );
        let file = folder.join("pgbouncer.ini");
        std::fs::write(&file, configuration).unwrap();
        for path in [&folder, &file] {
            std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
        }
        let mut command = Command::new(program);
        command.arg("-q").arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::File::create(folder.join("log")).unwrap();
        command.stderr(log).uid(user).gid(group).current_dir(&folder);
        let child = command.spawn().unwrap();
        let pooler = Self { child, folder };
        let begun = Instant::now();
        while !pooler.folder.join(".s.PGSQL.6432").exists() {
            let log = std::fs::read_to_string(pooler.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < LONG, "pgbouncer does not start: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
        pooler
    }

    fn url(&self, database: &str) -> String {
        let folder = self.folder.display();
        format!("postgres://colonnade@localhost/{database}?host={folder}&port=6432")
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

/// Finds the program and its version.
fn pgbouncer() -> Option<(PathBuf, (u32, u32))> {
    let named = std::env::var_os("COLONNADE_TEST_PGBOUNCER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let mut places = named.into_iter().chain(folders.map(|folder| folder.join("pgbouncer")));
    let program = places.find(|place| place.exists())?;
    let said = Command::new(&program).arg("--version").output().unwrap().stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let version = said.lines().next().unwrap_or_default().rsplit(' ').next().unwrap_or_default();
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    let version = (numbers.next()?, numbers.next()?);
    Some((program, version))
}

#[tokio::test]
async fn workers_behind_a_pooler_in_transaction_mode() {
    let Some((program, version)) = pgbouncer() else {
        println!("SKIPPED: PgBouncer is not installed: apt-get install pgbouncer");
        return;
    };
    let cluster = Cluster::start();
    let direct = cluster.database();
    let folder = tempfile::tempdir().unwrap();
    // One that mixes up prepared statements is refused with the mend, old or not set up.
    let pooler = Pooler::start(&program, &cluster, false);
    let url = format!("database.url={}", pooler.url("t0"));
    let direct = format!("database.direct_url={direct}");
    let arguments = ["--set", &url, "--set", &direct, "--set", "registration.open=true"];
    if version < PREPARES {
        let worker = ["worker", "--pool", "all", "--bind", "127.0.0.1:0"];
        let said = run(folder.path(), &[&worker[..], &arguments[..]].concat(), "");
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("use PgBouncer 1.21 or newer"), "{said:?}");
        println!("SKIPPED: PgBouncer {version:?} is too old for more than to be told so");
        return;
    }
    drop(pooler);
    std::fs::remove_dir_all(cluster.folder().join("pooler")).unwrap();
    let _pooler = Pooler::start(&program, &cluster, true);
    let start = || Server::worker(folder.path(), "all", &arguments);
    let workers = [start(), start(), start()];
    let alice = Client::register(&workers[0].url, "alice").await;
    let mut rooms = Vec::new();
    for _ in 0..4 {
        let room = alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
        rooms.push(room["room_id"].as_str().unwrap().to_owned());
    }
    let mut sending = tokio::task::JoinSet::new();
    for n in 0..60 {
        let alice = alice.at(&workers[n % 3].url);
        let room = &rooms[n % 4];
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{n}");
        sending.spawn(async move {
            let content = json!({ "msgtype": "m.text", "body": n.to_string() });
            alice.put(&path, content).await.ok()["event_id"].as_str().unwrap().to_owned()
        });
    }
    let sent = tokio::time::timeout(LONG, sending.join_all()).await.expect("all are stored");
    for worker in &workers {
        let alice = alice.at(&worker.url);
        let mut there = Vec::new();
        for room in &rooms {
            let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100");
            let page = alice.get(&path).await.ok();
            let events = page["chunk"].as_array().unwrap().iter();
            let messages = events.filter(|event| event["type"] == "m.room.message");
            there.extend(messages.map(|event| event["event_id"].as_str().unwrap().to_owned()));
        }
        there.sort();
        let mut sent = sent.clone();
        sent.sort();
        assert_eq!(there, sent);
    }
    for worker in workers {
        worker.stop();
    }
}

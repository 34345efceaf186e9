//! PostgreSQL on a disk that fills up: what cannot be stored is refused with 503, nothing that was
//! acknowledged is lost, and once there is room again all goes on without a restart of ours. Needs the
//! right to mount a small disk in memory, and says so where there is none.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use colonnade_testkit::Client;
use colonnade_testkit_postgres::Cluster;
use serde_json::{Value, json};

use crate::process::{LONG, Server};

/// Messages sent before the disk is full at most.
const SENT_MAX: usize = 400;
/// Mounts, and takes the disk away when standard input ends, in whatever way the test did.
const KEEPER: &str = r#"
mount -t tmpfs -o "size=$2,mode=755" colonnade-test "$1" || exit 1
trap '' INT TERM
echo up
read -r _
umount -l "$1"
"#;

/// A small disk in memory.
struct Disk {
    folder: tempfile::TempDir,
    keeper: Child,
}

impl Disk {
    /// Mounts one, or says why this test is left out.
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("d").tempdir_in("/tmp").unwrap();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(folder.path()).arg(size).process_group(0);
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = keeper.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.trim() == "up" {
            return Some(Self { folder, keeper });
        }
        let why = keeper.wait_with_output().unwrap().stderr;
        let why = String::from_utf8_lossy(&why).trim().to_owned();
        println!("SKIPPED: no disk of its own can be mounted for a full disk: {why}");
        None
    }

    /// Makes a folder on it that belongs to the user of a server.
    fn folder(&self, (user, group): (u32, u32)) -> PathBuf {
        let folder = self.folder.path().join("here");
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::chown(&folder, Some(user), Some(group)).unwrap();
        folder
    }

    /// Fills it up to the last byte, but for so many.
    fn fill(&self, left: u64) {
        let path = self.folder.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let piece = vec![1; 65_536];
        while file.write_all(&piece).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(left)).unwrap();
    }

    /// Makes room again.
    fn free(&self) {
        std::fs::remove_file(self.folder.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ended = self.keeper.wait();
    }
}

/// Somebody who sends messages to a room, and knows which of them were acknowledged.
struct Sender {
    client: Client,
    room: String,
    acknowledged: Vec<Value>,
}

impl Sender {
    async fn new(server: &Server) -> Self {
        let client = Client::register(&server.url, "alice").await;
        let room = client.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
        let room = room["room_id"].as_str().unwrap().to_owned();
        Self { client, room, acknowledged: Vec::new() }
    }

    /// Sends a message with an id of its own; false when it was refused, which is with 503.
    async fn send(&mut self, n: usize) -> bool {
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{n}", self.room);
        let content = json!({ "msgtype": "m.text", "body": noise(n) });
        let answer = self.client.put(&path, content).await;
        if answer.status == 200 {
            let event = answer.body["event_id"].clone();
            if !self.acknowledged.contains(&event) {
                self.acknowledged.push(event);
            }
            return true;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.body["errcode"].is_string(), "{answer:?}");
        false
    }

    /// Sends a message again until it is stored.
    async fn send_until_stored(&mut self, n: usize) {
        let sent = async {
            while !self.send(n).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, sent).await.expect("all goes on once there is room");
    }

    /// All that was acknowledged is there once, in the order it was sent, and nothing else is.
    async fn check(&self) {
        let (mut there, mut from) = (Vec::new(), String::new());
        loop {
            let path =
                format!("/_matrix/client/v3/rooms/{}/messages?dir=f&limit=50{from}", self.room);
            let page = self.client.get(&path).await.ok();
            let events = page["chunk"].as_array().unwrap();
            let messages = events.iter().filter(|event| event["type"] == "m.room.message");
            there.extend(messages.map(|event| event["event_id"].clone()));
            let Some(end) = page["end"].as_str() else { break };
            from = format!("&from={end}");
        }
        assert_eq!(there, self.acknowledged);
    }
}

/// Text that cannot be compressed much.
fn noise(seed: usize) -> String {
    let mut state = seed as u64 + 1;
    let letters = std::iter::repeat_with(|| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
    });
    letters.take(40_000).collect()
}

fn start(folder: &Path, url: &str) -> Server {
    let database = format!("database={url}");
    Server::start_with(folder, &["--set", "rate_limits.enabled=false", "--set", &database])
}

#[tokio::test]
async fn the_disk_of_the_tables_is_full() {
    let Some(disk) = Disk::mount("64m") else { return };
    let cluster = Cluster::start();
    let place = disk.folder(cluster.owner());
    cluster.sql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", place.display()));
    cluster.sql("postgres", "CREATE DATABASE small TABLESPACE small TEMPLATE template0");
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &cluster.url("small"));
    let mut alice = Sender::new(&server).await;
    alice.send_until_stored(0).await;
    disk.fill(512 * 1_024);
    let mut refused = None;
    for n in 1..SENT_MAX {
        if !alice.send(n).await {
            refused = Some(n);
            break;
        }
    }
    let refused = refused.expect("the disk is full");
    alice.client.get("/_matrix/client/v3/joined_rooms").await.ok();
    let said = "the disk of the database is full: make room there";
    assert!(server.log.lock().unwrap().contains(said), "{}", server.log.lock().unwrap());
    disk.free();
    // The client tries the same again, and then goes on.
    alice.send_until_stored(refused).await;
    alice.send_until_stored(refused + 1).await;
    alice.check().await;
    server.stop();
}

#[tokio::test]
async fn the_disk_of_the_log_is_full() {
    let Some(disk) = Disk::mount("192m") else { return };
    // Its log is on the small disk, its tables are not.
    let tables = tempfile::tempdir().unwrap();
    std::fs::set_permissions(tables.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let settings = ["min_wal_size=32MB", "max_wal_size=32MB"];
    let cluster = Cluster::start_in(disk.folder.path(), &settings);
    let place = tables.path().join("here");
    std::fs::create_dir(&place).unwrap();
    let (user, group) = cluster.owner();
    std::os::unix::fs::chown(&place, Some(user), Some(group)).unwrap();
    cluster.sql("postgres", &format!("CREATE TABLESPACE large LOCATION '{}'", place.display()));
    for name in ["large", "other"] {
        let database = format!("CREATE DATABASE {name} TABLESPACE large TEMPLATE template0");
        cluster.sql("postgres", &database);
    }
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &cluster.url("large"));
    let mut alice = Sender::new(&server).await;
    alice.send_until_stored(0).await;
    cluster.sql("other", "CREATE TABLE junk (text TEXT)");
    disk.fill(1_024 * 1_024);
    // Somebody else writes until the log has no room left, which takes the server down.
    const WRITE: &str = "INSERT INTO junk SELECT repeat(md5(random()::text), 100) \
         FROM generate_series(1, 4000)";
    let mut filled = false;
    for n in 1..SENT_MAX {
        alice.send(n).await;
        filled = cluster.try_sql("other", WRITE).is_err();
        if filled {
            break;
        }
    }
    assert!(filled, "the log found room");
    alice.send(SENT_MAX).await;
    disk.free();
    cluster.restart(false);
    alice.send_until_stored(SENT_MAX).await;
    alice.send_until_stored(SENT_MAX + 1).await;
    alice.check().await;
    server.stop();
}

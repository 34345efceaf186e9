//! For tests only: a PostgreSQL server of the test binary's own, with a database per test.
//!
//! The first test that asks starts one in a temporary folder, reached by a unix socket; it stops,
//! and its folder goes, when the test process ends in whatever way: a shell beside it waits for the
//! end of a pipe that only the test process holds. Commits reach the disk as on a real server.
//!
//! Depends on none of our crates, so that each of them may use it.

mod installed;
pub mod pooler;

use std::{
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long the server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The port in the name of the socket of a server that listens on none.
const PORT: u16 = 5432;
/// The superuser of the throw-away server, who needs no password.
const USER: &str = "colonnade";
/// Settings that differ from a fresh server's. Tests that run at once hold many connections.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "max_connections=400",
    "shared_buffers=64MB",
    "superuser_reserved_connections=3",
    "autovacuum_naptime=5s",
    "log_min_messages=fatal",
];
/// Runs the server given as arguments until standard input ends, then stops it and removes its
/// folder. A line on standard input beforehand restarts it: `fast` or
/// `immediate`; `stop` stops it until then.
const KEEPER: &str = r#"
folder="$1"; shift
"$@" & server=$!
trap '' INT TERM
echo up
while read -r word; do
  case "$word" in
    immediate) kill -QUIT "$server" ;;
    *) kill -INT "$server" ;;
  esac
  wait "$server"
  server=
  test "$word" = stop || { "$@" & server=$!; }
  echo done
done
kill -QUIT "$server"; wait "$server"; rm -rf "$folder"
"#;

/// A throw-away server.
pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    port: u16,
    keeper: Mutex<Keeper>,
    databases: AtomicU64,
}

struct Keeper {
    child: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl Cluster {
    /// Returns the server of this test binary, starting it if nobody did.
    ///
    /// # Panics
    /// When PostgreSQL 15 or newer is not installed, or does not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server of the caller's own: for tests that stop it or fill its disk.
    ///
    /// # Panics
    /// As [`Cluster::shared`].
    pub fn start() -> Self {
        Self::start_in(&std::env::temp_dir(), &[])
    }

    /// Starts a server below `parent` with further settings (`name=value`).
    ///
    /// # Panics
    /// As [`Cluster::shared`].
    pub fn start_in(parent: &Path, settings: &[&str]) -> Self {
        Self::begin(parent, settings, None)
    }

    /// Starts a server that listens on a port of the loopback, for connections with TLS alone, and
    /// shows this certificate; see [`Cluster::secured_url`]. Its socket is as that of any other.
    ///
    /// # Panics
    /// As [`Cluster::shared`].
    pub fn start_secured(certificate: &Path, key: &Path) -> Self {
        Self::begin(&std::env::temp_dir(), &[], Some((certificate, key)))
    }

    fn begin(parent: &Path, settings: &[&str], secured: Option<(&Path, &Path)>) -> Self {
        let programs = installed::programs();
        // The socket's path must be short: this one is the longest part of it.
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in(parent);
        let folder = folder.expect("a temporary folder").keep();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("its mode");
        let owner = installed::unprivileged();
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(&folder, Some(user), Some(group)).expect("its owner");
        }
        let data = folder.join("data");
        let mut initdb = Command::new(programs.join("initdb"));
        initdb.arg("-D").arg(&data).args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]);
        initdb.args(["--no-sync", "--no-instructions"]);
        let made = as_owner(&mut initdb, owner, &folder).output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(programs.join("postgres"));
        keeper.arg("-D").arg(&data).arg("-k").arg(&folder);
        for setting in SETTINGS.iter().chain(settings) {
            keeper.args(["-c", setting]);
        }
        let mut port = PORT;
        if let Some((certificate, key)) = secured {
            port = free_port();
            for setting in secure(&folder, owner, certificate, key, port) {
                keeper.args(["-c", &setting]);
            }
        }
        let log = std::fs::File::create(folder.join("log")).expect("a log file");
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).process_group(0);
        let mut child = as_owner(&mut keeper, owner, &folder).spawn().expect("sh runs");
        let says = BufReader::new(child.stdout.take().expect("a pipe"));
        let keeper = Mutex::new(Keeper { child, says });
        let cluster = Self { folder, programs, port, keeper, databases: AtomicU64::new(0) };
        cluster.hear();
        cluster.await_ready();
        cluster
    }

    /// Creates an empty database and returns its URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn database(&self) -> String {
        self.database_like("template0")
    }

    /// Creates a copy of a database nobody is connected to, and returns its URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn database_like(&self, template: &str) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"));
        self.url(&name)
    }

    /// Returns the URL of a database.
    pub fn url(&self, database: &str) -> String {
        let folder = self.folder.display();
        match self.port {
            PORT => format!("postgres://{USER}@localhost/{database}?host={folder}"),
            port => format!("postgres://{USER}@localhost/{database}?host={folder}&port={port}"),
        }
    }

    /// Returns the URL of a database of a server that was started with a certificate, by its port.
    pub fn secured_url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Returns the user and group of the server's files.
    ///
    /// # Panics
    /// When its folder is gone.
    pub fn owner(&self) -> (u32, u32) {
        use std::os::unix::fs::MetadataExt as _;
        let facts = std::fs::metadata(&self.folder).expect("the server's folder");
        (facts.uid(), facts.gid())
    }

    /// Runs statements as the superuser and returns what they print.
    ///
    /// # Panics
    /// When one of them fails.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let ran = self.try_sql(database, statements);
        ran.unwrap_or_else(|why| panic!("{statements}: {why}"))
    }

    /// Runs statements as the superuser and returns what they print.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn try_sql(&self, database: &str, statements: &str) -> Result<String, String> {
        self.psql(database, statements)
    }

    /// Returns everything in a database, as text and, where it is bytes, as they are.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn dump(&self, url: &str) -> Vec<u8> {
        let dump = Command::new(self.programs.join("pg_dump")).arg(url).output();
        let dump = dump.expect("pg_dump runs");
        assert!(dump.status.success(), "pg_dump: {}", String::from_utf8_lossy(&dump.stderr));
        let text = String::from_utf8_lossy(&dump.stdout);
        let mut all = text.as_bytes().to_vec();
        for field in text.split("\\\\x").skip(1) {
            let digits = field.as_bytes().chunks_exact(2).map(|pair| {
                std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())
            });
            all.extend(digits.map_while(|byte| byte));
        }
        all
    }

    /// Stops the server and starts it again: `fast` breaks connections off properly, otherwise it
    /// goes down at once as in a crash and recovers from its log.
    pub fn restart(&self, fast: bool) {
        self.say(if fast { b"fast\n" } else { b"immediate\n" });
        self.await_ready();
    }

    /// Stops the server until [`Cluster::restart`].
    pub fn stop(&self) {
        self.say(b"stop\n");
    }

    /// Tells the keeper something and waits until it is done.
    fn say(&self, word: &[u8]) {
        use std::io::Write as _;
        {
            let mut keeper = self.keeper.lock().expect("no test died here");
            let stdin = keeper.child.stdin.as_mut().expect("a pipe");
            stdin.write_all(word).expect("the keeper listens");
        }
        self.hear();
    }

    /// Returns the folder of the server's socket and log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn hear(&self) {
        let mut line = String::new();
        let mut keeper = self.keeper.lock().expect("no test died here");
        keeper.says.read_line(&mut line).expect("the keeper says when it is up");
    }

    fn await_ready(&self) {
        let begun = Instant::now();
        while let Err(why) = self.psql("postgres", "SELECT 1") {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not start: {why}\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn psql(&self, database: &str, statements: &str) -> Result<String, String> {
        let ran = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database])
            .args(["-c", statements, "-p", &self.port.to_string(), "-h"])
            .arg(&self.folder)
            .env("PGCONNECT_TIMEOUT", "10")
            .output()
            .map_err(|error| error.to_string())?;
        if ran.status.success() {
            Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&ran.stderr).into_owned())
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Ok(keeper) = self.keeper.get_mut() else { return };
        drop(keeper.child.stdin.take());
        let _ended = keeper.child.wait();
    }
}

/// Returns a port of the loopback that was free a moment ago.
fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    socket.expect("a free port").port()
}

/// Gives a server its certificate, and returns the settings by which it takes nothing but TLS.
fn secure(
    folder: &Path,
    owner: Option<(u32, u32)>,
    certificate: &Path,
    key: &Path,
    port: u16,
) -> Vec<String> {
    let (own_certificate, own_key) = (folder.join("server.pem"), folder.join("server.key"));
    std::fs::copy(certificate, &own_certificate).expect("the certificate");
    std::fs::copy(key, &own_key).expect("the key");
    std::fs::set_permissions(&own_key, PermissionsExt::from_mode(0o600)).expect("its mode");
    if let Some((user, group)) = owner {
        for file in [&own_certificate, &own_key] {
            std::os::unix::fs::chown(file, Some(user), Some(group)).expect("its owner");
        }
    }
    let hba = folder.join("hba.conf");
    let rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
    std::fs::write(&hba, rules).expect("the rules");
    vec![
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", own_certificate.display()),
        format!("ssl_key_file={}", own_key.display()),
        format!("hba_file={}", hba.display()),
    ]
}

/// Makes a command run as the user the server may run as, in a folder that user may be in.
fn as_owner<'c>(
    command: &'c mut Command,
    owner: Option<(u32, u32)>,
    folder: &Path,
) -> &'c mut Command {
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command.current_dir(folder)
}

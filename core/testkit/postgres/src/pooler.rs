//! A PgBouncer in transaction mode before a server, behind a socket of its own, for as long as it is held, and no
//! longer than the test process lives.

use std::{
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

use crate::{Cluster, PATIENCE, USER};

/// The environment variable that names the program, where it is not the one that is installed.
const PROGRAM: &str = "COLONNADE_TEST_PGBOUNCER";
/// The first that keeps prepared statements apart in transaction mode.
const PREPARES: (u32, u32) = (1, 21);
/// The port in the name of the socket.
const PORT: u16 = 6432;
/// Runs the pooler given as arguments until standard input ends.
const KEEPER: &str = r#"
"$@" & pooler=$!
read -r _
kill -KILL "$pooler"; wait "$pooler"
"#;

/// The program, and its version.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    version: (u32, u32),
}

impl Program {
    /// Finds the program: the one that is named, or installed.
    pub fn find() -> Option<Self> {
        let named = std::env::var_os(PROGRAM).map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let mut places = named.into_iter().chain(folders.map(|folder| folder.join("pgbouncer")));
        let path = places.find(|place| place.exists())?;
        let said = Command::new(&path).arg("--version").output().ok()?.stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        let version = said.lines().next()?.rsplit(' ').next()?;
        let mut numbers = version.split('.').map_while(|number| number.parse().ok());
        let version = (numbers.next()?, numbers.next()?);
        Some(Self { path, version })
    }

    /// Tells whether it can keep prepared statements apart.
    pub fn prepares(&self) -> bool {
        self.version >= PREPARES
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PgBouncer {}.{}", self.version.0, self.version.1)
    }
}

/// A running pooler.
pub struct Pooler {
    keeper: Child,
    folder: PathBuf,
}

impl Pooler {
    /// Starts one before a server: six connections for each database, and prepared statements kept apart
    /// or not.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(program: &Program, cluster: &Cluster, prepares: bool) -> Self {
        let folder = cluster.folder().join("pooler");
        std::fs::create_dir(&folder).expect("a folder of its own");
        let prepared = if prepares { "max_prepared_statements = 512\n" } else { "" };
        let configuration = format!(
            "[databases]\n* = host={} user={USER}\n[pgbouncer]\nlisten_addr =\n\
             listen_port = {PORT}\nunix_socket_dir = {}\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 6\nmax_client_conn = 2000\nserver_idle_timeout = 5\n{prepared}",
            cluster.folder().display(),
            folder.display()
        );
        let file = folder.join("pgbouncer.ini");
        std::fs::write(&file, configuration).expect("its configuration");
        let (user, group) = cluster.owner();
        for path in [&folder, &file] {
            std::os::unix::fs::chown(path, Some(user), Some(group)).expect("its owner");
        }
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&program.path).arg("-q").arg(&file);
        let log = std::fs::File::create(folder.join("log")).expect("a log file");
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).process_group(0);
        let keeper = keeper.uid(user).gid(group).current_dir(&folder).spawn().expect("sh runs");
        let pooler = Self { keeper, folder };
        pooler.await_ready();
        pooler
    }

    fn await_ready(&self) {
        let begun = Instant::now();
        while !self.socket().exists() {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "PgBouncer does not start: {log}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{PORT}"))
    }

    /// Returns the URL of a database through it.
    pub fn url(&self, database: &str) -> String {
        let folder = self.folder.display();
        format!("postgres://{USER}@localhost/{database}?host={folder}&port={PORT}")
    }

    /// Returns the way through it to a database whose URL past it is given.
    ///
    /// # Panics
    /// When that is no URL of a [`Cluster`].
    pub fn before(&self, direct: &str) -> String {
        let (start, _) = direct.split_once('?').expect("a URL with the folder of the socket");
        self.url(start.rsplit('/').next().expect("the name of a database"))
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ended = self.keeper.wait();
        let _gone_already = std::fs::remove_dir_all(&self.folder);
    }
}

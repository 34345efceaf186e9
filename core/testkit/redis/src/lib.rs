//! For tests only: a Redis server of the caller's own, on a free port of the loopback, in a folder of
//! its own, keeping nothing on disk. It ends with its [`Server`], and with the test process in
//! whatever way that ends: a shell beside it waits for the end of a pipe only the process holds.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long the server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Runs the server given as arguments until standard input ends. A line on standard input stops it
/// (`stop`) or starts it again (`start`).
const KEEPER: &str = r#"
"$@" >/dev/null & server=$!
echo done
while read -r word; do
  case "$word" in
    stop) kill -KILL "$server"; wait "$server" ;;
    *) "$@" >/dev/null & server=$! ;;
  esac
  echo done
done
kill -KILL "$server" 2>/dev/null; wait "$server"
"#;

/// A throw-away server.
pub struct Server {
    port: u16,
    password: Option<String>,
    /// How we reach a server that others reach with TLS alone.
    socket: Option<PathBuf>,
    keeper: Child,
    says: BufReader<std::process::ChildStdout>,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server without a password.
    ///
    /// # Panics
    /// When `redis-server` is not installed, or does not start.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Returns the server that all tests of a binary share.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn shared() -> &'static Self {
        static SHARED: std::sync::OnceLock<Server> = std::sync::OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server that wants a password.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn start_with(password: Option<&str>) -> Self {
        Self::begin(password, None)
    }

    /// Starts a server that takes nothing but TLS, and shows this certificate.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn start_secured(certificate: &Path, key: &Path) -> Self {
        Self::begin(None, Some((certificate, key)))
    }

    fn begin(password: Option<&str>, secured: Option<(&Path, &Path)>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = port.expect("a free port").port();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper", "redis-server", "--bind", "127.0.0.1"]);
        keeper.args(["--save", "", "--appendonly", "no"]);
        let mut socket = None;
        if let Some((certificate, key)) = secured {
            let path = folder.path().join("s");
            keeper.args(["--port", "0", "--tls-port", &port.to_string()]);
            keeper.arg("--tls-cert-file").arg(certificate).arg("--tls-key-file").arg(key);
            keeper.arg("--tls-ca-cert-file").arg(certificate).args(["--tls-auth-clients", "no"]);
            keeper.arg("--unixsocket").arg(&path);
            socket = Some(path);
        } else {
            keeper.args(["--port", &port.to_string()]);
        }
        keeper.arg("--dir").arg(folder.path());
        if let Some(password) = password {
            keeper.args(["--requirepass", password]);
        }
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut keeper = keeper.spawn().expect("sh runs");
        let says = BufReader::new(keeper.stdout.take().expect("a pipe"));
        let password = password.map(str::to_owned);
        let mut server = Self { port, password, socket, keeper, says, _folder: folder };
        server.hear();
        server.await_ready();
        server
    }

    /// Returns the URL of a database of the server.
    pub fn url(&self) -> String {
        match &self.password {
            None if self.socket.is_some() => format!("rediss://127.0.0.1:{}/0", self.port),
            Some(password) => format!("redis://:{password}@127.0.0.1:{}/0", self.port),
            None => format!("redis://127.0.0.1:{}/0", self.port),
        }
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server.
    ///
    /// # Panics
    /// When the shell beside it is gone.
    pub fn stop(&mut self) {
        self.tell("stop\n");
    }

    /// Starts the server again after [`Server::stop`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.tell("start\n");
        self.await_ready();
    }

    /// Sends one command, its words between spaces, and returns the beginning of the answer.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn command(&self, words: &str) -> String {
        self.try_command(words).expect("the server answers")
    }

    fn try_command(&self, words: &str) -> std::io::Result<String> {
        let mut connection: Box<dyn Line> = match &self.socket {
            Some(path) => Box::new(UnixStream::connect(path)?),
            None => Box::new(TcpStream::connect(("127.0.0.1", self.port))?),
        };
        connection.set_patience()?;
        let mut answer = [0; 4_096];
        if let Some(password) = &self.password {
            connection.write_all(format!("AUTH {password}\r\n").as_bytes())?;
            let _length = connection.read(&mut answer)?;
        }
        connection.write_all(format!("{words}\r\n").as_bytes())?;
        let length = connection.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    fn tell(&mut self, word: &str) {
        let input = self.keeper.stdin.as_mut().expect("a pipe");
        input.write_all(word.as_bytes()).expect("the keeper listens");
        self.hear();
    }

    fn hear(&mut self) {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("the keeper speaks");
    }

    fn await_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.try_command("PING").is_ok_and(|answer| answer.starts_with("+PONG")) {
            assert!(
                Instant::now() < deadline,
                "redis-server does not start: is it installed? `apt-get install redis-server`"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A connection to a server.
trait Line: std::io::Read + std::io::Write {
    fn set_patience(&self) -> std::io::Result<()>;
}

impl Line for TcpStream {
    fn set_patience(&self) -> std::io::Result<()> {
        self.set_read_timeout(Some(PATIENCE))
    }
}

impl Line for UnixStream {
    fn set_patience(&self) -> std::io::Result<()> {
        self.set_read_timeout(Some(PATIENCE))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ended = self.keeper.wait();
    }
}

//! The `colonnade` binary as a process: started, killed without warning, started again.

use std::{path::PathBuf, process::Stdio};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::eventually;

/// A running `colonnade up`: gateway in front, homeserver behind it, SQLite in a folder of its own.
pub struct Server {
    binary: PathBuf,
    folder: TempDir,
    port: u16,
    process: Child,
}

impl Server {
    /// Starts a server in a new folder and waits until it answers.
    ///
    /// # Panics
    /// When there is no binary (build it, or name one in COLONNADE_BIN) or it does not start.
    pub async fn start() -> Self {
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debug/colonnade");
        let binary = std::env::var_os("COLONNADE_BIN").map_or_else(|| built.into(), PathBuf::from);
        assert!(binary.exists(), "{} is not there: run make test-client", binary.display());
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let process = launch(&binary, &folder, port);
        let mut server = Self { binary, folder, port, process };
        server.ready().await;
        server
    }

    /// Returns where clients connect.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends the process at once, as a power cut would, and starts it again over the same folder.
    pub async fn kill_and_restart(&mut self) {
        self.kill().await;
        self.restart().await;
    }

    /// Ends the process at once.
    ///
    /// # Panics
    /// When it had ended by itself before.
    pub async fn kill(&mut self) {
        let ended = self.process.try_wait().expect("a process to ask");
        assert!(ended.is_none(), "the server had ended by itself: {ended:?}");
        self.process.kill().await.expect("a process to kill");
    }

    /// Starts it again over the same folder and waits until it answers.
    pub async fn restart(&mut self) {
        self.process = launch(&self.binary, &self.folder, self.port);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let http = client();
        let url = format!("{}/_matrix/client/versions", self.url());
        let answers = eventually("the server answers", || async {
            let answer = http.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        });
        tokio::select! {
            () = answers => {}
            ended = self.process.wait() => panic!("the server ended at its start: {ended:?}"),
        }
    }
}

/// A plain HTTP client that goes straight to the server.
pub(crate) fn client() -> matrix_sdk::reqwest::Client {
    matrix_sdk::reqwest::Client::builder().no_proxy().build().expect("a client")
}

fn launch(binary: &PathBuf, folder: &TempDir, port: u16) -> Child {
    Command::new(binary)
        // The server takes everything that begins like this for a setting.
        .env_remove("COLONNADE_BIN")
        .arg("up")
        .arg("--config")
        .arg(folder.path().join("colonnade.yaml"))
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args(["--set", "admin.listen=null", "--set", "admin.gateway=null", "--log", "warn"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the server starts")
}

/// Asks the system for a port that is free now.
fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("an address").port()
}

//! The `colonnade` binary as a process: started, killed without warning, started again.

use std::{path::PathBuf, process::Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
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
        Self::start_in(tempfile::tempdir().expect("a folder")).await
    }

    /// Starts two servers that find each other: each answers servers by TLS on an address of its own.
    ///
    /// # Panics
    /// When there is no binary, or one does not start.
    pub async fn start_pair() -> Vec<Self> {
        let folders =
            [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let authority = params.self_signed(&key).expect("a certificate");
        let mut servers = Vec::new();
        for (folder, host) in folders.into_iter().zip(["127.0.0.2", "127.0.0.3"]) {
            let path = |name: &str| folder.path().join(name);
            let own = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![host.to_owned()]).expect("an address");
            let issued = params.signed_by(&own, &authority, &key).expect("a certificate");
            std::fs::write(path("ca.pem"), authority.pem()).expect("a file");
            std::fs::write(path("own.pem"), issued.pem()).expect("a file");
            std::fs::write(path("own.key"), own.serialize_pem()).expect("a file");
            let at = format!("{host}:{}", free_port(host));
            let config = serde_json::json!({
                "server_name": at,
                "registration": { "open": true },
                "federation": {
                    "trusted_ca_files": [path("ca.pem")],
                    "listen": [{ "bind": at, "certificate": path("own.pem"), "key": path("own.key") }],
                },
                "outgoing": { "allowed_ranges": ["127.0.0.0/8"] },
            });
            // JSON is YAML, too.
            std::fs::write(path("colonnade.yaml"), config.to_string()).expect("a file");
            servers.push(Self::start_in(folder).await);
        }
        servers
    }

    async fn start_in(folder: TempDir) -> Self {
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debug/colonnade");
        let binary = std::env::var_os("COLONNADE_BIN").map_or_else(|| built.into(), PathBuf::from);
        assert!(binary.exists(), "{} is not there: run make test-client", binary.display());
        let port = free_port("127.0.0.1");
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

/// Asks the system for a port of an address of this machine that is free now.
fn free_port(host: &str) -> u16 {
    let socket = std::net::TcpListener::bind((host, 0)).expect("a free port");
    socket.local_addr().expect("an address").port()
}

//! Several homeservers that find each other: each answers TLS on an address of its own, 127.0.0.2 and so on, with a
//! certificate of an authority that all of them trust. They run in whatever shape the tests run in; a test may
//! take one of them away and bring it back.

use std::{
    net::SocketAddr,
    ops::{Index, IndexMut},
    sync::Arc,
    time::Duration,
};

use colonnade_model::ruma::{OwnedServerName, ServerName};
use colonnade_rooms::Settings;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::{TestServer, authority::Authority, server::open_settings};

/// The first pause after a server was not reached, in milliseconds: tests wait for it.
const RETRY_MIN_MS: u64 = 100;
/// The longest.
const RETRY_MAX_MS: u64 = 1_000;

/// Servers that find each other, `hs1`, `hs2` and so on. Stops them when dropped.
pub struct Federation {
    /// The authority they trust.
    pub authority: Authority,
    servers: Vec<TestServer>,
    doors: Vec<Door>,
}

/// Where a server is reached by others.
struct Door {
    address: SocketAddr,
    /// Where it leads; `None`: connections are cut.
    leads_to: watch::Sender<Option<String>>,
    serving: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Index<usize> for Federation {
    type Output = TestServer;

    fn index(&self, number: usize) -> &TestServer {
        &self.servers[number]
    }
}

impl IndexMut<usize> for Federation {
    fn index_mut(&mut self, number: usize) -> &mut TestServer {
        &mut self.servers[number]
    }
}

impl Federation {
    /// Starts so many servers.
    pub async fn start(count: usize) -> Self {
        Self::with(count, |_, _| ()).await
    }

    /// Starts so many servers, each with its settings changed by its number.
    ///
    /// # Panics
    /// When one does not start.
    pub async fn with(count: usize, change: impl Fn(usize, &mut Settings)) -> Self {
        let authority = Authority::new();
        let mut doors = Vec::new();
        for number in 0..count {
            let acceptor = authority.acceptor(name(number).host());
            doors.push(Door::open(&format!("127.0.0.{}:0", number + 2), acceptor).await);
        }
        let mut settings = open_settings();
        settings.outgoing.allowed_ranges = vec!["127.0.0.0/8".parse().expect("a range")];
        let federation = &mut settings.federation;
        federation.enabled = Some(true);
        federation.trusted_ca_files = vec![authority.file()];
        (federation.retry_min_ms, federation.retry_max_ms) = (RETRY_MIN_MS, RETRY_MAX_MS);
        for (number, door) in doors.iter().enumerate() {
            let at = door.address.to_string();
            let at = OwnedServerName::try_from(at).expect("an address is a server name");
            federation.overrides.insert(name(number), at);
        }
        let mut servers = Vec::new();
        for (number, door) in doors.iter().enumerate() {
            let mut own = settings.clone();
            change(number, &mut own);
            let server = TestServer::named(name(number), own).await;
            door.leads_to.send_replace(Some(server.url.clone()));
            servers.push(server);
        }
        Self { authority, servers, doors }
    }

    /// Returns where a server answers TLS.
    pub fn address(&self, number: usize) -> SocketAddr {
        self.doors[number].address
    }

    /// Takes a server away for the others: whoever connects is cut off, and so are the connections there are.
    pub fn cut(&self, number: usize) {
        self.doors[number].leads_to.send_replace(None);
    }

    /// Brings a server back.
    pub fn mend(&self, number: usize) {
        let url = self.servers[number].url.clone();
        self.doors[number].leads_to.send_replace(Some(url));
    }

    /// Stops a server, with its settings changed, and starts it again over the same data.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart_with(&mut self, number: usize, change: impl FnOnce(&mut Settings)) {
        self.cut(number);
        let server = self.servers.remove(number);
        self.servers.insert(number, server.restart_with(change).await);
        self.mend(number);
    }

    /// Stops a server and starts it again over the same data.
    pub async fn restart(&mut self, number: usize) {
        self.restart_with(number, |_| ()).await;
    }
}

/// Returns the name of a server.
fn name(number: usize) -> OwnedServerName {
    ServerName::parse(format!("hs{}", number + 1)).expect("a server name")
}

impl Door {
    async fn open(at: &str, acceptor: TlsAcceptor) -> Self {
        let socket =
            TcpListener::bind(at).await.expect("a free port of an address of this machine");
        let address = socket.local_addr().expect("a bound address");
        let (leads_to, heard) = watch::channel(None);
        let serving = tokio::spawn(async move {
            let acceptor = Arc::new(acceptor);
            loop {
                let Ok((stream, _)) = socket.accept().await else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                tokio::spawn(pass_on(stream, Arc::clone(&acceptor), heard.clone()));
            }
        });
        Self { address, leads_to, serving }
    }
}

/// Carries a connection to the server, as long as the door leads there.
async fn pass_on(
    stream: TcpStream,
    acceptor: Arc<TlsAcceptor>,
    mut leads_to: watch::Receiver<Option<String>>,
) {
    let Some(url) = leads_to.borrow_and_update().clone() else { return };
    let address = url.trim_start_matches("http://").to_owned();
    let carry = async {
        let mut outside = acceptor.accept(stream).await.ok()?;
        let mut inside = TcpStream::connect(address).await.ok()?;
        tokio::io::copy_bidirectional(&mut outside, &mut inside).await.ok()
    };
    tokio::select! {
        _ended = carry => {}
        _cut = leads_to.changed() => {}
    }
}

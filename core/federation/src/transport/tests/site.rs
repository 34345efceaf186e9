//! A site that answers TLS on a loopback address with whatever a test says, byte for byte.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::transport::names::{Names, Srv};

/// A certificate authority of one test.
pub(super) struct Authority {
    certificate: rcgen::Certificate,
    key: KeyPair,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { certificate, key, folder }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn acceptor(&self, hosts: &[&str]) -> TlsAcceptor {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let params = CertificateParams::new(hosts).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.certificate, &self.key).unwrap();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Names that a test knows.
#[derive(Default)]
pub(super) struct Known {
    pub(super) addresses: HashMap<String, Vec<IpAddr>>,
    pub(super) services: HashMap<String, Vec<Srv>>,
}

impl Names for Known {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        let found = self.addresses.get(host).cloned().unwrap_or_default();
        Box::pin(async move { Ok(found) })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Srv>, String>> {
        let found = self.services.get(name).cloned().unwrap_or_default();
        Box::pin(async move { Ok(found) })
    }
}

/// What a site saw.
#[derive(Default)]
struct Seen {
    heads: Mutex<Vec<String>>,
    names: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

/// A site. Closed when dropped.
pub(super) struct Site {
    pub(super) authority: Authority,
    pub(super) port: u16,
    seen: Arc<Seen>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Site {
    /// Opens a site with a certificate for `hosts`. `answer` makes the bytes of each answer from the site's
    /// port and the head of the request; nothing means that none ever comes.
    pub(super) async fn open(
        authority: Authority,
        hosts: &[&str],
        answer: impl Fn(u16, &str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let acceptor = authority.acceptor(hosts);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let answer = Arc::new(answer);
        let noted = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                noted.connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
                let seen = Arc::clone(&noted);
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
                    seen.names.lock().push(name);
                    let mut read = Vec::new();
                    loop {
                        let mut piece = [0; 4096];
                        let Ok(bytes @ 1..) = stream.read(&mut piece).await else { return };
                        read.extend_from_slice(&piece[..bytes]);
                        if !read.ends_with(b"\r\n\r\n") {
                            continue;
                        }
                        let head = String::from_utf8(std::mem::take(&mut read)).unwrap();
                        let bytes = answer(port, &head);
                        seen.heads.lock().push(head);
                        if bytes.is_empty() {
                            std::future::pending::<()>().await;
                        }
                        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err()
                        {
                            return;
                        }
                    }
                });
            }
        });
        Self { authority, port, seen, serving }
    }

    /// Returns the heads of the requests that came.
    pub(super) fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().clone()
    }

    /// Returns the names that were asked for in TLS, one for each connection.
    pub(super) fn names(&self) -> Vec<String> {
        self.seen.names.lock().clone()
    }

    /// Returns how many connections came.
    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

/// An answer of success.
pub(super) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// An answer that leads elsewhere.
pub(super) fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

//! Certificates: read, checked, chosen by the name a client asks for, and replaced while running.
//!
//! TLS 1.2 and 1.3 by rustls with ring. Sessions resume by tickets whose keys rotate, so a restart
//! costs full handshakes but nothing is kept on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;

use crate::config::{CertificateError, TlsConfig};
use crate::upstream::transport::{ALPN_HTTP1, ALPN_HTTP2};

/// The certificates of one listener: the first one, unless the client asks for a name another has.
#[derive(Debug)]
pub(crate) struct Certificates {
    keys: ArcSwap<Vec<Arc<CertifiedKey>>>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let unreadable = |what, path: &Path, why: String| CertificateError::Read {
        what,
        path: path.display().to_string(),
        why,
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable("a certificate", certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(unreadable("a certificate", certificate, "there is none".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| unreadable("a key", key, error.to_string()))?;
    let unusable = |cause| CertificateError::Use { path: certificate.display().to_string(), cause };
    let key = provider().key_provider.load_private_key(key).map_err(unusable)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Kinds of keys that cannot say so are believed; the handshake tells.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(certified)
        }
        Err(cause) => Err(unusable(cause)),
    }
}

impl Certificates {
    /// Reads the certificates of a listener.
    ///
    /// # Errors
    /// [`CertificateError`] for the first that cannot be used.
    pub(crate) fn read(config: &TlsConfig) -> Result<Self, CertificateError> {
        Ok(Self { keys: ArcSwap::from_pointee(read_all(config)?) })
    }

    /// Puts others in their place; handshakes that begin from now on use them.
    pub(crate) fn replace(&self, others: Self) {
        self.keys.store(others.keys.into_inner());
    }

    /// Makes what rustls needs to accept connections with these certificates.
    ///
    /// # Errors
    /// [`CertificateError::Use`] if rustls refuses its own defaults.
    pub(crate) fn accept_with(
        self: &Arc<Self>,
        config: &TlsConfig,
    ) -> Result<Arc<ServerConfig>, CertificateError> {
        let unusable = |cause| CertificateError::Use { path: "TLS settings".to_owned(), cause };
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        server.ticketer = rustls::crypto::ring::Ticketer::new().map_err(unusable)?;
        let protocols: &[&[u8]] =
            if config.http2 { &[ALPN_HTTP2, ALPN_HTTP1] } else { &[ALPN_HTTP1] };
        server.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(server))
    }
}

fn read_all(config: &TlsConfig) -> Result<Vec<Arc<CertifiedKey>>, CertificateError> {
    let pairs = config.certificates.iter();
    pairs.map(|(certificate, key)| load(certificate, key).map(Arc::new)).collect()
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = self.keys.load();
        if keys.len() > 1
            && let Some(name) = hello.server_name()
            && let Ok(name) = ServerName::try_from(name)
        {
            let serves = |key: &&Arc<CertifiedKey>| {
                let Some(Ok(parsed)) = key.cert.first().map(ParsedCertificate::try_from) else {
                    return false;
                };
                verify_server_name(&parsed, &name).is_ok()
            };
            if let Some(found) = keys.iter().find(serves) {
                return Some(Arc::clone(found));
            }
        }
        keys.first().map(Arc::clone)
    }
}

/// The files of a listener, for whoever watches them.
pub(crate) fn files(config: &TlsConfig) -> impl Iterator<Item = &PathBuf> {
    config.certificates.iter().flat_map(|(certificate, key)| [certificate, key])
}

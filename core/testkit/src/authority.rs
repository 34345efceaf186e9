//! A certificate authority of one test: made at its start, trusted by the servers of that test alone.

use std::{path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_rustls::TlsAcceptor;

/// The authority. What goes wrong panics.
pub struct Authority {
    certificate: rcgen::Certificate,
    key: KeyPair,
    folder: tempfile::TempDir,
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Makes an authority.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("a file");
        Self { certificate, key, folder }
    }

    /// Returns the file of its certificate, PEM.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Makes a certificate for a host or an address.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn issue(&self, host: &str) -> Issued {
        let params = CertificateParams::new(vec![host.to_owned()]).expect("a name of a host");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.certificate, &self.key);
        let certificate = certificate.expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// Returns what accepts TLS for a host or an address.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn acceptor(&self, host: &str) -> TlsAcceptor {
        Self::acceptor_of(&self.issue(host))
    }

    /// Returns what accepts TLS with a certificate of an authority.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn acceptor_of(issued: &Issued) -> TlsAcceptor {
        let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.expect("a certificate")], key)
            .expect("a certificate with its key");
        TlsAcceptor::from(Arc::new(config))
    }
}

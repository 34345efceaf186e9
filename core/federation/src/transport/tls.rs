//! TLS to other servers: their certificates have to be right for their names, by the authorities that the
//! system trusts and those of the configuration.

use std::{path::PathBuf, sync::Arc};

use colonnade_rooms::Error;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// What cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
enum TlsError {
    #[error("federation.trusted_ca_files: {path}: {why}")]
    File { path: String, why: String },
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// Makes the settings of all connections to other servers.
///
/// # Errors
/// When a file of the configuration cannot be used.
pub(super) fn client_config(trusted: &[PathBuf]) -> Result<Arc<ClientConfig>, Error> {
    let failed = |error: TlsError| Error::internal("trust other servers' certificates", error);
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (added, _passed_over) = roots.add_parsable_certificates(system.certs);
    for path in trusted {
        add(&mut roots, path).map_err(failed)?;
    }
    if added == 0 && trusted.is_empty() {
        tracing::warn!(
            "the system trusts no certificate authority (install ca-certificates, or name some in \
             federation.trusted_ca_files): no other server can be reached"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.into()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn add(roots: &mut RootCertStore, path: &PathBuf) -> Result<(), TlsError> {
    let wrong = |why: String| TlsError::File { path: path.display().to_string(), why };
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<CertificateDer<'static>> =
        certificates.map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    for certificate in certificates {
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(())
}

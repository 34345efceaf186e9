//! The load: one request after another on a few connections, blocking and plain, so that the
//! client's own cost is small and the same for both.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::subjects::Subject;

/// Connections used at the same time.
const AT_ONCE: usize = 4;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Protocol {
    Http1,
    Tls,
    TlsNew,
}

pub(crate) struct Load {
    request: Vec<u8>,
    protocol: Protocol,
    pub(crate) requests: usize,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Load {
    pub(crate) fn get(target: &str, protocol: Protocol, requests: usize) -> Self {
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: example.org\r\naccept: */*\r\n\
             authorization: Bearer cln_ab_0123456789\r\nuser-agent: bench\r\n\r\n"
        );
        Self { request: request.into_bytes(), protocol, requests }
    }

    pub(crate) fn put(target: &str, body: usize, protocol: Protocol, requests: usize) -> Self {
        let method = if target.contains("/send/") { "PUT" } else { "POST" };
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nhost: example.org\r\ncontent-type: application/json\r\n\
             authorization: Bearer cln_ab_0123456789\r\ncontent-length: {body}\r\n\r\n"
        )
        .into_bytes();
        request.resize(request.len() + body, b'x');
        Self { request, protocol, requests }
    }

    /// Sends all requests.
    pub(crate) fn run(&self, subject: &Subject) {
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    let mut stream = self.connect(subject);
                    for _ in 0..self.requests / AT_ONCE {
                        if self.protocol == Protocol::TlsNew {
                            stream = self.connect(subject);
                        }
                        self.ask(&mut *stream);
                    }
                });
            }
        });
    }

    /// Opens connections, makes one request on each, and keeps them.
    pub(crate) fn hold(&self, subject: &Subject, count: usize) -> Vec<impl Sized + use<>> {
        let open = (0..count).map(|_| {
            let mut stream = TcpStream::connect(subject.plain).unwrap();
            self.ask(&mut stream);
            stream
        });
        open.collect()
    }

    fn connect(&self, subject: &Subject) -> Box<dyn Stream> {
        if self.protocol == Protocol::Http1 {
            let stream = TcpStream::connect(subject.plain).unwrap();
            stream.set_nodelay(true).unwrap();
            return Box::new(stream);
        }
        let stream = TcpStream::connect(subject.encrypted).unwrap();
        stream.set_nodelay(true).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting))
            .with_no_client_auth();
        // Full handshakes: what is measured is not the session cache.
        config.resumption = rustls::client::Resumption::disabled();
        let name = ServerName::try_from("one.example.org").unwrap();
        let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        Box::new(rustls::StreamOwned::new(session, stream))
    }

    /// One request, one answer; all answers are shorter than the buffer and tell their length.
    fn ask(&self, stream: &mut (impl Stream + ?Sized)) {
        stream.write_all(&self.request).unwrap();
        let mut buffer = [0; 4096];
        let mut filled = 0;
        loop {
            let read = stream.read(&mut buffer[filled..]).unwrap();
            assert!(read > 0, "the connection was closed");
            filled += read;
            let text = &buffer[..filled];
            let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            assert!(text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(text));
            let head = String::from_utf8_lossy(&text[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if filled >= end + 4 + length.unwrap().trim().parse::<usize>().unwrap() {
                return;
            }
        }
    }
}

#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}

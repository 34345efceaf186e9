//! The load: one request after another on a few connections, blocking and plain, so that the client's
//! own cost is small and the same for all. Only HTTP/2 needs a library.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::subjects::Subject;
use super::worker::{COUNT, RELEASE};
use crate::trusting::Trusting;

/// Connections used at the same time.
const AT_ONCE: usize = 4;

/// The name in the certificate.
const NAME: &str = "one.example.org";

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Protocol {
    Http1,
    Tls,
    TlsNew,
    Http2,
}

pub(crate) struct Load {
    target: String,
    request: Vec<u8>,
    protocol: Protocol,
    pub(crate) requests: usize,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Load {
    pub(crate) fn get(target: &str, protocol: Protocol, requests: usize) -> Self {
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: {NAME}\r\naccept: */*\r\n\
             authorization: Bearer cln_ab_0123456789\r\nuser-agent: bench\r\n\r\n"
        );
        Self { target: target.to_owned(), request: request.into_bytes(), protocol, requests }
    }

    pub(crate) fn put(target: &str, body: usize, protocol: Protocol, requests: usize) -> Self {
        let method = if target.contains("/send/") { "PUT" } else { "POST" };
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {NAME}\r\ncontent-type: application/json\r\n\
             authorization: Bearer cln_ab_0123456789\r\ncontent-length: {body}\r\n\r\n"
        )
        .into_bytes();
        request.resize(request.len() + body, b'x');
        Self { target: target.to_owned(), request, protocol, requests }
    }

    /// Whether it is HTTP/1 in clear.
    pub(crate) fn is_plain(&self) -> bool {
        self.protocol == Protocol::Http1
    }

    /// Sends all requests.
    pub(crate) fn run(&self, subject: &Subject) {
        if self.protocol == Protocol::Http2 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            return runtime.unwrap().block_on(self.run_http2(subject));
        }
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

    async fn run_http2(&self, subject: &Subject) {
        let loads = (0..AT_ONCE).map(|_| async {
            let config = Arc::new(Trusting::default()).client(&[b"h2"]);
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let tcp = tokio::net::TcpStream::connect(subject.encrypted).await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let name = ServerName::try_from(NAME).unwrap();
            let tls = connector.connect(name, tcp).await.unwrap();
            let (mut client, connection) = h2::client::handshake(tls).await.unwrap();
            let connection = tokio::spawn(connection);
            let url = format!("https://{NAME}{}", self.target);
            for _ in 0..self.requests / AT_ONCE {
                let request = http::Request::get(&url)
                    .header("authorization", "Bearer cln_ab_0123456789")
                    .body(())
                    .unwrap();
                client = client.ready().await.unwrap();
                let answer = client.send_request(request, true).unwrap().0.await.unwrap();
                assert_eq!(answer.status(), 200);
                let mut body = answer.into_body();
                while let Some(piece) = body.data().await {
                    let read = piece.unwrap().len();
                    body.flow_control().release_capacity(read).unwrap();
                }
            }
            connection.abort();
        });
        // At the same time, on one thread.
        let set = tokio::task::LocalSet::new();
        set.run_until(async {
            let mut all: Vec<_> = loads.map(Box::pin).collect();
            std::future::poll_fn(|cx| {
                all.retain_mut(|load| load.as_mut().poll(cx).is_pending());
                if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        })
        .await;
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

    /// Opens connections and begins a long poll on each; says when the worker holds them all.
    pub(crate) fn park(&self, subject: &Subject, worker: SocketAddr, count: usize) -> Parked {
        let begin = |_| {
            let mut stream = TcpStream::connect(subject.plain).unwrap();
            stream.write_all(&self.request).unwrap();
            stream
        };
        let polls = (0..count).map(begin).collect();
        while held(worker) < count {
            std::thread::sleep(Duration::from_millis(20));
        }
        Parked { polls, worker }
    }

    fn connect(&self, subject: &Subject) -> Box<dyn Stream> {
        if self.protocol == Protocol::Http1 {
            let stream = TcpStream::connect(subject.plain).unwrap();
            stream.set_nodelay(true).unwrap();
            return Box::new(stream);
        }
        let stream = TcpStream::connect(subject.encrypted).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut config = Arc::new(Trusting::default()).client(&[]);
        // Full handshakes: what is measured is not the session cache.
        config.resumption = rustls::client::Resumption::disabled();
        let name = ServerName::try_from(NAME).unwrap();
        let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        Box::new(rustls::StreamOwned::new(session, stream))
    }

    fn ask(&self, stream: &mut (impl Stream + ?Sized)) {
        stream.write_all(&self.request).unwrap();
        read_answer(stream);
    }
}

/// One answer; all are shorter than the buffer and tell their length. Gives the body.
fn read_answer(stream: &mut (impl Read + ?Sized)) -> String {
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
            return String::from_utf8_lossy(&text[end + 4..]).into_owned();
        }
    }
}

/// Asks the worker itself.
fn tell(worker: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(worker).unwrap();
    stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: w\r\n\r\n").as_bytes()).unwrap();
    read_answer(&mut stream)
}

fn held(worker: SocketAddr) -> usize {
    tell(worker, COUNT).parse().unwrap()
}

/// Long polls that wait.
pub(crate) struct Parked {
    polls: Vec<TcpStream>,
    worker: SocketAddr,
}

impl Parked {
    /// Lets them all go and reads every answer.
    pub(crate) fn release(mut self) {
        tell(self.worker, RELEASE);
        for poll in &mut self.polls {
            read_answer(poll);
        }
    }
}

//! Encrypted listeners, HTTP/2, and the PROXY protocol. The certificates are for these tests only.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use colonnade_gateway::{RunOptions, Running, Source};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::{Client, PATIENCE, gateway, get};
use crate::trusting::{FOLDER, Trusting};
use crate::worker::{Act, Worker};

struct Dialled {
    stream: TlsStream<TcpStream>,
    /// The certificate the gateway showed.
    certificate: Vec<u8>,
}

async fn dial(address: SocketAddr, name: &'static str, protocol: &[u8]) -> Dialled {
    let trusting = Arc::new(Trusting::default());
    let config = trusting.client(&[protocol]);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = TcpStream::connect(address).await.unwrap();
    let stream = connector.connect(ServerName::try_from(name).unwrap(), tcp).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
    let certificate = trusting.last();
    Dialled { stream, certificate }
}

fn file(certificates: &str, worker: SocketAddr) -> String {
    format!(
        "listen: [{{ name: tls, bind: \"127.0.0.1:0\", tls: {{ certificates: [{certificates}] }} }}]\n\
         pools: {{ all: {{ balance: single, workers: [\"{worker}\"] }} }}\n\
         routes: [{{ match: \"^/.*$\", pool: all }}]\n"
    )
}

fn pair(folder: &Path, name: &str) -> String {
    let folder = folder.display();
    format!("{{ cert: \"{folder}/{name}.crt\", key: \"{folder}/{name}.key\" }}")
}

fn start(text: String) -> Running {
    crate::client::start(RunOptions::new(Source::Text { name: "tls.yaml".to_owned(), text }))
}

async fn get_over(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _closed = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test]
async fn requests_arrive_through_tls_and_the_worker_knows() {
    let worker = Worker::named("w").await;
    let gateway = start(file(&pair(Path::new(FOLDER), "one"), worker.address));
    let mut dialled = dial(gateway.addrs()[0], "one.example.org", b"http/1.1").await;
    let answer = get_over(&mut dialled.stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nw"), "{answer}");
    assert_eq!(worker.last().header("x-forwarded-proto"), Some("https"));
    // Clear text at an encrypted listener is not answered and does no harm.
    let mut clear = Client::connect(gateway.addrs()[0]).await;
    clear.send("GET /a HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(!clear.rest().await.contains("200 OK"));
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name_and_the_first_is_the_default() {
    let worker = Worker::named("w").await;
    let folder = Path::new(FOLDER);
    let certificates = format!("{}, {}", pair(folder, "one"), pair(folder, "two"));
    let gateway = start(file(&certificates, worker.address));
    let address = gateway.addrs()[0];
    let one = dial(address, "one.example.org", b"http/1.1").await.certificate;
    let two = dial(address, "two.example.org", b"http/1.1").await.certificate;
    let other = dial(address, "other.example.org", b"http/1.1").await.certificate;
    assert_ne!(one, two);
    assert_eq!(one, other);
}

#[tokio::test]
async fn certificates_are_replaced_while_running_and_bad_ones_refused() {
    let worker = Worker::named("w").await;
    let folder = tempfile::tempdir().unwrap();
    let install = |name: &str| {
        for kind in ["crt", "key"] {
            let from = Path::new(FOLDER).join(format!("{name}.{kind}"));
            std::fs::copy(from, folder.path().join(format!("live.{kind}"))).unwrap();
        }
    };
    install("one");
    let gateway = start(file(&pair(folder.path(), "live"), worker.address));
    let address = gateway.addrs()[0];
    let mut before = dial(address, "one.example.org", b"http/1.1").await;
    std::fs::copy(Path::new(FOLDER).join("two.key"), folder.path().join("live.key")).unwrap();
    let refused = gateway.reload().unwrap_err();
    assert!(refused.to_string().contains("listener `tls`"), "{refused}");
    install("two");
    gateway.reload().unwrap();
    let after = dial(address, "two.example.org", b"http/1.1").await;
    assert_ne!(before.certificate, after.certificate);
    assert!(get_over(&mut before.stream).await.starts_with("HTTP/1.1 200"));
    // Nobody says so: the files are looked at.
    install("one");
    let noticed = async {
        while dial(address, "one.example.org", b"http/1.1").await.certificate == after.certificate {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noticed).await.unwrap();
}

#[tokio::test]
async fn http2_carries_many_requests_at_once() {
    let worker = Worker::start(|seen| match seen.target.as_str() {
        "/slow" => Act::Wait(Duration::from_millis(300), "slow".into()),
        _ => Act::Say(seen.target.clone()),
    })
    .await;
    let gateway = start(file(&pair(Path::new(FOLDER), "one"), worker.address));
    let dialled = dial(gateway.addrs()[0], "one.example.org", b"h2").await;
    let (mut client, connection) = h2::client::handshake(dialled.stream).await.unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for target in ["/slow", "/1?q=%20", "/2"] {
        let request = http::Request::get(format!("https://one.example.org{target}")).body(());
        client = client.ready().await.unwrap();
        answers.push(client.send_request(request.unwrap(), true).unwrap().0);
    }
    let mut bodies = Vec::new();
    for answer in answers {
        let mut answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        let mut body = Vec::new();
        while let Some(piece) = answer.body_mut().data().await {
            body.extend_from_slice(&piece.unwrap());
        }
        bodies.push(String::from_utf8(body).unwrap());
    }
    assert_eq!(bodies, ["slow", "/1?q=%20", "/2"]);
    let seen = worker.seen.lock().unwrap();
    assert!(seen.iter().all(|s| s.header("host") == Some("one.example.org")));
}

#[tokio::test]
async fn a_retiring_gateway_sends_goaway_and_finishes_what_it_holds() {
    let worker = Worker::start(|seen| match seen.target.as_str() {
        "/slow" => Act::Wait(Duration::from_millis(500), "slow".into()),
        _ => Act::Say("quick".into()),
    })
    .await;
    let gateway = start(file(&pair(Path::new(FOLDER), "one"), worker.address));
    let dialled = dial(gateway.addrs()[0], "one.example.org", b"h2").await;
    let (client, connection) = h2::client::handshake(dialled.stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::get("https://one.example.org/slow").body(()).unwrap();
    let answer = client.send_request(request, true).unwrap().0;
    while worker.count() < 1 {
        tokio::task::yield_now().await;
    }
    let retiring = tokio::spawn(async move { gateway.retire(PATIENCE).await });
    let mut answer = answer.await.unwrap();
    let body = answer.body_mut().data().await.unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), body.as_ref()), (200, b"slow".as_ref()));
    // GOAWAY without an error ends the connection; a client opens another one.
    connection.await.unwrap().unwrap();
    let request = http::Request::get("https://one.example.org/quick").body(()).unwrap();
    assert!(client.send_request(request, true).is_err());
    retiring.await.unwrap();
    assert_eq!(worker.count(), 1);
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Sends pieces until the gateway closes; says how many it took.
async fn flood(address: SocketAddr, mut piece: impl FnMut(u32) -> Vec<u8>) -> u32 {
    let dialled = dial(address, "one.example.org", b"h2").await;
    let (mut reader, mut writer) = tokio::io::split(dialled.stream);
    let closed = tokio::spawn(async move {
        let mut scrap = [0; 16 << 10];
        while matches!(reader.read(&mut scrap).await, Ok(read) if read > 0) {}
    });
    writer.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    let sending = async {
        let mut sent = 0;
        while !closed.is_finished() && sent < 200_000 {
            if writer.write_all(&piece(sent)).await.is_err() || writer.flush().await.is_err() {
                break;
            }
            sent += 1;
        }
        sent
    };
    let sent = tokio::time::timeout(Duration::from_secs(60), sending).await.unwrap();
    assert!(sent < 200_000, "the flood was not cut off");
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_floods_end_the_connection_and_nothing_else() {
    let worker = Worker::start(|_| Act::Wait(Duration::from_millis(50), "w".into())).await;
    let gateway = start(file(&pair(Path::new(FOLDER), "one"), worker.address));
    let address = gateway.addrs()[0];
    // Rapid reset (CVE-2023-44487): GET https h / and at once RST_STREAM(CANCEL).
    let head = [0x82, 0x87, 0x84, 0x41, 0x01, b'h'];
    let resets = flood(address, |n| {
        let stream = 1 + 2 * n;
        [frame(1, 5, stream, &head), frame(3, 0, stream, &8u32.to_be_bytes())].concat()
    })
    .await;
    assert!(worker.count() < 10_000, "{resets} resets, {} requests", worker.count());
    // A header block without an end (CVE-2024-27316).
    flood(address, |n| match n {
        0 => frame(1, 0, 1, &head),
        _ => frame(9, 0, 1, &[0x00, 0x01, b'x', 0x02, b'y', b'z'].repeat(500)),
    })
    .await;
    let mut other = dial(address, "one.example.org", b"http/1.1").await;
    assert!(get_over(&mut other.stream).await.ends_with("w"));
}

/// Frames that ask for an answer each, from a client that reads none of them: the gateway stops
/// reading, keeps nothing, and serves everybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_chatter_without_listening_stops_only_itself() {
    let worker = Worker::named("w").await;
    let gateway = start(file(&pair(Path::new(FOLDER), "one"), worker.address));
    let address = gateway.addrs()[0];
    let mut chatter = Vec::new();
    for frame in [frame(4, 0, 0, &[]), frame(6, 0, 0, &[7; 8])] {
        let mut stream = dial(address, "one.example.org", b"h2").await.stream;
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(&self::frame(4, 0, 0, &[])).await.unwrap();
        let many = frame.repeat(1_000);
        let sending = async {
            let mut sent = 0;
            while sent < 64 << 20 && stream.write_all(&many).await.is_ok() {
                sent += many.len();
            }
            sent
        };
        // It either blocks, or is cut off; it does not swallow 64 MB.
        let sent = tokio::time::timeout(Duration::from_secs(3), sending).await.unwrap_or(0);
        assert!(sent < 64 << 20, "{sent} bytes were taken");
        chatter.push(stream);
    }
    let mut other = dial(address, "one.example.org", b"http/1.1").await;
    assert!(get_over(&mut other.stream).await.ends_with("w"));
}

#[tokio::test]
async fn the_proxy_protocol_tells_the_client_from_trusted_peers_only() {
    let worker = Worker::named("w").await;
    let file = |trusted: &str| {
        format!(
            "trusted_proxies: [{trusted}]\n\
             pools: {{ all: {{ balance: single, workers: [\"{}\"] }} }}\n\
             routes: [{{ match: \"^/.*$\", pool: all }}]\n\
             listen: [{{ name: t, bind: \"127.0.0.1:0\", proxy_protocol: true }}]\n",
            worker.address
        )
    };
    let trusting = start(file("\"127.0.0.1\""));
    let mut client = Client::connect(trusting.addrs()[0]).await;
    // In two pieces: the header may be cut anywhere.
    client.send("PROXY TCP4 203.0.1").await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    client.send("13.9 10.0.0.1 4711 443\r\nGET /a HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().body, "w");
    assert_eq!(worker.last().header("x-forwarded-for"), Some("203.0.113.9"));
    let mut without = Client::connect(trusting.addrs()[0]).await;
    without.send("GET /a HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(without.rest().await, "");
    let strict = start(file("\"10.0.0.1\""));
    let mut stranger = Client::connect(strict.addrs()[0]).await;
    stranger
        .send("PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\nGET /a HTTP/1.1\r\nhost: h\r\n\r\n")
        .await;
    assert_eq!(stranger.rest().await, "");
    assert_eq!(worker.count(), 1);
}

#[tokio::test]
async fn the_gateway_listens_on_unix_sockets() {
    let worker = Worker::named("w").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("front.sock");
    // What an ended process left behind does not stand in the way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let gateway = start(format!(
        "listen: [{{ name: u, bind: \"unix:{}\" }}, {{ name: t, bind: \"127.0.0.1:0\" }}]\n\
         pools: {{ all: {{ balance: single, workers: [\"{}\"] }} }}\n\
         routes: [{{ match: \"^/.*$\", pool: all }}]\n",
        path.display(),
        worker.address
    ));
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nw"), "{answer}");
    assert_eq!(get(gateway.addrs()[0], "/a").await.body, "w");
}

#[tokio::test]
async fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let (a, b) = (Worker::named("a").await, Worker::named("b").await);
    let gateway = gateway(&crate::client::one_pool("single", &[a.address, b.address]));
    let admin = gateway.admin_addr().unwrap();
    let request = "POST /reload?dry_run HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let answer = crate::client::ask(admin, request).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\"changes\":[]"), "{}", answer.body);
    let table: serde_json::Value = serde_json::from_str(&get(admin, "/table").await.body).unwrap();
    assert_eq!(table["version"], 1);
}

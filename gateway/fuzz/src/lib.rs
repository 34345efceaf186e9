//! What the targets of connections share: a gateway that runs, in front of a worker that reads strictly. A
//! request that the gateway did not make would lack what the gateway adds to each, and is a crash.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use colonnade_gateway::{RunOptions, Running, Source, run};

/// Longer than the deadlines below: then the gateway must have closed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Ends a connection whose framing is in step; where it is not, a deadline does.
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

/// Starts a gateway with a listener in clear, and behind it these.
pub fn start(listeners: &str) -> Running {
    let worker = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = worker.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = worker.accept() {
            std::thread::spawn(move || serve(stream));
        }
    });
    let text = format!(
        "listen: [{{ name: f, bind: \"127.0.0.1:0\" }}{listeners}]\n\
         limits: {{ header_bytes: 4KiB, header_timeout: 50ms, keepalive_timeout: 50ms,\n\
         \x20 body_timeout: 50ms, body_bytes: 16KiB, response_timeout: 2s, hold: 1s }}\n\
         pools: {{ all: {{ balance: {{ hash: user }}, workers: [\"{address}\"], eject_after: 0 }} }}\n\
         routes:\n\
         \x20 - {{ match: \"^/never(/.*)?$\", deny: true }}\n\
         \x20 - {{ match: \"^/.*$\", pool: all, unless_query: [no], if_header: [host] }}\n"
    );
    let mut options = RunOptions::new(Source::Text { name: "fuzz.yaml".to_owned(), text });
    options.watch = false;
    options.threads = 1;
    run(options).unwrap()
}

/// Reads requests as a strict worker would; a request that the gateway did not make is a crash.
fn serve(mut stream: TcpStream) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            more(&mut stream, &mut bytes)?;
        };
        let raw = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let head = raw.to_ascii_lowercase();
        bytes.drain(..end);
        let one = |name: &str| -> Option<String> {
            let mut found = head.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim);
            let first = found.next().map(str::to_owned);
            assert!(found.next().is_none(), "{name} twice: {head:?}");
            first
        };
        let target = raw.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let denied = path == "/never" || path.starts_with("/never/");
        assert!(target.starts_with('/') && !denied, "{head:?}");
        assert_eq!(one("x-forwarded-for:").as_deref(), Some("127.0.0.1"), "{head:?}");
        assert!(one("x-request-id:").is_some(), "{head:?}");
        let (length, coding) = (one("content-length:"), one("transfer-encoding:"));
        assert!(length.is_none() || coding.is_none(), "two framings: {head:?}");
        if coding.is_some() {
            loop {
                let line = loop {
                    if let Some(at) = bytes.windows(2).position(|window| window == b"\r\n") {
                        break at;
                    }
                    more(&mut stream, &mut bytes)?;
                };
                let size = std::str::from_utf8(&bytes[..line]).ok();
                let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
                let size = size.expect("a chunk that the gateway wrote");
                while bytes.len() < line + 2 + size + 2 {
                    more(&mut stream, &mut bytes)?;
                }
                assert_eq!(&bytes[line + 2 + size..line + 2 + size + 2], b"\r\n");
                bytes.drain(..line + 2 + size + 2);
                if size == 0 {
                    break;
                }
            }
        }
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        while bytes.len() < length {
            more(&mut stream, &mut bytes)?;
        }
        bytes.drain(..length);
        if path == "/hint" {
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n").ok()?;
        }
        let body = if path == "/large" { "o".repeat(100_000) } else { "ok".to_owned() };
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).ok()?;
        if !head.starts_with("head ") {
            stream.write_all(body.as_bytes()).ok()?;
        }
    }
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 4096];
    let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
    bytes.extend_from_slice(&piece[..read]);
    Some(())
}

/// Sends this and one more request in clear; what comes back until the gateway closes.
pub fn talk(address: SocketAddr, input: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may have closed already: what it said before that is what counts.
    let _closed = stream.write_all(input).and_then(|()| stream.write_all(LAST));
    let mut answers = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => answers.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the gateway neither answered nor closed");
            }
            Err(_) => break,
        }
    }
    let _closed = stream.shutdown(Shutdown::Both);
    answers
}

/// Stops if the gateway serves nobody any more. With deadlines this short a busy machine may miss one; not
/// many in a row.
pub fn assert_serves(gateway: &Running) {
    let address = gateway.addrs()[0];
    let served = (0..100).any(|_| talk(address, b"").starts_with(b"HTTP/1.1 200"));
    assert!(served, "the gateway serves nobody any more");
}

//! Clients of HTTP/2 that break its rules or stretch them, frame by frame: the gateway lives on, serves the
//! others, and lets go of what they hold. Floods of whole requests and of frames that ask for answers are in
//! `tls.rs`.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::{PATIENCE, metrics_say};
use crate::http2::{ask, body_deadline, connect, dial, request, start};
use crate::worker::{Act, Worker};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;

/// One frame as it came.
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A connection on which every frame is written by hand.
struct Wire {
    stream: TlsStream<TcpStream>,
}

/// The smallest request's header block: indexed fields, the authority as a literal (RFC 7541 §6).
fn block(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87, 0x01, 3, b'o', b'n', b'e', 0x04];
    block.push(u8::try_from(path.len()).unwrap());
    block.extend_from_slice(path.as_bytes());
    block
}

/// A header with a literal name and value, never indexed.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0x10, u8::try_from(name.len()).unwrap()];
    field.extend_from_slice(name.as_bytes());
    field.push(u8::try_from(value.len()).unwrap());
    field.extend_from_slice(value.as_bytes());
    field
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

impl Wire {
    /// Says hello, with these settings.
    async fn open(gateway: &colonnade_gateway::Running, settings: &[(u16, u32)]) -> Self {
        let mut wire = Self { stream: dial(gateway).await };
        let pairs = settings.iter().flat_map(|(name, value)| {
            name.to_be_bytes().into_iter().chain(value.to_be_bytes()).collect::<Vec<u8>>()
        });
        let hello = frame(SETTINGS, 0, 0, &pairs.collect::<Vec<u8>>());
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        wire.send(&hello).await.unwrap();
        wire
    }

    /// Writes bytes; none when the gateway has closed.
    async fn send(&mut self, bytes: &[u8]) -> Option<()> {
        let sent = async {
            self.stream.write_all(bytes).await.ok()?;
            self.stream.flush().await.ok()
        };
        tokio::time::timeout(PATIENCE, sent).await.unwrap()
    }

    /// Reads the next frame; none at the end.
    async fn next(&mut self) -> Option<Frame> {
        next(&mut self.stream).await
    }

    /// Reads up to a frame of this kind; none if the connection ends before.
    async fn until(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let next = self.next().await?;
            if next.kind == kind {
                return Some(next);
            }
        }
    }

    /// Reads to the end; the reason told last, if one was.
    async fn ended(&mut self) -> Option<u32> {
        let mut reason = None;
        while let Some(last) = self.until(GOAWAY).await {
            reason = last.payload[4..8].try_into().ok().map(u32::from_be_bytes);
        }
        reason
    }
}

async fn next(stream: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let read = async {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let number = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind: head[3], flags: head[4], stream: number, payload })
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}

/// Says that others are served as ever.
async fn others_are_served(gateway: &colonnade_gateway::Running) {
    let mut other = connect(gateway).await;
    assert_eq!(ask(&mut other, request("GET", "/a"), None).await.unwrap().body(), b"w");
}

/// CVE-2024-27316: a header block that never ends.
#[tokio::test]
async fn endless_header_blocks_are_cut_off() {
    let worker = Worker::named("w").await;
    let gateway = start("", &worker);
    for piece in [&[][..], &literal("x", "y"), &[0x82; 1_000]] {
        let mut wire = Wire::open(&gateway, &[]).await;
        wire.send(&frame(HEADERS, 0, 1, &block("/a"))).await.unwrap();
        let many: Vec<u8> = (0..1_000).flat_map(|_| frame(CONTINUATION, 0, 1, piece)).collect();
        let cut_off = async { while wire.send(&many).await.is_some() {} };
        tokio::time::timeout(PATIENCE, cut_off).await.expect("it is read for ever");
    }
    assert_eq!(worker.count(), 0);
    others_are_served(&gateway).await;
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let worker = Worker::named("w").await;
    let gateway = start("header_bytes: 4KiB", &worker);
    let mut wire = Wire::open(&gateway, &[]).await;
    let long = "y".repeat(100);
    let lines: Vec<u8> = (0..60).flat_map(|_| literal("x", &long)).collect();
    let large = [block("/a"), lines].concat();
    wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &large)).await.unwrap();
    let refused = wire.until(HEADERS).await.unwrap();
    // The status is a literal, in the Huffman code: 4, 3, 1 are 011010, 011001, 00001 (RFC 7541, appendix B).
    let status = [0x83, 0b0110_1001, 0b1001_0000, 0b1111_1111];
    assert!(
        refused.stream == 1 && refused.payload.windows(4).any(|at| at == status),
        "{refused:?}"
    );
    // The connection goes on.
    wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &block("/a"))).await.unwrap();
    let answer = wire.until(HEADERS).await.unwrap();
    assert_eq!((answer.stream, answer.payload[0]), (3, 0x88));
    assert_eq!(worker.count(), 1);
}

/// A client that opens no window keeps neither the worker nor the stream.
#[tokio::test]
async fn who_takes_nothing_is_not_waited_for() {
    let worker = Worker::start(|_| Act::Say("y".repeat(5_000_000))).await;
    let gateway = start("body_timeout: 300ms", &worker);
    let initial_window_size = (4, 0);
    let mut wire = Wire::open(&gateway, &[initial_window_size]).await;
    wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block("/a"))).await.unwrap();
    let head = wire.until(HEADERS).await.unwrap();
    assert_eq!((head.stream, head.flags & END_STREAM), (1, 0));
    let reset = wire.until(RST_STREAM).await.unwrap();
    assert_eq!(reset.stream, 1);
    metrics_say(&gateway, "status=\"2xx\"} 1").await;
    // The rest of the connection is not touched by that.
    wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &block("/denied"))).await.unwrap();
    assert_eq!(wire.until(HEADERS).await.unwrap().stream, 3);
}

/// What two readers could take for different requests costs the stream, and no worker sees it.
#[tokio::test]
async fn requests_that_are_none_are_refused() {
    let worker = Worker::named("w").await;
    let gateway = start("", &worker);
    let with = |name: &str, value: &str| [block("/a"), literal(name, value)].concat();
    let blocks = [
        ("connection", with("connection", "close")),
        ("transfer-encoding", with("transfer-encoding", "chunked")),
        ("te", with("te", "gzip")),
        ("capitals", with("Content-Length", "0")),
        ("line end in a value", with("x", "y\r\nz: 1")),
        ("line end in a name", with("x\r\ny", "z")),
        ("zero in a value", with("x", "\0")),
        ("a pseudo-header twice", [block("/a"), block("/b")].concat()),
        ("a pseudo-header behind headers", [literal("x", "y"), block("/a")].concat()),
        ("a pseudo-header nobody knows", with(":x", "y")),
        ("a status", with(":status", "200")),
        ("no path", vec![0x82, 0x87, 0x01, 3, b'o', b'n', b'e']),
        ("an empty path", block("")),
        ("a path with a blank", block("/a b")),
        ("a path with a line end", block("/a\r\nx: y")),
        ("a method with a line end", [literal(":method", "GET /\r\n"), block("/a")].concat()),
        ("length without a body", with("content-length", "5")),
    ];
    for (name, block) in blocks {
        let mut wire = Wire::open(&gateway, &[]).await;
        let _closed = wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
        let refused = loop {
            match wire.next().await {
                None => break true,
                Some(came) if came.kind == HEADERS => break came.payload[0] != 0x88,
                Some(came) if [RST_STREAM, GOAWAY].contains(&came.kind) => break true,
                Some(_) => {}
            }
        };
        assert!(refused, "{name}");
        assert_eq!(worker.count(), 0, "{name}");
    }
    others_are_served(&gateway).await;
}

/// Frames that have no place where they come end the connection, and nothing else.
#[tokio::test]
async fn frames_out_of_place_end_the_connection() {
    let worker = Worker::named("w").await;
    let gateway = start("", &worker);
    let frames = [
        ("data on no stream", frame(DATA, 0, 0, b"x")),
        ("data on a stream nobody opened", frame(DATA, 0, 1, b"x")),
        ("a stream of the gateway's", frame(HEADERS, END_HEADERS | END_STREAM, 2, &block("/a"))),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &block("/a"))),
        ("a window of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("half a window", frame(WINDOW_UPDATE, 0, 0, &[0, 1])),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("a short ping", frame(PING, 0, 0, &[0; 7])),
        ("a promise", frame(5, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
        ("a frame that is too long", frame(DATA, 0, 1, &[0; 20_000])),
        ("no header block", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 20])),
        ("a window beyond all", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)),
    ];
    for (name, bytes) in frames {
        let mut wire = Wire::open(&gateway, &[]).await;
        let _closed = wire.send(&bytes).await;
        let reason = wire.ended().await;
        assert!(reason.is_none_or(|reason| reason >= PROTOCOL_ERROR), "{name}: {reason:?}");
    }
    assert_eq!(worker.count(), 0);
    others_are_served(&gateway).await;
}

/// A body whose pieces are empty is no progress: its time runs out.
#[tokio::test]
async fn a_body_of_nothing_is_cut_off() {
    let worker = Worker::named("w").await;
    let gateway = start(&body_deadline("500ms"), &worker);
    let mut wire = Wire::open(&gateway, &[]).await;
    wire.send(&frame(HEADERS, END_HEADERS, 1, &block("/a"))).await.unwrap();
    let (mut from, mut to) = tokio::io::split(wire.stream);
    let sending = tokio::spawn(async move {
        let nothing = frame(DATA, 0, 1, &[]);
        while to.write_all(&nothing).await.is_ok() && to.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let refused = loop {
        let came = next(&mut from).await.expect("the connection stays");
        if came.kind == HEADERS {
            break came.stream;
        }
    };
    sending.abort();
    assert_eq!((refused, worker.count()), (1, 0));
}

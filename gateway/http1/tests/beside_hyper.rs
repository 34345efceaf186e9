//! The same bytes given to this crate and to hyper, which stands on httparse: whatever this one accepts, hyper
//! accepts and understands alike. Where hyper accepts more, docs/http1.md says why; its rows are cases here.

use std::time::Duration;

use bytes::Bytes;
use colonnade_http1::{Body, Framing, HeaderAction, RequestHead, Scan, Scanner};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

/// How long hyper has for what it has got all bytes of.
const PATIENCE: Duration = Duration::from_secs(20);

type Headers = Vec<(String, Vec<u8>)>;

/// A message as a reader understood it: its first line's words, its headers, its body.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    first: Vec<String>,
    headers: Headers,
    body: Vec<u8>,
}

/// Takes a body off the input; none if it is not whole or is no body.
fn whole_body(mut body: Body, mut input: &[u8], at_end: bool) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    while !body.is_done() {
        let (taken, piece) = body.next(input).ok()?;
        data.extend_from_slice(piece);
        if taken == 0 {
            return (at_end && body == Body::UntilClose).then_some(data);
        }
        input = &input[taken..];
    }
    Some(data)
}

fn our_request(bytes: &[u8]) -> Option<Message> {
    let Scan::End(end) = Scanner::default().scan(bytes) else { return None };
    let head = RequestHead::parse(bytes[..end].to_vec(), |_| HeaderAction::Pass).ok()?;
    let names = ["host", "content-length", "transfer-encoding", "x-a", "connection", "expect"];
    let mut headers = Headers::new();
    for name in names {
        headers.extend(head.all(name).into_iter().map(|value| (name.to_owned(), value.to_vec())));
    }
    Some(Message {
        first: vec![head.method().to_owned(), head.target().to_owned()],
        headers,
        body: whole_body(Body::from(head.framing), &bytes[end..], false)?,
    })
}

async fn hypers_request(bytes: &[u8]) -> Option<Message> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let (tell, mut received) = mpsc::unbounded_channel();
    let service =
        hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let tell = tell.clone();
            async move {
                let (parts, body) = request.into_parts();
                if let Ok(body) = body.collect().await {
                    let _gone = tell.send((parts, body.to_bytes().to_vec()));
                }
                Ok::<_, std::convert::Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
            }
        });
    let serving = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(server), service);
    let feeding = async {
        let _refused = client.write_all(bytes).await;
        let _refused = client.shutdown().await;
        let mut answer = Vec::new();
        let _cut = client.read_to_end(&mut answer).await;
    };
    let both = async { tokio::join!(serving, feeding) };
    let _ended = tokio::time::timeout(PATIENCE, both).await.expect("hyper ends");
    let (parts, body) = received.try_recv().ok()?;
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let headers = parts.headers.iter();
    Some(Message {
        first: vec![parts.method.as_str().to_owned(), target.to_owned()],
        headers: headers.map(|(n, v)| (n.as_str().to_owned(), v.as_bytes().to_vec())).collect(),
        body,
    })
}

fn our_answer(bytes: &[u8]) -> Option<Message> {
    let (message, body, end) = colonnade_http1::read(bytes, |head, end| {
        let headers = head.headers().map(|(n, v)| (n.to_lowercase(), v.to_vec())).collect();
        let message = Message { first: vec![head.status.to_string()], headers, body: Vec::new() };
        (message, head.body(false), end)
    })
    .ok()??;
    if message.first[0].starts_with('1') {
        return None;
    }
    Some(Message { body: whole_body(body, &bytes[end..], true)?, ..message })
}

async fn serve_bytes(mut server: DuplexStream, bytes: Vec<u8>) {
    let mut request = [0; 1024];
    let _read = server.read(&mut request).await;
    let _gone = server.write_all(&bytes).await;
    let _gone = server.shutdown().await;
}

async fn hypers_answer(bytes: &[u8]) -> Option<Message> {
    let (client, server) = tokio::io::duplex(1 << 20);
    let serving = serve_bytes(server, bytes.to_vec());
    let asking = async {
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(client)).await;
        let (mut send, connection) = shaken.expect("a duplex takes a connection");
        let request = hyper::Request::get("/").header("host", "h").body(Full::<Bytes>::default());
        let answered = async {
            let answer = send.send_request(request.expect("a request")).await.ok()?;
            let (parts, body) = answer.into_parts();
            Some((parts, body.collect().await.ok()?.to_bytes().to_vec()))
        };
        let (_ended, answer) = tokio::join!(connection, answered);
        answer
    };
    let both = async { tokio::join!(serving, asking).1 };
    let (parts, body) = tokio::time::timeout(PATIENCE, both).await.expect("hyper ends")?;
    let headers = parts.headers.iter();
    Some(Message {
        first: vec![parts.status.as_u16().to_string()],
        headers: headers.map(|(n, v)| (n.as_str().to_owned(), v.as_bytes().to_vec())).collect(),
        body,
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// What we have understood, hyper must have understood the same way.
fn agree(ours: &Message, hypers: Option<&Message>) -> Result<(), String> {
    let Some(hypers) = hypers else { return Err("hyper refuses it".to_owned()) };
    if ours.first != hypers.first || ours.body != hypers.body {
        return Err(format!("hyper understands {hypers:?}"));
    }
    match ours.headers.iter().find(|header| !hypers.headers.contains(header)) {
        Some((name, _)) => Err(format!("hyper sees another {name}: {:?}", hypers.headers)),
        None => Ok(()),
    }
}

#[test]
fn whoever_reads_a_framing_twice_is_refused_where_hyper_may_read_on() {
    for row in table("requests") {
        let bytes = unescape(&row.bytes);
        assert_eq!(our_request(&bytes), None, "{}", row.bytes);
        let accepts = block_on(hypers_request(&bytes)).is_some();
        assert_eq!(accepts, row.hyper_accepts, "{}", row.bytes);
    }
    for row in table("answers") {
        let bytes = unescape(&row.bytes);
        assert_eq!(our_answer(&bytes), None, "{}", row.bytes);
        let accepts = block_on(hypers_answer(&bytes)).is_some();
        assert_eq!(accepts, row.hyper_accepts, "{}", row.bytes);
    }
}

struct Row {
    bytes: String,
    hyper_accepts: bool,
}

/// The rows of one table of docs/http1.md: bytes in backticks, then whether hyper accepts them.
fn table(name: &str) -> Vec<Row> {
    let text = include_str!("../../../docs/http1.md");
    let section = text.split("\n## ").find(|section| section.to_lowercase().starts_with(name));
    let lines = section.expect("the section").lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<Row> = lines
        .map(|line| {
            let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
            let bytes = cells.next().expect("bytes").trim_matches('`').to_owned();
            let hyper_accepts = match cells.next().expect("what hyper does") {
                "accepts" => true,
                "refuses" => false,
                other => panic!("{other}: accepts or refuses"),
            };
            Row { bytes, hyper_accepts }
        })
        .collect();
    assert!(rows.len() > 3, "{name} has rows");
    rows
}

fn unescape(text: &str) -> Vec<u8> {
    let plain = text.replace("\\r", "\r").replace("\\n", "\n").replace("\\t", "\t");
    plain.replace("\\0", "\0").replace("\\x0b", "\x0b").into_bytes()
}

/// Header lines that frame, nearly frame, or have nothing to do with it.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let line = prop_oneof![
        3 => "[Xx]-[Aa]: {0,2}[ -~]{0,12}\r\n",
        3 => "[Cc]ontent-[Ll]ength: (0|1|5|12|007|5, 5|\\+5|5 5|0x5|)[ \t]{0,1}\r\n",
        3 => "[Tt]ransfer-[Ee]ncoding: ?(chunked|Chunked|gzip|identity|gzip, chunked|chunked, )\r\n",
        2 => "[Cc]onnection: (close|keep-alive|x-a|te, close|Upgrade)\r\n",
        1 => "[ \t]?[a-zA-Z \t:-]{0,9}:? ?[ -~]{0,9}(\r\n|\n|\r)",
        1 => "[ -~\t\r\n\u{0}\u{e9}]{0,20}\r\n",
        1 => "host: (h|i|a b)\r\n",
        1 => "expect: 100-continue\r\n",
    ];
    proptest::collection::vec(line, 0..4)
}

/// What stands behind a head: bodies of all framings, cut, changed, or something else.
fn bodies() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z]{0,14}",
        4 => "(5|005|5;a=b|5 )\r\nhello\r\n(0|00|0;x)\r\n(x-t: 1\r\n)?\r\n",
        2 => "[0-9a-f]{1,3}(;[ -~]{0,4})?\r?\n[ -~\r\n]{0,12}0\r\n\r\n",
        1 => "[ -~\r\n]{0,30}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn hyper_reads_every_request_that_we_accept_as_we_do(
        method in "(GET|POST|PUT|OPTIONS|G T|get)",
        target in "(/|/a\\?b=c|/a%2Fb|/a b|/_matrix/client/v3/sync)",
        version in "(1.1|1.1|1.1|1.0|2.0)",
        lines in lines(),
        body in bodies(),
    ) {
        let text = format!("{method} {target} HTTP/{version}\r\nhost: h\r\n{}\r\n{body}", lines.concat());
        if let Some(ours) = our_request(text.as_bytes()) {
            let hypers = block_on(hypers_request(text.as_bytes()));
            let agreed = agree(&ours, hypers.as_ref());
            prop_assert!(agreed.is_ok(), "{agreed:?} of {text:?}: we understand {ours:?}");
        }
    }

    #[test]
    fn hyper_reads_every_answer_that_we_accept_as_we_do(
        version in "(1.1|1.1|1.1|1.0|2.0)",
        status in "(200|200|404|500|99|1000|20x)",
        lines in lines(),
        body in bodies(),
    ) {
        let text = format!("HTTP/{version} {status} x\r\n{}\r\n{body}", lines.concat());
        if let Some(ours) = our_answer(text.as_bytes()) {
            let hypers = block_on(hypers_answer(text.as_bytes()));
            let agreed = agree(&ours, hypers.as_ref());
            prop_assert!(agreed.is_ok(), "{agreed:?} of {text:?}: we understand {ours:?}");
        }
    }

    #[test]
    fn a_body_is_the_same_however_its_bytes_arrive(
        body in bodies(),
        cuts in proptest::collection::vec(0usize..40, 0..6),
        framing in prop_oneof![
            Just(Framing::Chunked), (1u64..20).prop_map(Framing::Length), Just(Framing::Empty)
        ],
    ) {
        let bytes = body.as_bytes();
        let whole = whole_body(Body::from(framing), bytes, false);
        let mut pieces: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        pieces.extend([0, bytes.len()]);
        pieces.sort_unstable();
        let mut state = Body::from(framing);
        let mut data = Some(Vec::new());
        for pair in pieces.windows(2) {
            let mut input = &bytes[pair[0]..pair[1]];
            while let (Some(out), false, false) = (data.as_mut(), state.is_done(), input.is_empty()) {
                match state.next(input) {
                    Ok((taken, piece)) => {
                        out.extend_from_slice(piece);
                        input = &input[taken..];
                    }
                    Err(_) => data = None,
                }
            }
        }
        prop_assert_eq!(data.filter(|_| state.is_done()), whole);
    }
}

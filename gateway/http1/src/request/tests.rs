//! Heads: what is refused, what goes on, and that it does not matter how the bytes arrive.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<RequestHead, RequestError> {
    let mut scanner = Scanner::default();
    match scanner.scan(text.as_bytes()) {
        Scan::End(end) => RequestHead::parse(text.as_bytes()[..end].to_vec(), action),
        Scan::Loose => Err(RequestError::Malformed),
        Scan::More => panic!("no end: {text:?}"),
    }
}

fn action(name: &str) -> HeaderAction {
    match name.to_ascii_lowercase().as_str() {
        "x-written-anew" => HeaderAction::Drop,
        "traceparent" => HeaderAction::Trace,
        _ => HeaderAction::Pass,
    }
}

fn goes_on(head: &RequestHead, traces: bool) -> String {
    head.runs(traces).map(String::from_utf8_lossy).collect()
}

#[test]
fn one_framing_or_none() {
    let framings = [
        ("", Some(Framing::Empty)),
        ("content-length: 0\r\n", Some(Framing::Empty)),
        ("Content-Length: 12\r\n", Some(Framing::Length(12))),
        ("transfer-encoding: Chunked\r\n", Some(Framing::Chunked)),
        ("content-length: 1\r\ncontent-length: 1\r\n", None),
        ("content-length: 1, 1\r\n", None),
        ("content-length: +1\r\n", None),
        ("content-length: -1\r\n", None),
        ("content-length: 0x1\r\n", None),
        ("content-length: \r\n", None),
        ("content-length: 99999999999999999999\r\n", None),
        ("content-length: 1\r\ntransfer-encoding: chunked\r\n", None),
        ("transfer-encoding: chunked\r\ncontent-length: 1\r\n", None),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", None),
        ("transfer-encoding: gzip, chunked\r\n", None),
        ("transfer-encoding: chunked, identity\r\n", None),
        ("transfer-encoding: \x0bchunked\r\n", None),
        ("transfer-encoding: \"chunked\"\r\n", None),
        ("content-length : 1\r\n", None),
        (" content-length: 1\r\n", None),
        ("x: y\r\n content-length: 1\r\n", None),
        ("x: y\ncontent-length: 1\r\n", None),
        ("x: y\rcontent-length: 1\r\n", None),
        ("x: y\0\r\n", None),
        ("x\r\n", None),
        (": y\r\n", None),
    ];
    for (lines, framing) in framings {
        let parsed = parse(&format!("POST /a HTTP/1.1\r\nhost: h\r\n{lines}\r\n"));
        assert_eq!(parsed.as_ref().ok().map(|head| head.framing), framing, "{lines:?}");
    }
    assert!(parse("POST /a HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
}

#[test]
fn first_lines_that_are_none() {
    for line in [
        "GET /a",
        "GET  /a HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /a HTTP/1.1 ",
        "GET /a HTTP/2.0",
        "GET /a HTTP/0.9",
        "GET /a http/1.1",
        "GE T /a HTTP/1.1",
        "GET\t/a HTTP/1.1",
        " GET /a HTTP/1.1",
        "GET /a\0 HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        assert!(parse(&format!("{line}\r\nhost: h\r\n\r\n")).is_err(), "{line:?}");
    }
    let connect = parse("CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n").unwrap_err();
    assert_eq!(connect, RequestError::Connect);
    let many = "x: y\r\n".repeat(LINES_MAX);
    let many = parse(&format!("GET /a HTTP/1.1\r\nhost: h\r\n{many}\r\n")).unwrap_err();
    assert_eq!(many, RequestError::TooManyHeaders);
}

#[test]
fn one_authority_and_the_path_behind_it() {
    let targets = [
        ("/a?b", "h", Some("/a?b")),
        ("http://h/a%2F?b", "h", Some("/a%2F?b")),
        ("HTTP://h?b", "h", Some("?b")),
        ("http://h", "h", Some("")),
        ("https://h:1/", "h:1", Some("/")),
        ("http://i/a", "h", None),
        ("http://H/a", "h", None),
        ("http://u@h/a", "u@h", None),
        ("http:///a", "", None),
        ("http://h:x y/a", "h", None),
        ("/a", "u@h", None),
        ("/a", "", None),
        ("/a", "a b", None),
        ("/a", "a/b", None),
        ("/a", "[::1", None),
        ("/a", "[::1]:80", Some("/a")),
    ];
    for (target, host, path) in targets {
        let parsed = parse(&format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        assert_eq!(parsed.as_ref().ok().map(RequestHead::target), path, "{target} {host}");
    }
    let other = parse("GET ftp://h/a HTTP/1.1\r\nhost: h\r\n\r\n").unwrap_err();
    assert_eq!(other, RequestError::OtherScheme);
    assert!(parse("GET /a HTTP/1.1\r\nhost: h\r\nhost: h\r\n\r\n").is_err());
    assert!(parse("GET /a HTTP/1.1\r\nx: y\r\n\r\n").is_err());
    assert!(parse("GET http://h/a HTTP/1.1\r\nx: y\r\n\r\n").is_err(), "RFC 9112 §3.2");
    let old = parse("GET http://h/a HTTP/1.0\r\nx: y\r\n\r\n").unwrap();
    assert_eq!(old.missing_host(), Some(&b"h"[..]));
}

#[test]
fn what_belongs_to_the_connection_stays_here() {
    let head = parse(
        "GET /a HTTP/1.1\r\nHost: h\r\nA:  1 \r\nConnection: keep-alive, X-Own, host\r\n\
         keep-alive: 3\r\nx-own: 1\r\nproxy-connection: x\r\nte: trailers\r\ntrailer: t\r\n\
         upgrade: h2c\r\nhttp2-settings: x\r\nx-written-anew: r\r\ntraceparent: t\r\nB: 2\r\n\r\n",
    )
    .unwrap();
    assert_eq!(goes_on(&head, false), "Host: h\r\nA:  1 \r\nB: 2\r\n");
    assert_eq!(goes_on(&head, true), "Host: h\r\nA:  1 \r\ntraceparent: t\r\nB: 2\r\n");
    assert!(!head.upgrade);
    assert_eq!(head.header("x-written-anew"), Some(&b"r"[..]));
    assert_eq!(head.header("a"), Some(&b"1"[..]));
}

#[test]
fn only_a_plain_get_may_switch_protocols() {
    let asks = "connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n";
    let whether = |first: &str, lines: &str| {
        parse(&format!("{first}\r\nhost: h\r\n{lines}\r\n")).unwrap().upgrade
    };
    assert!(whether("GET /a HTTP/1.1", asks));
    assert!(!whether("GET /a HTTP/1.0", asks));
    assert!(!whether("POST /a HTTP/1.1", asks));
    assert!(!whether("GET /a HTTP/1.1", &format!("{asks}content-length: 4\r\n")));
    assert!(!whether("GET /a HTTP/1.1", "upgrade: websocket\r\n"));
    assert!(!whether("GET /a HTTP/1.1", "connection: upgrade\r\nupgrade: h2c\r\n"));
}

#[test]
fn whether_the_connection_stays() {
    let stays = |version: &str, lines: &str| {
        parse(&format!("GET /a HTTP/1.{version}\r\nhost: h\r\n{lines}\r\n")).unwrap().keep_alive
    };
    assert!(stays("1", ""));
    assert!(!stays("1", "connection: foo, Close\r\n"));
    assert!(!stays("0", ""));
    assert!(stays("0", "connection: Keep-Alive\r\n"));
    assert!(!stays("0", "connection: keep-alive\r\nconnection: close\r\n"));
}

proptest! {
    #[test]
    fn nothing_panics_and_every_head_that_goes_on_is_made_of_whole_lines(
        lines in proptest::collection::vec("[ -~\t\r\n]{0,30}", 0..6),
    ) {
        let text = format!("GET /a HTTP/1.1\r\nhost: h\r\n{}\r\n\r\n", lines.join("\r\n"));
        let mut scanner = Scanner::default();
        if let Scan::End(end) = scanner.scan(text.as_bytes())
            && let Ok(head) = RequestHead::parse(text.as_bytes()[..end].to_vec(), action)
        {
            let out = goes_on(&head, true);
            prop_assert!(out.ends_with("\r\n"));
            for line in out.strip_suffix("\r\n").unwrap_or_default().split("\r\n") {
                prop_assert!(line.contains(':') && !line.contains(['\r', '\n']), "{line:?}");
            }
        }
    }

    #[test]
    fn the_end_is_found_however_the_bytes_arrive(
        text in "[ab: \r\n]{0,40}",
        cuts in proptest::collection::vec(0usize..40, 0..5),
    ) {
        let bytes = text.as_bytes();
        let whole = Scanner::default().scan(bytes);
        let mut scanner = Scanner::default();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let found = cuts.iter().map(|cut| scanner.scan(&bytes[..*cut])).find(|s| *s != Scan::More);
        prop_assert_eq!(found.unwrap_or(Scan::More), whole);
    }
}

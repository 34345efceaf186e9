//! Workers' heads: what is understood, and what is refused.

use super::*;

fn framing(lines: &str) -> Result<Option<Body>, BadAnswer> {
    let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
    read(text.as_bytes(), |head, length| {
        assert_eq!(length, text.len());
        head.body(false)
    })
}

#[test]
fn one_framing() {
    assert_eq!(framing(""), Ok(Some(Body::UntilClose)));
    assert_eq!(framing("content-length: 0\r\n"), Ok(Some(Body::Done)));
    assert_eq!(framing("Content-Length: 5\r\n"), Ok(Some(Body::Length(5))));
    assert_eq!(framing("transfer-encoding: chunked\r\n"), Ok(Some(Body::chunked())));
    for lines in [
        "content-length: 2\r\ncontent-length: 3\r\n",
        "content-length: x\r\n",
        "content-length: 2\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "a : b\r\n",
        "a: b\r\n c\r\n",
    ] {
        assert_eq!(framing(lines), Err(BadAnswer), "{lines:?}");
    }
    let old = b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(read(old, |_, _| ()), Err(BadAnswer));
}

#[test]
fn no_body_where_none_can_be() {
    for (status, bodiless, body) in [
        (200, false, Body::Length(5)),
        (200, true, Body::Done),
        (204, false, Body::Done),
        (304, false, Body::Done),
    ] {
        let text = format!("HTTP/1.1 {status} x\r\ncontent-length: 5\r\n\r\n");
        assert_eq!(read(text.as_bytes(), |head, _| head.body(bodiless)), Ok(Some(body)));
    }
}

#[test]
fn what_is_not_whole_is_waited_for_and_what_has_no_end_is_not() {
    assert_eq!(read(b"HTTP/1.1 200 OK\r\ncontent-le", |_, _| ()), Ok(None));
    assert_eq!(read(b"SSH-2.0-x\r\n", |_, _| ()), Err(BadAnswer));
    assert_eq!(read(b"HTTP/1.1 99 x\r\n\r\n", |_, _| ()), Err(BadAnswer));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
    assert_eq!(read(long.as_bytes(), |_, _| ()), Err(BadAnswer));
    let many = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(LINES_MAX + 1));
    assert_eq!(read(many.as_bytes(), |_, _| ()), Err(BadAnswer));
}

#[test]
fn whether_the_workers_connection_stays() {
    for (text, stays) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\n", false),
    ] {
        assert_eq!(read(text.as_bytes(), |head, _| head.keep_alive), Ok(Some(stays)), "{text}");
    }
}

#[test]
fn what_connection_names_is_the_connections_own() {
    let text = "HTTP/1.1 200 OK\r\nconnection: X-Hop, close, content-length\r\nx-hop: 1\r\n\
         x-stays: 2\r\ncontent-length: 0\r\n\r\n";
    let names = read(text.as_bytes(), |head, _| {
        head.headers().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(names.unwrap().unwrap(), ["x-stays", "content-length"]);
}

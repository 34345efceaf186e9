//! Bodies of several parts, whole and cut wherever they can be cut.

use futures_util::stream;

use super::*;

/// Reads all parts of a body that comes in pieces of `step` bytes: their types, and what is in them.
async fn parts(kind: &str, body: &[u8], step: usize) -> Option<Vec<(String, Vec<u8>)>> {
    let pieces: Vec<_> = body.chunks(step).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let mut read = Multipart::new(kind, stream::iter(pieces))?;
    let mut parts = Vec::new();
    while let Some(headers) = read.part().await.ok()? {
        let kind = headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
        let mut whole = Vec::new();
        while let Some(piece) = read.piece().await.ok()? {
            whole.extend_from_slice(&piece);
        }
        parts.push((kind.to_owned(), whole));
    }
    Some(parts)
}

#[tokio::test]
async fn parts_are_read_however_they_are_cut() {
    let body = b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b  \r\ncontent-type: image/png\r\n\
        Content-Disposition: inline\r\n\r\nab\r\n--\r\n-b\r\n\r\n--b\r\n\r\nplain\r\n--b--\r\nafter";
    let expected = [
        ("application/json".to_owned(), b"{}".to_vec()),
        ("image/png".to_owned(), b"ab\r\n--\r\n-b\r\n".to_vec()),
        (String::new(), b"plain".to_vec()),
    ];
    for step in 1..=body.len() {
        let read = parts("multipart/mixed; boundary=b", body, step).await.unwrap();
        assert_eq!(read, expected, "pieces of {step} bytes");
        let before = [b"a preamble\r\n", &body[..]].concat();
        let read = parts("Multipart/Mixed; charset=\"a;b\"; Boundary=\"b\"", &before, step).await;
        assert_eq!(read.unwrap(), expected, "pieces of {step} bytes");
    }
}

#[tokio::test]
async fn what_has_no_parts_or_does_not_end_is_refused() {
    for kind in ["text/plain; boundary=b", "multipart/mixed", "multipart/mixed; boundary="] {
        assert!(parts(kind, b"--b--", 9).await.is_none(), "{kind}");
    }
    let kind = "multipart/mixed; boundary=b";
    for body in ["", "--", "--b\r\n", "--b\r\n\r\nno end", "--b\r\n\r\nno end\r\n--", "none at all"]
    {
        assert!(parts(kind, body.as_bytes(), 5).await.is_none(), "{body}");
    }
    let long = format!("--b\r\nx: {}\r\n\r\n\r\n--b--", "y".repeat(2 * HEAD_BYTES_MAX));
    assert!(parts(kind, long.as_bytes(), 4096).await.is_none());
}

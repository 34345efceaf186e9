//! Bytes from a client, read by the crate of HTTP/1 in two ways: whole, and byte for byte. Both must agree, and
//! what is passed on must be whole lines.
#![no_main]

use colonnade_http1::{Body, HeaderAction, RequestHead, Scan, Scanner};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = Scanner::default().scan(bytes);
    let mut scanner = Scanner::default();
    let steps = (0..=bytes.len()).map(|end| scanner.scan(&bytes[..end]));
    let stepwise = steps.into_iter().find(|scan| *scan != Scan::More).unwrap_or(Scan::More);
    assert_eq!(stepwise, whole);
    let Scan::End(end) = whole else { return };
    let Ok(head) = RequestHead::parse(bytes[..end].to_vec(), |_| HeaderAction::Pass) else { return };
    for run in head.runs(true) {
        assert!(run.ends_with(b"\r\n"));
        for line in run[..run.len() - 2].split(|byte| *byte == b'\n') {
            assert!(line.contains(&b':') && !line.starts_with(b" "));
        }
    }
    let (mut body, mut input, mut data) = (Body::from(head.framing), &bytes[end..], Vec::new());
    let mut failed = false;
    while !body.is_done() && !input.is_empty() {
        match body.next(input) {
            Ok((taken, piece)) => {
                assert!(taken > 0 && piece.len() <= taken);
                data.extend_from_slice(piece);
                input = &input[taken..];
            }
            Err(_) => {
                failed = true;
                break;
            }
        }
    }
    let (mut again, mut bytewise, mut failed_again) = (Body::from(head.framing), Vec::new(), false);
    for byte in bytes[end..].chunks(1) {
        if again.is_done() {
            break;
        }
        match again.next(byte) {
            Ok((_, piece)) => bytewise.extend_from_slice(piece),
            Err(_) => {
                failed_again = true;
                break;
            }
        }
    }
    assert_eq!((failed, data, body.is_done()), (failed_again, bytewise, again.is_done()));
});

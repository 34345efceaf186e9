//! Bytes from a worker, read by the crate of HTTP/1: what is understood says the same again when it is written
//! and read once more.
#![no_main]

use colonnade_http1::{AnswerFraming, end_head, header, read, status_line};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let understood = read(bytes, |head, end| {
        assert!(end <= bytes.len());
        let mut again = Vec::new();
        status_line(&mut again, head.status, head.reason());
        let headers: Vec<(String, Vec<u8>)> =
            head.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        headers.iter().for_each(|(name, value)| header(&mut again, name, value));
        end_head(&mut again, AnswerFraming { http11: true, last: false, bodiless: false });
        (again, head.status, headers, head.has_body(false))
    });
    let Ok(Some((again, status, headers, has_body))) = understood else { return };
    let repeated = read(&again, |head, end| {
        assert_eq!(end, again.len());
        let same: Vec<(String, Vec<u8>)> =
            head.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        assert_eq!(same, headers);
        assert_eq!((head.status, head.has_body(false)), (status, has_body));
    });
    assert!(matches!(repeated, Ok(Some(()))));
});

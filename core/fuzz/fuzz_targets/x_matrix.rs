//! Any bytes as an `Authorization` header of another server: refused or read, and what was read is written so that
//! it is read the same.

#![no_main]

use colonnade_federation::transport::authorization::XMatrix;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(Some(read)) = XMatrix::parse(text) else { return };
    // What our own quoting cannot carry is nothing that we write.
    if [&read.key_id, &read.signature].iter().any(|text| text.contains(['"', '\\'])) {
        return;
    }
    let again = XMatrix::parse(&read.to_header()).expect("our own header").expect("of the scheme");
    assert_eq!(again, read);
});

//! Any bytes on a connection to a gateway that runs, in front of a worker that reads strictly: no panic,
//! nothing but whole answers for the client, and no request reaches the worker that the gateway did
//! not make.
#![no_main]

use std::sync::LazyLock;

use colonnade_gateway::Running;
use colonnade_gateway_fuzz::{assert_serves, start, talk};
use libfuzzer_sys::fuzz_target;

static GATEWAY: LazyLock<Running> = LazyLock::new(|| start(""));

fuzz_target!(|input: &[u8]| {
    // An upgraded connection is the worker's and the client's own.
    if input.windows(7).any(|word| word.eq_ignore_ascii_case(b"upgrade")) {
        return;
    }
    let answers = talk(GATEWAY.addrs()[0], input);
    assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."), "{answers:?}");
    assert_serves(&GATEWAY);
});

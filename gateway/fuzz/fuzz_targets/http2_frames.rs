//! Frames of HTTP/2 in any order and with any content, to a gateway that runs, in front of a worker that
//! reads strictly: no panic, the gateway writes whole frames, it serves others afterwards, and no request
//! reaches the worker that the gateway did not make.
#![no_main]

use std::sync::{Arc, LazyLock};

use colonnade_gateway::Running;
use colonnade_gateway_fuzz::{assert_serves, start};
use libfuzzer_sys::fuzz_target;
use rustls::ClientConfig;

#[path = "../../tests/it/frames.rs"]
mod frames;
#[path = "../../tests/it/trusting.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod trusting;

const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/it/certificates");

static GATEWAY: LazyLock<Running> = LazyLock::new(|| {
    start(&format!(
        ", {{ name: t, bind: \"127.0.0.1:0\", tls: {{ certificates: [\
         {{ cert: \"{CERTIFICATES}/one.crt\", key: \"{CERTIFICATES}/one.key\" }}] }} }}"
    ))
});

static CLIENT: LazyLock<Arc<ClientConfig>> =
    LazyLock::new(|| Arc::new(Arc::new(trusting::Trusting::default()).client(&[b"h2"])));

fuzz_target!(|input: &[u8]| {
    if let Some(mut wire) = frames::Wire::open(GATEWAY.addrs()[1], &CLIENT) {
        let _closed = frames::play(&mut wire, input);
    }
    assert_serves(&GATEWAY);
});

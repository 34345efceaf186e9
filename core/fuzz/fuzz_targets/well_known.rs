//! Any bytes as what other servers say of where they are and which keys they have: a well-known file, published
//! keys. Refused, or a name and keys that can be used.

#![no_main]

use colonnade_federation::{keys::read_published, transport::read_well_known};
use colonnade_model::ruma::{CanonicalJsonObject, server_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(server) = read_well_known(bytes) {
        let _ = (server.host(), server.port(), server.is_ip_literal());
    }
    let Ok(object) = serde_json::from_slice::<CanonicalJsonObject>(bytes) else { return };
    if let Ok(published) = read_published(&object, server_name!("a.example"), 1_000) {
        assert!(published.keys.iter().all(|key| key.public_key.len() == 32));
    }
});

//! Any bytes as the content of an event: refused, or the same after another round.

#![no_main]

use colonnade_rules::event::content_from_json;
use libfuzzer_sys::fuzz_target;
use serde_json::value::{RawValue, to_raw_value};

fuzz_target!(|bytes: &[u8]| {
    let Ok(json) = serde_json::from_slice::<&RawValue>(bytes) else { return };
    let Ok(content) = content_from_json(json) else { return };
    let canonical = to_raw_value(&content).expect("canonical JSON is JSON");
    let again = content_from_json(&canonical).expect("canonical JSON is accepted");
    assert_eq!(content, again);
    let second = to_raw_value(&again).expect("canonical JSON is JSON");
    assert_eq!(canonical.get(), second.get());
});

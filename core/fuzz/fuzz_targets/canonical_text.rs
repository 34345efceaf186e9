//! Any text as JSON that another server signed: its canonical form is what the library makes of what that takes,
//! and is its own canonical form.

#![no_main]

use colonnade_federation::transport::canonical;
use colonnade_model::ruma::CanonicalJsonValue;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let ours = canonical(text);
    if let Ok(known) = serde_json::from_str::<CanonicalJsonValue>(text) {
        assert_eq!(ours.as_deref(), Ok(known.to_string().as_str()));
    }
    let Ok(ours) = ours else { return };
    assert_eq!(canonical(&ours).as_ref(), Ok(&ours));
});

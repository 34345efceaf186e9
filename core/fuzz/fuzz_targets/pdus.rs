//! Any text as a PDU of every room version: refused, or an event that reads back as itself; and whoever has no keys
//! believes none of it.

#![no_main]

use colonnade_federation::pdu::{Pdu, Refused};
use colonnade_model::{ruma::ServerName, versions::SUPPORTED};
use colonnade_rules::{event::Event, order::by_auth_events};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for version in SUPPORTED {
        let rules = version.rules().expect("a known version");
        let Ok(pdu) = Pdu::read(text, &rules) else { continue };
        let event = pdu.claimed();
        let again = Pdu::read(event.json(), &rules).expect("what passed passes again");
        assert_eq!(again.event_id(), event.event_id());
        assert_eq!(again.claimed().json(), event.json());
        let id = event.event_id().to_owned();
        let stored = Event::from_stored(event.json().as_bytes().to_vec(), id, &rules, false);
        let stored = stored.expect("what passed can be stored");
        let redacted = stored.redacted(&rules).expect("what passed can be redacted");
        let left = Pdu::read(redacted.json(), &rules);
        // A redacted invite by a third-party id may need a signature it never had.
        assert!(left.as_ref().map_or(true, |left| left.event_id() == event.event_id()));
        let _ = stored.reference(&rules);
        let order = by_auth_events([event]);
        assert!(order.order.len() + order.in_circles.len() == 1);
        let needs_keys = !pdu.required_keys().is_empty();
        let checked = pdu.check(&|_: &ServerName, _: &str| None);
        assert!(!needs_keys || matches!(checked, Err(Refused::KeyUnknown(_))));
    }
});

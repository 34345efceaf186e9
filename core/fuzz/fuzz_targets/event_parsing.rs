//! Any bytes as an event of any supported room version, from outside and from storage, and
//! everything that looks at an event afterwards.

#![no_main]

use colonnade_model::{ruma::OwnedEventId, versions::SUPPORTED};
use colonnade_rules::{
    auth::{check_by_auth_events, check_by_state, state_keys_to_check},
    event::{ClientFormat, Event, EventObject},
    push::{Evaluator, named_users},
    visibility::Visibility,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for version in SUPPORTED {
        let rules = version.rules().expect("a known version");
        let id = OwnedEventId::try_from("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let id = id.expect("an event id");
        let stored = Event::from_stored(bytes.to_vec(), id, &rules, false);
        let object = std::str::from_utf8(bytes).ok().map(|text| EventObject::parse(text, &rules));
        let parsed = object.map(|object| Event::parse(&object?, &rules));
        for event in [Some(stored), parsed].into_iter().flatten().flatten() {
            let _ = event.to_client(ClientFormat::WithRoom, None);
            let _ = event.to_client(ClientFormat::Stripped, None);
            let _ = event.membership();
            let _ = event.redacted(&rules);
            let _ = Visibility::of(Some(&event));
            let _ = named_users(&event);
            let _ = Evaluator::new(&event, 2, None).class_zero().notify();
            let rules = &rules.authorization;
            let kind = event.event_type();
            let (state_key, content) = (event.state_key(), event.content());
            let _ = state_keys_to_check(kind, event.sender(), state_key, content, rules);
            let _ = check_by_auth_events(&event, rules, |_| None);
            let event = std::sync::Arc::new(event);
            // The event as all the state there is.
            let _ = check_by_state(&event, rules, |_, _| Some(event.clone()));
        }
    }
});

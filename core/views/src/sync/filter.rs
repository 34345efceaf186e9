//! What a client wants to see: the matching half of filters. Parsing is ruma's; storing is
//! `account_data`'s.
//!
//! Source: Matrix v1.19, client-server, "Filtering".

use colonnade_model::ruma::{
    RoomId, UserId,
    api::client::filter::{Filter, LazyLoadOptions, RoomEventFilter, UrlFilter},
};
use colonnade_rules::event::{Event, relation::RelatesTo};

/// Tells whether a room event passes a filter, by its room, too.
pub fn wants(filter: &RoomEventFilter, event: &Event) -> bool {
    if !wants_room(filter, event.room_id()) {
        return false;
    }
    let event_type = event.event_type().to_string();
    let passes = passes_type(&filter.not_types, filter.types.as_deref(), &event_type);
    let sender = event.sender();
    passes
        && !filter.not_senders.iter().any(|user| user == sender)
        && filter.senders.as_ref().is_none_or(|users| users.iter().any(|user| user == sender))
        && match filter.url_filter {
            None => true,
            Some(UrlFilter::EventsWithUrl) => has_url(event),
            Some(UrlFilter::EventsWithoutUrl) => !has_url(event),
        }
}

/// Which relations to others events are to have, or not; `None` stands for events without one.
///
/// Source: MSC3874.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub struct Relations {
    /// Those that pass; all if it is not said.
    #[serde(alias = "org.matrix.msc3874.rel_types")]
    rel_types: Option<Vec<Option<String>>>,
    /// Those that do not.
    #[serde(default, alias = "org.matrix.msc3874.not_rel_types")]
    not_rel_types: Option<Vec<Option<String>>>,
}

impl Relations {
    /// Tells whether an event passes.
    pub fn want(&self, event: &Event) -> bool {
        if self.rel_types.is_none() && self.not_rel_types.is_none() {
            return true;
        }
        let relation = RelatesTo::of(event).map(|relation| relation.rel_type);
        let names = |list: &Vec<Option<String>>| list.contains(&relation);
        self.rel_types.as_ref().is_none_or(names) && !self.not_rel_types.as_ref().is_some_and(names)
    }
}

/// Tells whether something that is not a room event (account data, presence) passes a filter.
pub fn wants_plain(filter: &Filter, event_type: &str, sender: Option<&UserId>) -> bool {
    let passes = passes_type(&filter.not_types, filter.types.as_deref(), event_type);
    let Some(sender) = sender else { return passes };
    passes
        && !filter.not_senders.iter().any(|user| user == sender)
        && filter.senders.as_ref().is_none_or(|users| users.iter().any(|user| user == sender))
}

/// Tells whether a type passes the two lists; for what is only a type, as receipts are.
pub fn wants_type(filter: &RoomEventFilter, event_type: &str) -> bool {
    passes_type(&filter.not_types, filter.types.as_deref(), event_type)
}

/// Tells whether a filter for a part of rooms lets anything of this room pass.
pub fn wants_room(filter: &RoomEventFilter, room_id: &RoomId) -> bool {
    !filter.not_rooms.iter().any(|room| room == room_id)
        && filter.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|room| room == room_id))
}

/// Tells whether members are to be loaded lazily.
pub fn lazy_loads(filter: &RoomEventFilter) -> bool {
    matches!(filter.lazy_load_options, LazyLoadOptions::Enabled { .. })
}

/// Tells whether lazily loaded members may be sent again.
pub fn repeats_members(filter: &RoomEventFilter) -> bool {
    matches!(filter.lazy_load_options, LazyLoadOptions::Enabled { include_redundant_members: true })
}

fn passes_type(not_types: &[String], types: Option<&[String]>, event_type: &str) -> bool {
    let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, event_type));
    !any(not_types) && types.is_none_or(any)
}

/// Matches a pattern in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn has_url(event: &Event) -> bool {
    #[derive(serde::Deserialize)]
    struct Content {
        url: Option<serde::de::IgnoredAny>,
    }
    event.content_as::<Content>().is_ok_and(|content| content.url.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("m.room.message", "m.room.message", true),
            ("m.room.message", "m.room.messages", false),
            ("m.room.*", "m.room.name", true),
            ("*", "", true),
            ("*.name", "m.room.name", true),
            ("m.*.name", "m.room.name", true),
            ("m.*.name", "m.name", false),
            ("m.*o*m.*", "m.room.name", true),
            ("", "m", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
    fn message(content: serde_json::Value) -> Event {
        colonnade_testkit_rooms::event("m.room.message", None, content)
    }

    fn room_filter(filter: serde_json::Value) -> RoomEventFilter {
        serde_json::from_value(filter).unwrap()
    }

    #[test]
    fn an_event_passes_by_its_type_its_sender_and_its_room() {
        let event = message(json!({}));
        for (filter, expected) in [
            (json!({}), true),
            (json!({ "types": ["m.room.*"] }), true),
            (json!({ "types": [] }), false),
            (json!({ "types": ["m.room.name"] }), false),
            // What is named in both lists does not pass.
            (json!({ "types": ["*"], "not_types": ["m.room.message"] }), false),
            (json!({ "senders": ["@alice:localhost"] }), true),
            (json!({ "senders": ["@bob:localhost"] }), false),
            (json!({ "senders": [] }), false),
            (
                json!({ "senders": ["@alice:localhost"], "not_senders": ["@alice:localhost"] }),
                false,
            ),
            (json!({ "rooms": ["!room:localhost"] }), true),
            (json!({ "rooms": [] }), false),
            (json!({ "rooms": ["!room:localhost"], "not_rooms": ["!room:localhost"] }), false),
            (json!({ "not_rooms": ["!other:localhost"] }), true),
        ] {
            assert_eq!(wants(&room_filter(filter.clone()), &event), expected, "{filter}");
        }
    }

    #[test]
    fn an_event_passes_by_its_relation() {
        let thread = json!({ "m.relates_to": { "rel_type": "m.thread", "event_id": "$a" } });
        let (thread, plain) = (message(thread), message(json!({ "m.relates_to": 5 })));
        for (filter, of_thread, of_plain) in [
            (json!({}), true, true),
            (json!({ "rel_types": ["m.thread"] }), true, false),
            (json!({ "org.matrix.msc3874.rel_types": ["m.thread"] }), true, false),
            (json!({ "rel_types": ["m.reference", null] }), false, true),
            (json!({ "rel_types": [] }), false, false),
            (json!({ "not_rel_types": ["m.thread"] }), false, true),
            (json!({ "org.matrix.msc3874.not_rel_types": [null] }), true, false),
            (json!({ "rel_types": ["m.thread"], "not_rel_types": ["m.thread"] }), false, false),
        ] {
            let read: Relations = serde_json::from_value(filter.clone()).unwrap();
            assert_eq!((read.want(&thread), read.want(&plain)), (of_thread, of_plain), "{filter}");
        }
    }

    #[test]
    fn a_url_is_a_key_of_the_content_that_has_a_value() {
        let (with, without) = (
            room_filter(json!({ "contains_url": true })),
            room_filter(json!({ "contains_url": false })),
        );
        for (content, has) in [
            (json!({ "url": "mxc://a/b" }), true),
            (json!({ "url": 5 }), true),
            (json!({ "body": "url" }), false),
            (json!({ "info": { "url": "mxc://a/b" } }), false),
        ] {
            let event = message(content.clone());
            assert_eq!((wants(&with, &event), wants(&without, &event)), (has, !has), "{content}");
        }
    }

    #[test]
    fn what_is_no_event_of_a_room_passes_by_type_and_sender() {
        let filter = |filter: serde_json::Value| serde_json::from_value::<Filter>(filter).unwrap();
        let alice: &UserId = "@alice:localhost".try_into().unwrap();
        let by_alice = filter(json!({ "senders": ["@alice:localhost"], "types": ["m.*"] }));
        assert!(wants_plain(&by_alice, "m.presence", Some(alice)));
        assert!(!wants_plain(&by_alice, "org.presence", Some(alice)));
        let bob: &UserId = "@bob:localhost".try_into().unwrap();
        assert!(!wants_plain(&by_alice, "m.presence", Some(bob)));
        // Account data has no sender: lists of senders say nothing about it.
        assert!(wants_plain(&by_alice, "m.direct", None));
        let not_alice = filter(json!({ "not_senders": ["@alice:localhost"] }));
        assert!(!wants_plain(&not_alice, "m.presence", Some(alice)));
    }

    #[test]
    fn members_are_loaded_lazily_and_again_only_where_asked_for() {
        for (filter, lazily, again) in [
            (json!({}), false, false),
            (json!({ "lazy_load_members": true }), true, false),
            (json!({ "lazy_load_members": true, "include_redundant_members": true }), true, true),
            (json!({ "include_redundant_members": true }), false, false),
        ] {
            let read = room_filter(filter.clone());
            assert_eq!((lazy_loads(&read), repeats_members(&read)), (lazily, again), "{filter}");
        }
    }
}

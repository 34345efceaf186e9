//! The fields of the federation format that an [`Event`](super::Event) is read from, whatever the room version.

use std::fmt;

use colonnade_model::ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId,
    events::TimelineEventType,
};
use serde::{
    Deserialize,
    de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    pub(super) room_id: Option<OwnedRoomId>,
    pub(super) sender: OwnedUserId,
    #[serde(rename = "type")]
    pub(super) event_type: TimelineEventType,
    pub(super) state_key: Option<String>,
    #[serde(borrow)]
    pub(super) content: &'a RawValue,
    pub(super) origin_server_ts: MilliSecondsSinceUnixEpoch,
    pub(super) depth: u64,
    pub(super) prev_events: Vec<ReferenceId>,
    pub(super) auth_events: Vec<ReferenceId>,
    #[serde(default, borrow)]
    pub(super) redacts: Option<&'a RawValue>,
}

/// The id by which an event names another. Room versions 1 and 2 write a hash beside it, which nothing
/// is decided by: the signature of the event that is named says more.
pub(super) struct ReferenceId(pub(super) OwnedEventId);

impl<'de> Deserialize<'de> for ReferenceId {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = ReferenceId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event id, or an event id and its hashes")
            }

            fn visit_str<E: Error>(self, id: &str) -> Result<ReferenceId, E> {
                EventId::parse(id).map(ReferenceId).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<ReferenceId, A::Error> {
                let id = pair.next_element::<OwnedEventId>()?;
                pair.next_element::<IgnoredAny>()?;
                let id = id.ok_or_else(|| A::Error::custom("a reference without an event id"))?;
                match pair.next_element::<IgnoredAny>()? {
                    None => Ok(ReferenceId(id)),
                    Some(_) => Err(A::Error::custom("a reference with more than an id and hashes")),
                }
            }
        }
        reader.deserialize_any(Reading)
    }
}

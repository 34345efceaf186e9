//! An answer, in the words of either dialect.

use std::collections::BTreeMap;

use colonnade_model::{
    ruma::{OwnedEventId, OwnedRoomId, OwnedUserId},
    stream::Position,
};
use colonnade_rooms::Result;
use serde::Serialize;
use serde_json::value::RawValue;

use super::request::Dialect;
use crate::sync::writer::text;

/// A room in an answer. What is `None` has not changed, or is not there in one that is `initial`.
#[derive(Default)]
pub(super) struct RoomAnswer {
    /// The client has nothing of the room, or shall forget what it has.
    pub(super) initial: bool,
    /// Some of the events the client may have had before.
    pub(super) expanded: bool,
    pub(super) name: Option<Option<String>>,
    pub(super) avatar: Option<Option<String>>,
    pub(super) heroes: Option<Vec<Hero>>,
    pub(super) is_dm: Option<bool>,
    pub(super) required_state: Vec<Box<RawValue>>,
    /// State that is not there any more.
    pub(super) gone: Vec<(String, String)>,
    pub(super) timeline: Option<Timeline>,
    pub(super) joined: Option<i64>,
    pub(super) invited: Option<i64>,
    /// Events that notify, and those that highlight.
    pub(super) unread: Option<(i64, i64)>,
    /// These are others than were told, though nothing was said: the user has read.
    pub(super) has_read: bool,
    pub(super) bump_stamp: Option<Position>,
    pub(super) stripped: Option<Vec<Box<RawValue>>>,
    pub(super) membership: String,
    pub(super) lists: Vec<String>,
}

/// What was said in a room.
pub(super) struct Timeline {
    /// The events, oldest first, and what they are called.
    pub(super) events: Vec<Box<RawValue>>,
    pub(super) ids: Vec<OwnedEventId>,
    pub(super) limited: bool,
    pub(super) prev_batch: Option<String>,
    /// How many of them, the last ones, happened since the last answer.
    pub(super) live: usize,
}

/// Whom a room without a name is named after.
#[derive(Serialize)]
pub(super) struct Hero {
    pub(super) user_id: OwnedUserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) displayname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) avatar_url: Option<String>,
}

/// State that is not there any more.
#[derive(Serialize)]
struct Stub<'a> {
    r#type: &'a str,
    state_key: &'a str,
}

/// The fields of an object.
#[derive(Default, Serialize)]
#[serde(transparent)]
struct Fields(BTreeMap<&'static str, Box<RawValue>>);

impl Fields {
    fn put<T: Serialize>(&mut self, name: &'static str, value: &T) -> Result<()> {
        self.0.insert(name, raw(value)?);
        Ok(())
    }

    fn put_some<T: Serialize>(&mut self, name: &'static str, value: Option<&T>) -> Result<()> {
        value.map_or(Ok(()), |value| self.put(name, value))
    }
}

impl RoomAnswer {
    /// Tells whether it has anything that a client wants to be woken for.
    pub(super) fn says_something(&self) -> bool {
        self.initial
            || self.expanded
            || self.name.is_some()
            || self.avatar.is_some()
            || self.is_dm.is_some()
            || self.has_read
            || self.stripped.is_some()
            || !self.required_state.is_empty()
            || !self.gone.is_empty()
            || self.timeline.as_ref().is_some_and(|said| !said.events.is_empty() || said.limited)
    }

    /// Renders it.
    pub(super) fn rendered(self, dialect: Dialect) -> Result<Box<RawValue>> {
        let is_v4 = dialect == Dialect::V4;
        let word = |unstable, v4| if is_v4 { v4 } else { unstable };
        let mut fields = Fields::default();
        fields.put_some("initial", self.initial.then_some(&true))?;
        let expanded = word("unstable_expanded_timeline", "expanded_timeline");
        fields.put_some(expanded, self.expanded.then_some(&true))?;
        fields.put_some("name", self.name.as_ref())?;
        fields.put_some("avatar", self.avatar.as_ref())?;
        fields.put_some("heroes", self.heroes.as_ref())?;
        fields.put_some("is_dm", self.is_dm.as_ref())?;
        let mut state = self.required_state;
        if is_v4 {
            for (event_type, state_key) in &self.gone {
                state.push(raw(&Stub { r#type: event_type, state_key })?);
            }
        }
        fields.put_some("required_state", (!state.is_empty()).then_some(&state))?;
        if let Some(said) = &self.timeline {
            fields.put(word("timeline", "timeline_events"), &said.events)?;
            fields.put("limited", &said.limited)?;
            fields.put("num_live", &said.live)?;
            fields.put_some("prev_batch", said.prev_batch.as_ref())?;
        }
        fields.put_some("joined_count", self.joined.as_ref())?;
        fields.put_some("invited_count", self.invited.as_ref())?;
        if let Some((notify, highlight)) = self.unread {
            fields.put("notification_count", &notify)?;
            fields.put("highlight_count", &highlight)?;
        }
        fields.put_some("bump_stamp", self.bump_stamp.as_ref())?;
        fields.put_some(word("invite_state", "stripped_state"), self.stripped.as_ref())?;
        if is_v4 {
            fields.put("membership", &self.membership)?;
            fields.put_some("lists", (!self.lists.is_empty()).then_some(&self.lists))?;
        }
        raw(&fields)
    }
}

/// A whole answer.
#[derive(Serialize)]
pub(super) struct Whole<'a> {
    pub(super) pos: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) txn_id: Option<&'a str>,
    pub(super) lists: BTreeMap<String, Count>,
    pub(super) rooms: BTreeMap<OwnedRoomId, Box<RawValue>>,
    pub(super) extensions: BTreeMap<&'static str, Box<RawValue>>,
}

/// How many rooms a list has.
#[derive(Serialize)]
pub(super) struct Count {
    pub(super) count: usize,
}

/// Renders a part of an answer.
pub(super) fn raw<T: Serialize>(value: &T) -> Result<Box<RawValue>> {
    RawValue::from_string(text(value)?)
        .map_err(|error| colonnade_rooms::Error::internal("render a part of a sync", error))
}

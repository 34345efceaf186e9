//! The parts of an answer that are rendered at once. Events are JSON already; what is empty is left out.
//!
//! Source: Matrix v1.19, client-server, "GET /sync".

use std::collections::BTreeMap;

use colonnade_model::ruma::{OneTimeKeyAlgorithm, OwnedUserId, UInt};
use serde::Serialize;
use serde_json::value::RawValue;

/// What every answer has; when nothing has moved, it is all.
#[derive(Debug, Serialize)]
pub(super) struct Always {
    /// The token for the next sync.
    pub(super) next_batch: String,
    /// One-time keys that are left.
    pub(super) device_one_time_keys_count: BTreeMap<OneTimeKeyAlgorithm, UInt>,
    /// Algorithms with a fallback key that was not handed out.
    pub(super) device_unused_fallback_key_types: Vec<OneTimeKeyAlgorithm>,
}

/// A chunk of a timeline.
#[derive(Debug, Default)]
pub(super) struct TimelinePart {
    /// The events, oldest first.
    pub(super) events: Vec<Box<RawValue>>,
    /// There are more since the client's token than are shown.
    pub(super) limited: bool,
    /// The token to read further back.
    pub(super) prev_batch: Option<String>,
}

/// Who is in a room.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    /// Whom a room without a name is named after.
    #[serde(rename = "m.heroes", skip_serializing_if = "Option::is_none")]
    pub(super) heroes: Option<Vec<OwnedUserId>>,
    /// Joined members.
    #[serde(rename = "m.joined_member_count", skip_serializing_if = "Option::is_none")]
    pub(super) joined: Option<i64>,
    /// Invited members.
    #[serde(rename = "m.invited_member_count", skip_serializing_if = "Option::is_none")]
    pub(super) invited: Option<i64>,
}

impl Summary {
    pub(super) fn is_empty(&self) -> bool {
        self.heroes.is_none() && self.joined.is_none() && self.invited.is_none()
    }
}

/// Counts of unread events.
#[derive(Debug, Default, Serialize)]
pub(super) struct UnreadCounts {
    /// That notify.
    pub(super) notification_count: i64,
    /// That highlight.
    pub(super) highlight_count: i64,
}

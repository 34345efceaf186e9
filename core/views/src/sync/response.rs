//! The answer as it is rendered. Events are JSON already; what is empty is left out.
//!
//! Source: Matrix v1.19, client-server, "GET /sync".

use std::collections::BTreeMap;

use colonnade_model::ruma::{OneTimeKeyAlgorithm, OwnedRoomId, OwnedUserId, UInt};
use colonnade_users::{answers::Reserved, encryption::DeviceListChanges};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

/// A list of events.
#[derive(Debug, Default, Serialize)]
pub struct Events {
    /// The events.
    pub events: Vec<Box<RawValue>>,
}

impl Events {
    /// Returns how many bytes they have.
    pub(super) fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.get().len()).sum()
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// The answer to a sync.
#[derive(Debug, Serialize)]
pub struct SyncResponse {
    /// The token for the next sync.
    pub next_batch: String,
    /// Rooms in which something happened.
    #[serde(skip_serializing_if = "Rooms::is_empty")]
    pub rooms: Rooms,
    /// Presence of other users.
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub presence: Events,
    /// The user's account data.
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub account_data: Events,
    /// Messages to the device.
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub to_device: Events,
    /// Whose keys to look at again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_lists: Option<ChangedDevices>,
    /// One-time keys that are left.
    pub device_one_time_keys_count: BTreeMap<OneTimeKeyAlgorithm, UInt>,
    /// Algorithms with a fallback key that was not handed out.
    pub device_unused_fallback_key_types: Vec<OneTimeKeyAlgorithm>,
    /// What was set aside to make it, if anything had to be read.
    #[serde(skip)]
    pub reserved: Option<Reserved>,
}

impl SyncResponse {
    /// Tells whether there is nothing a client would want to be woken for.
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
            && self.presence.is_empty()
            && self.account_data.is_empty()
            && self.to_device.is_empty()
            && self.device_lists.is_none()
    }
}

/// Whose keys to look at again.
#[derive(Debug, Serialize)]
pub struct ChangedDevices {
    changed: Vec<OwnedUserId>,
    left: Vec<OwnedUserId>,
}

impl ChangedDevices {
    pub(super) fn of(changes: DeviceListChanges) -> Option<Self> {
        let DeviceListChanges { changed, left } = changes;
        let changed: Vec<OwnedUserId> = changed.into_iter().map(|(name, _)| name).collect();
        (!changed.is_empty() || !left.is_empty()).then_some(Self { changed, left })
    }
}

/// Rooms by what the user is in them.
#[derive(Debug, Default, Serialize)]
pub struct Rooms {
    /// Joined.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub join: BTreeMap<OwnedRoomId, JoinedRoom>,
    /// Invited.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub invite: BTreeMap<OwnedRoomId, InvitedRoom>,
    /// Knocking.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub knock: BTreeMap<OwnedRoomId, KnockedRoom>,
    /// Left, kicked or banned.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub leave: BTreeMap<OwnedRoomId, LeftRoom>,
}

impl Rooms {
    fn is_empty(&self) -> bool {
        self.join.is_empty()
            && self.invite.is_empty()
            && self.knock.is_empty()
            && self.leave.is_empty()
    }
}

/// A chunk of a timeline.
#[derive(Debug, Default, Serialize)]
pub struct TimelinePart {
    /// The events, oldest first.
    pub events: Vec<Box<RawValue>>,
    /// There are more since the client's token than are shown.
    pub limited: bool,
    /// The token to read further back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<String>,
}

/// The room's state: before the timeline, or after it if the client asked for that.
#[derive(Debug, Serialize)]
pub enum StatePart {
    /// Before.
    #[serde(rename = "state")]
    Before(Events),
    /// After.
    #[serde(rename = "state_after")]
    After(Events),
}

/// A joined room in which something happened.
#[derive(Debug, Serialize)]
pub struct JoinedRoom {
    /// What was said.
    pub timeline: TimelinePart,
    /// The state.
    #[serde(flatten)]
    pub state: StatePart,
    /// Who is in the room; only when it changed.
    #[serde(skip_serializing_if = "Summary::is_empty")]
    pub summary: Summary,
    /// Unread events.
    pub unread_notifications: UnreadCounts,
    /// Unread events per thread, if the client asked for that.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unread_thread_notifications: BTreeMap<String, UnreadCounts>,
    /// Typing and receipts.
    pub ephemeral: Plain,
    /// The user's account data for the room.
    pub account_data: Events,
}

/// A list of events made here.
#[derive(Debug, Default, Serialize)]
pub struct Plain {
    /// The events.
    pub events: Vec<Value>,
}

/// Who is in a room.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Whom a room without a name is named after.
    #[serde(rename = "m.heroes", skip_serializing_if = "Option::is_none")]
    pub heroes: Option<Vec<OwnedUserId>>,
    /// Joined members.
    #[serde(rename = "m.joined_member_count", skip_serializing_if = "Option::is_none")]
    pub joined: Option<i64>,
    /// Invited members.
    #[serde(rename = "m.invited_member_count", skip_serializing_if = "Option::is_none")]
    pub invited: Option<i64>,
}

impl Summary {
    fn is_empty(&self) -> bool {
        self.heroes.is_none() && self.joined.is_none() && self.invited.is_none()
    }
}

/// Counts of unread events.
#[derive(Debug, Default, Serialize)]
pub struct UnreadCounts {
    /// That notify.
    pub notification_count: i64,
    /// That highlight.
    pub highlight_count: i64,
}

/// A room the user is invited to.
#[derive(Debug, Serialize)]
pub struct InvitedRoom {
    /// What the user is shown of it.
    pub invite_state: Events,
}

/// A room the user knocks on.
#[derive(Debug, Serialize)]
pub struct KnockedRoom {
    /// What the user is shown of it.
    pub knock_state: Events,
}

/// A room the user is no longer in.
#[derive(Debug, Serialize)]
pub struct LeftRoom {
    /// What was said until the user left.
    pub timeline: TimelinePart,
    /// The state.
    #[serde(flatten)]
    pub state: StatePart,
    /// The user's account data for the room.
    pub account_data: Events,
}

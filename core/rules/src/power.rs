//! Who may do what in a room, asked before there is an event to check.
//!
//! Services ask here to answer early and well; the last word is always [`crate::auth`]'s.

use std::collections::{BTreeMap, HashSet};

use colonnade_model::ruma::{
    Int, OwnedUserId, UserId,
    events::{TimelineEventType, room::power_levels::UserPowerLevel},
    power_levels::NotificationPowerLevels,
    push::PushConditionPowerLevelsCtx,
    room_version_rules::{AuthorizationRules, RoomPowerLevelsRules},
    serde::{JsonObject, deserialize_v1_powerlevel},
    state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent},
};

use serde::Deserialize;
use serde_json::Value;

use crate::{auth::Rejection, event::Event};

#[cfg(test)]
mod tests;

/// The level of a room's creator as long as there is no `m.room.power_levels` event.
const CREATOR_LEVEL: i32 = 100;
/// The level needed to notify the whole room, unless the room says otherwise.
const NOTIFY_ROOM_LEVEL: i32 = 50;
/// The fields of power levels that are a level themselves.
const LEVELS: [&str; 7] =
    ["users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"];

/// The power levels of a room at one state, completely read.
#[derive(Clone, Debug)]
pub struct PowerLevels {
    /// Whether there is a power levels event at all.
    given: bool,
    creators: HashSet<OwnedUserId>,
    /// Whether creators stand above all levels (room version 12 and later).
    privileged: bool,
    users: BTreeMap<OwnedUserId, Int>,
    users_default: Int,
    events: BTreeMap<TimelineEventType, Int>,
    events_default: Int,
    state_default: Int,
    ban: Int,
    kick: Int,
    redact: Int,
    invite: Int,
    notify_room: Int,
}

/// Returns the content of a power levels event as every room version takes it: integers, where older ones let
/// pass strings and floats that stand for them (Matrix v1.19, rooms, v10, §Values in `m.room.power_levels`
/// events must be integers).
pub fn with_integers(event: &Event) -> Value {
    let whole = |level: &mut Value| {
        if let Ok(integer) = deserialize_v1_powerlevel(&*level) {
            *level = i64::from(integer).into();
        }
    };
    let content = serde_json::from_str(event.content_for_rules().get());
    let mut content: Value = content.unwrap_or_else(|_| serde_json::json!({}));
    for field in LEVELS {
        content.get_mut(field).map(whole);
    }
    for field in ["events", "notifications", "users"] {
        let levels = content.get_mut(field).and_then(Value::as_object_mut);
        levels.into_iter().flat_map(|levels| levels.values_mut()).for_each(whole);
    }
    content
}

impl PowerLevels {
    /// Reads the levels from the room's create event and its power levels event, if it has one.
    ///
    /// # Errors
    /// [`Rejection`] when either is malformed; then no event of the room is allowed.
    pub fn new(
        create: &Event,
        power_levels: Option<&Event>,
        rules: &AuthorizationRules,
    ) -> Result<Self, Rejection> {
        Self::read(create, power_levels, rules).map_err(Rejection::by("auth.power"))
    }

    fn read(
        create: &Event,
        power_levels: Option<&Event>,
        rules: &AuthorizationRules,
    ) -> Result<Self, String> {
        let content: JsonObject = match power_levels {
            Some(event) => serde_json::from_str(event.content_for_rules().get())
                .map_err(|error| error.to_string())?,
            None => JsonObject::new(),
        };
        // The authorization rules use the same defaults with and without the event.
        let level = |field: &str, default: i32| match content.get(field) {
            None => Ok(Int::from(default)),
            Some(value) if rules.integer_power_levels => {
                Int::deserialize(value).map_err(|error| format!("`{field}`: {error}"))
            }
            Some(value) => {
                deserialize_v1_powerlevel(value).map_err(|error| format!("`{field}`: {error}"))
            }
        };
        let event = power_levels.map(RoomPowerLevelsEvent::new);
        let mut levels = Self {
            given: event.is_some(),
            creators: RoomCreateEvent::new(create).creators(rules)?,
            privileged: rules.explicitly_privilege_room_creators,
            users: BTreeMap::new(),
            users_default: level("users_default", 0)?,
            events: BTreeMap::new(),
            events_default: level("events_default", 0)?,
            state_default: level("state_default", 50)?,
            ban: level("ban", 50)?,
            kick: level("kick", 50)?,
            redact: level("redact", 50)?,
            invite: level("invite", 0)?,
            notify_room: NOTIFY_ROOM_LEVEL.into(),
        };
        if let Some(event) = &event {
            levels.users = event.users(rules)?.cloned().unwrap_or_default();
            levels.events = event.events(rules)?.unwrap_or_default();
            let notifications = event.notifications(rules)?.unwrap_or_default();
            if let Some(level) = notifications.get("room") {
                levels.notify_room = *level;
            }
        }
        Ok(levels)
    }

    /// Returns the room's creators.
    pub fn creators(&self) -> &HashSet<OwnedUserId> {
        &self.creators
    }

    /// Returns a user's level.
    pub fn user(&self, user: &UserId) -> UserPowerLevel {
        if self.privileged && self.creators.contains(user) {
            return UserPowerLevel::Infinite;
        }
        if !self.given && self.creators.contains(user) {
            return UserPowerLevel::Int(CREATOR_LEVEL.into());
        }
        UserPowerLevel::Int(self.users.get(user).copied().unwrap_or(self.users_default))
    }

    /// Returns the level needed to send a message event of that type.
    pub fn needed_for_message(&self, event_type: &TimelineEventType) -> Int {
        self.events.get(event_type).copied().unwrap_or(self.events_default)
    }

    /// Returns the level needed to send a state event of that type.
    pub fn needed_for_state(&self, event_type: &TimelineEventType) -> Int {
        self.events.get(event_type).copied().unwrap_or(self.state_default)
    }

    /// Tells whether a member may send a message event of that type.
    pub fn may_send_message(&self, user: &UserId, event_type: &TimelineEventType) -> bool {
        self.user(user) >= self.needed_for_message(event_type)
    }

    /// Tells whether a member may send a state event of that type.
    pub fn may_send_state(&self, user: &UserId, event_type: &TimelineEventType) -> bool {
        self.user(user) >= self.needed_for_state(event_type)
    }

    /// Tells whether a member may invite others.
    pub fn may_invite(&self, user: &UserId) -> bool {
        self.user(user) >= self.invite
    }

    /// Tells whether a member may kick another.
    pub fn may_kick(&self, user: &UserId, target: &UserId) -> bool {
        self.user(user) >= self.kick && self.user(user) > self.user(target)
    }

    /// Tells whether a member may ban another user.
    pub fn may_ban(&self, user: &UserId, target: &UserId) -> bool {
        self.user(user) >= self.ban && self.user(user) > self.user(target)
    }

    /// Tells whether a member may lift the ban of another user: that takes the level to ban, and
    /// since the result is a kick, the level to kick.
    pub fn may_unban(&self, user: &UserId, target: &UserId) -> bool {
        self.may_ban(user, target) && self.may_kick(user, target)
    }

    /// Tells whether a member may redact an event of `author`: their own with the level for
    /// `m.room.redaction`, others' with the redact level as well.
    pub fn may_redact(&self, user: &UserId, author: &UserId) -> bool {
        self.may_send_message(user, &TimelineEventType::RoomRedaction)
            && (user == author || self.user(user) >= self.redact)
    }

    /// Tells whether a member may redact whatever anybody said.
    pub fn may_redact_any(&self, user: &UserId) -> bool {
        self.may_send_message(user, &TimelineEventType::RoomRedaction)
            && self.user(user) >= self.redact
    }

    /// Tells whether a redaction that is in the room takes effect: its sender has the redact
    /// level, or both events are of one server. Whose an event is says its sender (Matrix v1.19,
    /// rooms, v3, §Handling redactions), in room versions 1 and 2 its id (rooms, v1,
    /// §Authorisation rules, 11).
    pub fn redaction_applies(
        &self,
        redaction: &Event,
        target: &Event,
        rules: &AuthorizationRules,
    ) -> bool {
        let is_of_one_server = if rules.special_case_room_redaction {
            redaction.event_id().server_name() == target.event_id().server_name()
        } else {
            redaction.sender().server_name() == target.sender().server_name()
        };
        self.user(redaction.sender()) >= self.redact || is_of_one_server
    }

    /// Tells whether a member may notify the whole room.
    pub fn may_notify_room(&self, user: &UserId) -> bool {
        self.user(user) >= self.notify_room
    }

    /// Returns the levels in the form push rules are evaluated with.
    pub fn for_push(&self, rules: &AuthorizationRules) -> PushConditionPowerLevelsCtx {
        let mut users = self.users.clone();
        if !self.given {
            users.extend(self.creators.iter().map(|user| (user.clone(), CREATOR_LEVEL.into())));
        }
        let notifications = NotificationPowerLevels { room: self.notify_room };
        let rules = RoomPowerLevelsRules::new(rules, self.creators.iter().cloned());
        PushConditionPowerLevelsCtx::new(users, self.users_default, notifications, rules)
    }
}

//! What those who are invited, or knock, are shown of a room: a few state events, stripped. Strangers
//! write them, and they come with the first answer to whoever is invited, so their bytes are bounded.
//!
//! Source: Matrix v1.19, client-server, "Stripped state".

use std::sync::Arc;

use colonnade_model::{
    nid::StateNid,
    ruma::{ServerName, UserId},
};
use colonnade_rules::{
    event::{ClientFormat, Event},
    summary::STRIPPED_STATE,
};
use colonnade_storage::{StorageError, rooms::stripped};
use serde_json::{Map, Value, value::RawValue};

use super::{Room, RoomEvent, Store};
use crate::Result;

/// The longest value kept in the content of a member event that is too large.
const VALUE_BYTES_MAX: usize = 1_024;
/// What is kept of it.
const KEPT: [&str; 5] = ["membership", "displayname", "avatar_url", "is_direct", "reason"];

impl Store {
    /// Returns the state that those invited by a member event, or knocking with it, are shown: as
    /// it was just before the event, with the event itself and its sender's membership. What does not
    /// fit into `bytes_max` is left out; the event itself is always there, short if need be.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stripped_state(
        &self,
        member: &RoomEvent,
        bytes_max: usize,
    ) -> Result<Vec<Box<RawValue>>> {
        let strip = |event: &Event| event.to_client(ClientFormat::Stripped, None);
        let mut itself = strip(&member.event);
        if itself.get().len() > bytes_max {
            itself = shortened(itself);
        }
        let mut left = bytes_max.saturating_sub(itself.get().len());
        let mut shown = Vec::with_capacity(STRIPPED_STATE.len() + 2);
        if member.state_before.is_none() {
            let there = self.shown_elsewhere(member).await?.unwrap_or_default();
            // The membership that this server has is the one that is shown.
            for stripped in there.into_iter().filter(|stripped| !is_of(stripped, member)) {
                if stripped.get().len() <= left {
                    left -= stripped.get().len();
                    shown.push(stripped);
                }
            }
        }
        if let Some(state) = member.state_before {
            let sender = member.event.sender().as_str();
            let is_other = member.event.state_key() != Some(sender);
            for found in self.to_be_shown(state, is_other.then_some(sender)).await? {
                let stripped = strip(&found.event);
                if stripped.get().len() <= left {
                    left -= stripped.get().len();
                    shown.push(stripped);
                }
            }
        }
        shown.push(itself);
        Ok(shown)
    }
}

impl Store {
    /// Returns what the server of somebody who is being invited is shown of a room: whole events, as servers
    /// have them, which it shows the invited stripped.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn shown_to_invited(
        &self,
        room: &Room,
        inviter: &UserId,
        bytes_max: usize,
    ) -> Result<Vec<Box<RawValue>>> {
        let state = self.head(room.nid).await?.state;
        let (mut shown, mut left) = (Vec::new(), bytes_max);
        for found in self.to_be_shown(state, Some(inviter.as_str())).await? {
            let json = found.event.json();
            if json.len() <= left {
                left -= json.len();
                shown.extend(RawValue::from_string(json.to_owned()).ok());
            }
        }
        Ok(shown)
    }

    /// Returns the events of a state that those outside of the room are shown, with the membership of one user.
    async fn to_be_shown(
        &self,
        state: StateNid,
        member: Option<&str>,
    ) -> Result<Vec<Arc<RoomEvent>>> {
        let types = STRIPPED_STATE.iter().map(|event_type| (event_type.to_string(), ""));
        let of_member = member.map(|member| ("m.room.member".to_owned(), member));
        let mut shown = Vec::with_capacity(STRIPPED_STATE.len() + 1);
        for (event_type, state_key) in types.chain(of_member) {
            shown.extend(self.state_event_at(state, &event_type, state_key).await?);
        }
        Ok(shown)
    }

    /// Tells whether what another server showed of a room that is not known here was made by users of a server.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn was_shown_of(
        &self,
        member: &RoomEvent,
        server: &ServerName,
    ) -> Result<bool> {
        let shown = self.shown_elsewhere(member).await?.unwrap_or_default();
        let senders = shown.iter().filter_map(|shown| {
            let event: Value = serde_json::from_str(shown.get()).ok()?;
            UserId::parse(event["sender"].as_str()?).ok()
        });
        let ours = &self.context.server_name;
        let mut senders = senders.filter(|sender| sender.server_name() != *ours);
        Ok(senders.any(|sender| sender.server_name() == server))
    }

    /// Returns what another server showed of a room that is not known here.
    async fn shown_elsewhere(&self, member: &RoomEvent) -> Result<Option<Vec<Box<RawValue>>>> {
        let user = member.event.state_key().and_then(|user| UserId::parse(user).ok());
        let Some(user) = user else { return Ok(None) };
        let user = self.context.interned.user(&user).await?;
        let shown = stripped::get(&self.context.db, member.room, user).await?;
        let Some(shown) = shown else { return Ok(None) };
        let corrupt = |why| StorageError::corrupt("invite_states", "body", member.room, why);
        Ok(Some(serde_json::from_slice(&shown).map_err(corrupt)?))
    }
}

/// Tells whether what another server shows is a membership of the user whom a member event is about.
fn is_of(stripped: &RawValue, member: &RoomEvent) -> bool {
    let Ok(shown) = serde_json::from_str::<Value>(stripped.get()) else { return true };
    shown["type"] == "m.room.member" && shown["state_key"].as_str() == member.event.state_key()
}

/// Leaves of a member event what clients show, as far as it is short.
fn shortened(event: Box<RawValue>) -> Box<RawValue> {
    let Ok(Value::Object(mut whole)) = serde_json::from_str(event.get()) else { return event };
    let content = whole.get("content").and_then(Value::as_object);
    let is_short = |value: &Value| match value {
        Value::String(text) => text.len() <= VALUE_BYTES_MAX,
        value => value.is_boolean(),
    };
    let kept = content
        .into_iter()
        .flatten()
        .filter(|(key, value)| KEPT.contains(&key.as_str()) && is_short(value));
    let kept: Map<String, Value> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    whole.insert("content".to_owned(), Value::Object(kept));
    serde_json::value::to_raw_value(&whole).unwrap_or(event)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fat_member_event_becomes_short() {
        let fat = json!({
            "type": "m.room.member",
            "sender": "@a:b",
            "state_key": "@c:d",
            "content": {
                "membership": "invite",
                "is_direct": true,
                "displayname": "x".repeat(1_025),
                "reason": "come",
                "org.example.fat": "x".repeat(60_000),
            },
        });
        let short = shortened(serde_json::value::to_raw_value(&fat).unwrap());
        let short: Value = serde_json::from_str(short.get()).unwrap();
        let kept = json!({ "membership": "invite", "is_direct": true, "reason": "come" });
        assert_eq!(short["content"], kept);
        assert_eq!(short["state_key"], "@c:d");
    }
}

//! What is told beside rooms: messages to the device, keys, account data, receipts, who types.

use std::collections::{BTreeMap, HashSet};

use colonnade_model::{
    MatrixError,
    nid::RoomNid,
    ruma::{OneTimeKeyAlgorithm, OwnedEventId, OwnedRoomId, OwnedUserId, UInt},
    stream::{Position, Stream},
};
use colonnade_rooms::Result;
use colonnade_storage::users::account_data::AccountData;
use colonnade_users::account_data::{Changes, Scope};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    answer::raw,
    connection_state::ConnectionState,
    request::{ExtensionRooms, Extensions, ToDeviceExtension},
    room::Slide,
};
use crate::sync::{
    account::entry,
    notifier::RoomHead,
    service::{Memberships, Sync},
};

/// Messages to the device in one answer, if the client does not say, and at most.
const TO_DEVICE_MAX: usize = 100;

/// A room that an answer looked at, for what is told beside it.
pub(super) struct Looked {
    pub(super) room: RoomNid,
    pub(super) room_id: OwnedRoomId,
    pub(super) head: RoomHead,
    pub(super) lists: Vec<String>,
    pub(super) is_subscribed: bool,
    pub(super) is_joined: bool,
    /// The client had nothing of it, or had not been told of it for a while.
    pub(super) is_new: bool,
    /// The events that it is told, if it is new.
    pub(super) events: Vec<OwnedEventId>,
}

/// What is told beside rooms, and whether that is worth waking the client for.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) parts: BTreeMap<&'static str, Box<RawValue>>,
    pub(super) says_something: bool,
}

#[derive(Serialize)]
struct ToDevicePart {
    next_batch: String,
    events: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct KeysPart {
    device_one_time_keys_count: BTreeMap<OneTimeKeyAlgorithm, UInt>,
    device_unused_fallback_key_types: Vec<OneTimeKeyAlgorithm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_lists: Option<DeviceListsPart>,
}

#[derive(Serialize)]
struct DeviceListsPart {
    changed: Vec<OwnedUserId>,
    left: Vec<OwnedUserId>,
}

#[derive(Default, Serialize)]
struct DataPart {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    global: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rooms: BTreeMap<OwnedRoomId, Vec<Box<RawValue>>>,
}

/// What an extension says of rooms.
#[derive(Default, Serialize)]
struct RoomsPart {
    rooms: BTreeMap<OwnedRoomId, Value>,
}

/// Reads how far a client has its messages.
///
/// # Errors
/// `M_INVALID_PARAM`.
pub(super) fn to_device_since(asked: &ToDeviceExtension) -> Result<Position, MatrixError> {
    let Some(since) = asked.since.as_deref() else { return Ok(0) };
    since.parse().ok().filter(|since| *since >= 0).ok_or_else(|| {
        MatrixError::invalid_param("extensions.to_device.since is not a token of this server")
    })
}

impl Sync {
    /// Returns what is told beside rooms, and notes in `told` that it is.
    pub(super) async fn beside(
        &self,
        slide: &mut Slide<'_>,
        asked: &Extensions,
        (memberships, heads): (&Memberships, &[RoomHead]),
        looked: &[Looked],
        told: &mut ConnectionState,
    ) -> Result<Beside> {
        let mut beside = Beside::default();
        if let Some(asked) = &asked.to_device {
            self.to_device_part(slide, asked, &mut beside).await?;
        }
        if asked.e2ee {
            self.keys_part(slide, (memberships, heads), &mut beside).await?;
            told.devices = Some(slide.context.now);
        }
        if let Some(asked) = &asked.account_data {
            self.data_part(slide, asked, looked, &mut beside).await?;
            told.account_data = Some(slide.context.now(Stream::AccountData));
        }
        if let Some(asked) = &asked.receipts {
            self.receipts_part(slide, asked, looked, &mut beside).await?;
            told.receipts = Some(slide.context.now(Stream::Receipts));
        }
        if let Some(asked) = &asked.typing {
            self.typing_part(slide, asked, looked, &mut beside)?;
            told.typing = Some(slide.context.now(Stream::Typing));
        }
        Ok(beside)
    }

    async fn to_device_part(
        &self,
        slide: &Slide<'_>,
        asked: &ToDeviceExtension,
        beside: &mut Beside,
    ) -> Result<()> {
        let (after, upto) = (to_device_since(asked)?, slide.context.now(Stream::ToDevice));
        let device = slide.context.viewer.device;
        let limit = asked.limit.unwrap_or(TO_DEVICE_MAX).clamp(1, TO_DEVICE_MAX);
        let messages = match self.heads.device(device) > after {
            true => self.from.to_device.messages(device, after, upto, limit).await?,
            false => Vec::new(),
        };
        let last = messages.last().filter(|_| messages.len() == limit);
        let next_batch = last.map_or(upto.max(after), |last| last.pos).to_string();
        beside.says_something |= !messages.is_empty();
        let events = messages.into_iter().map(|message| message.event).collect();
        beside.parts.insert("to_device", raw(&ToDevicePart { next_batch, events })?);
        Ok(())
    }

    async fn keys_part(
        &self,
        slide: &mut Slide<'_>,
        (memberships, heads): (&Memberships, &[RoomHead]),
        beside: &mut Beside,
    ) -> Result<()> {
        let (device, encryption) = (slide.context.viewer.device, &self.from.encryption);
        let since = std::mem::replace(&mut slide.context.since, slide.told.devices);
        let changes = self.device_lists(&slide.context, memberships, heads).await;
        slide.context.since = since;
        let changes = changes?;
        let moved = !changes.changed.is_empty() || !changes.left.is_empty();
        beside.says_something |= moved;
        let changed = changes.changed.into_iter().map(|(user, _)| user).collect();
        let device_lists = moved.then_some(DeviceListsPart { changed, left: changes.left });
        let part = KeysPart {
            device_one_time_keys_count: encryption.one_time_key_counts(device).await?,
            device_unused_fallback_key_types: encryption.unused_fallback_key_types(device).await?,
            device_lists,
        };
        beside.parts.insert("e2ee", raw(&part)?);
        Ok(())
    }

    async fn data_part(
        &self,
        slide: &Slide<'_>,
        asked: &ExtensionRooms,
        looked: &[Looked],
        beside: &mut Beside,
    ) -> Result<()> {
        let after = slide.told.account_data;
        let mut part = DataPart::default();
        let rooms = looked
            .iter()
            .filter(|one| asked.has(one.room_id.as_str(), &one.lists, one.is_subscribed));
        let rooms: Vec<&Looked> = rooms.collect();
        let is_moved =
            self.heads.user(slide.context.viewer.user).account_data > after.unwrap_or(-1);
        if after.is_none() || is_moved {
            for data in self.data_of(slide, Scope::All, after).await? {
                match data.room {
                    None => part.global.push(entry(&data)),
                    Some(room) => {
                        let wanted = rooms.iter().find(|one| one.room == room);
                        // Of what is new to the client it is told all below.
                        if let Some(one) = wanted.filter(|one| after.is_none() || !one.is_new) {
                            part.rooms.entry(one.room_id.clone()).or_default().push(entry(&data));
                        }
                    }
                }
            }
        }
        if after.is_some() {
            for one in rooms.iter().filter(|one| one.is_new) {
                let data = self.data_of(slide, Scope::Room(one.room), None).await?;
                if !data.is_empty() {
                    part.rooms.insert(one.room_id.clone(), data.iter().map(entry).collect());
                }
            }
        }
        if !part.global.is_empty() || !part.rooms.is_empty() {
            beside.says_something = true;
            beside.parts.insert("account_data", raw(&part)?);
        }
        Ok(())
    }

    /// Reads account data that changed above a position, or all there is.
    async fn data_of(
        &self,
        slide: &Slide<'_>,
        scope: Scope,
        after: Option<Position>,
    ) -> Result<Vec<AccountData>> {
        let (user, upto) = (slide.context.viewer.user, slide.context.now(Stream::AccountData));
        let is_first = after.is_none() && scope == Scope::All;
        let (mut found, mut next) = (Vec::new(), Some(after.unwrap_or(0)));
        while let Some(after) = next {
            let changes = Changes { scope, after, upto, is_first };
            let page = self.from.account_data.page(user, changes).await?;
            found.extend(page.data);
            next = page.next;
        }
        Ok(found)
    }

    async fn receipts_part(
        &self,
        slide: &Slide<'_>,
        asked: &ExtensionRooms,
        looked: &[Looked],
        beside: &mut Beside,
    ) -> Result<()> {
        let mut part = RoomsPart::default();
        let (viewer, now) = (slide.context.viewer.user, slide.context.now(Stream::Receipts));
        for one in looked.iter().filter(|one| one.is_joined) {
            if !asked.has(one.room_id.as_str(), &one.lists, one.is_subscribed) {
                continue;
            }
            let upto = now.min(one.head.receipts);
            let content = match slide.told.receipts.filter(|_| !one.is_new) {
                Some(after) if one.head.receipts <= after => None,
                Some(after) => {
                    self.from.receipts.content(one.room, viewer, after, upto).await?.map(|(c, _)| c)
                }
                None => {
                    let events: HashSet<&str> = one.events.iter().map(|id| id.as_str()).collect();
                    self.from.receipts.newest(one.room, viewer, upto, &events).await?
                }
            };
            if let Some(content) = content {
                let event = json!({ "type": "m.receipt", "content": content });
                part.rooms.insert(one.room_id.clone(), event);
            }
        }
        if !part.rooms.is_empty() {
            beside.says_something = true;
            beside.parts.insert("receipts", raw(&part)?);
        }
        Ok(())
    }

    fn typing_part(
        &self,
        slide: &Slide<'_>,
        asked: &ExtensionRooms,
        looked: &[Looked],
        beside: &mut Beside,
    ) -> Result<()> {
        let mut part = RoomsPart::default();
        for one in looked.iter().filter(|one| one.is_joined) {
            if !asked.has(one.room_id.as_str(), &one.lists, one.is_subscribed) {
                continue;
            }
            let since = slide.told.typing.filter(|_| !one.is_new);
            let Some(users) = self.from.typing.changed(one.room, since.unwrap_or(0)) else {
                continue;
            };
            // That nobody types is no news to who was told of nobody.
            if since.is_some() || !users.is_empty() {
                let event = json!({ "type": "m.typing", "content": { "user_ids": users } });
                part.rooms.insert(one.room_id.clone(), event);
            }
        }
        if !part.rooms.is_empty() {
            beside.says_something = true;
            beside.parts.insert("typing", raw(&part)?);
        }
        Ok(())
    }
}

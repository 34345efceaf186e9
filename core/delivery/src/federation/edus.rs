//! What a destination is told that is no event, as EDUs.
//!
//! Source: Matrix v1.19, server-server, "EDUs".

use std::{collections::BTreeMap, sync::Arc};

use colonnade_model::{
    nid::{RoomNid, UserNid},
    ruma::{DeviceId, OwnedRoomId, OwnedUserId},
};
use colonnade_rooms::Result;
use colonnade_storage::{federation::outgoing_changes::KeyChange, rooms::receipts::Receipt};
use serde_json::{Map, Value, json};

use super::sender::FederationSender;

/// Makes EDUs of receipts, each of as many as have a place in it: it has one for a user in a room.
pub(super) async fn of_receipts(
    sender: &FederationSender,
    receipts: &[Arc<Receipt>],
) -> Result<Vec<Value>> {
    let users: Vec<UserNid> = receipts.iter().map(|receipt| receipt.user).collect();
    let users = sender.context.interned.user_ids(&users).await?;
    let mut rooms: BTreeMap<RoomNid, OwnedRoomId> = BTreeMap::new();
    let mut contents: Vec<Map<String, Value>> = Vec::new();
    for (receipt, user) in receipts.iter().zip(users) {
        let room = match rooms.get(&receipt.room) {
            Some(room) => room.clone(),
            None => {
                let room = sender.rooms.room(receipt.room).await?.room_id.clone();
                rooms.insert(receipt.room, room.clone());
                room
            }
        };
        let mut data = json!({ "ts": receipt.ts });
        if !receipt.thread.is_empty() {
            data["thread_id"] = receipt.thread.clone().into();
        }
        let body = json!({ "data": data, "event_ids": [receipt.event_id] });
        let has_place = |content: &&mut Map<String, Value>| {
            content.get(room.as_str()).is_none_or(|room| room["m.read"][user.as_str()].is_null())
        };
        match contents.last_mut().filter(has_place) {
            Some(content) => add(content, &room, &user, body),
            None => {
                let mut content = Map::new();
                add(&mut content, &room, &user, body);
                contents.push(content);
            }
        }
    }
    let edus = contents.into_iter().map(|content| edu("m.receipt", content.into()));
    Ok(edus.collect())
}

fn add(content: &mut Map<String, Value>, room: &OwnedRoomId, user: &OwnedUserId, body: Value) {
    let of_room = content.entry(room.as_str()).or_insert_with(|| json!({ "m.read": {} }));
    of_room["m.read"][user.as_str()] = body;
}

/// Makes an EDU of each change of keys, as these are now.
pub(super) async fn of_key_changes(
    sender: &FederationSender,
    changes: &[Arc<KeyChange>],
) -> Result<Vec<Value>> {
    let users: Vec<UserNid> = changes.iter().map(|change| change.user).collect();
    let users = sender.context.interned.user_ids(&users).await?;
    let mut edus = Vec::new();
    for (change, user) in changes.iter().zip(users) {
        let Some(device) = change.device_id.as_deref() else {
            let content = sender.encryption.signing_key_update(&user).await?;
            edus.extend(content.map(|content| edu("m.signing_key_update", content)));
            continue;
        };
        let device = <&DeviceId>::from(device);
        let mut content = sender.encryption.device_update(change.user, &user, device).await?;
        content.insert("stream_id".to_owned(), change.pos.into());
        let prev: Vec<_> = change.prev.into_iter().collect();
        content.insert("prev_id".to_owned(), prev.into());
        edus.push(edu("m.device_list_update", content.into()));
    }
    Ok(edus)
}

/// Makes an EDU of a user who types, or stopped.
pub(super) fn of_typist(room: &OwnedRoomId, user: &OwnedUserId, is_typing: bool) -> Value {
    let content = json!({ "room_id": room, "user_id": user, "typing": is_typing });
    edu("m.typing", content)
}

/// Makes an EDU of who of these users is here now, unless nothing is known of any.
pub(super) async fn of_presence(
    sender: &FederationSender,
    users: &[UserNid],
) -> Result<Option<Value>> {
    let contents = sender.presence.contents(users);
    let users: Vec<UserNid> = contents.iter().map(|(user, _)| *user).collect();
    let names = sender.context.interned.user_ids(&users).await?;
    let ours = names.into_iter().zip(contents);
    let ours = ours.filter(|(name, _)| name.server_name() == sender.context.server_name);
    let push = ours.map(|(name, (_, mut content))| {
        content["user_id"] = name.as_str().into();
        content
    });
    let push: Vec<Value> = push.collect();
    Ok((!push.is_empty()).then(|| edu("m.presence", json!({ "push": push }))))
}

fn edu(edu_type: &str, content: Value) -> Value {
    json!({ "edu_type": edu_type, "content": content })
}

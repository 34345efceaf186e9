//! What a push gateway is told.
//!
//! Source: Matrix v1.19, push gateway API, `POST /_matrix/push/v1/notify`.

use colonnade_model::{
    nid::{RoomNid, UserNid},
    ruma::UserId,
};
use colonnade_rooms::Result;
use colonnade_storage::rooms::{members, summaries};
use colonnade_views::sync::heroes_of;
use serde_json::{Map, Value, json};

use super::{
    pusher::{Notification, Pusher},
    sender::PushSender,
};

/// Bytes of what whoever is invited is shown of a room that are read for its name.
const SHOWN_BYTES_MAX: usize = 64 * 1024;
/// Names that a room without one is called by.
const NAMES_MAX: usize = 3;

/// Writes a notification of an event for a pusher; `unread` is what is unread in all rooms.
pub(super) async fn of_event(
    sender: &PushSender,
    pusher: &Pusher,
    notification: &Notification,
    unread: i64,
) -> Result<Value> {
    let event = &notification.event.event;
    let mut said = Map::new();
    let mut say = |key: &str, value: Value| said.insert(key.to_owned(), value);
    say("event_id", event.event_id().as_str().into());
    // What it was called before the push gateway API had a version; Synapse says it to this day.
    say("id", event.event_id().as_str().into());
    say("room_id", event.room_id().as_str().into());
    say("prio", prio(notification).into());
    say("counts", json!({ "unread": unread }));
    say("devices", json!([device(pusher, &notification.tweaks)]));
    if pusher.is_id_only {
        return Ok(json!({ "notification": said }));
    }
    let user_id = sender.context.interned.user_id(pusher.key.user).await?;
    let content: Value = serde_json::from_str(event.content().get()).unwrap_or_default();
    let event_type = event.event_type().to_string();
    if event_type == "m.room.member" {
        say("user_is_target", (event.state_key() == Some(user_id.as_str())).into());
        say("membership", content["membership"].clone());
    }
    say("type", event_type.into());
    say("sender", event.sender().as_str().into());
    say("content", content);
    let from = members::get(&sender.context.db, notification.room, notification.event.sender);
    let name = from.await?.and_then(|member| member.display_name);
    say(
        "sender_display_name",
        name.unwrap_or_else(|| event.sender().localpart().to_owned()).into(),
    );
    let (name, alias) = match notification.is_invite {
        true => shown(sender, notification).await?,
        false => {
            let summary = summaries::get(&sender.context.db, notification.room).await?;
            let summary = summary.unwrap_or_default();
            (summary.name, summary.canonical_alias)
        }
    };
    let name = match name.or_else(|| alias.clone()) {
        Some(name) => Some(name),
        None => called(sender, notification.room, (&user_id, pusher.key.user)).await?,
    };
    if let Some(name) = name {
        say("room_name", name.into());
    }
    if let Some(alias) = alias {
        say("room_alias", alias.into());
    }
    Ok(json!({ "notification": said }))
}

/// Writes that something else is unread now.
pub(super) fn of_badge(pusher: &Pusher, unread: i64) -> Value {
    json!({ "notification": {
        "prio": "low",
        "counts": { "unread": unread },
        "devices": [device(pusher, &Map::new())],
    } })
}

/// Says how urgent it is: a telephone sleeps through what is low. Of what is encrypted only the telephone knows.
fn prio(notification: &Notification) -> &'static str {
    let is_encrypted = notification.event.event.event_type().to_string() == "m.room.encrypted";
    match !notification.tweaks.is_empty() || is_encrypted {
        true => "high",
        false => "low",
    }
}

fn device(pusher: &Pusher, tweaks: &Map<String, Value>) -> Value {
    let mut device = json!({
        "app_id": pusher.key.app_id,
        "pushkey": pusher.key.pushkey,
        "pushkey_ts": pusher.created_ts / 1_000,
        "data": pusher.data,
    });
    if !pusher.is_id_only {
        device["tweaks"] = tweaks.clone().into();
    }
    device
}

/// Returns the name and the alias that whoever is invited is shown of a room, which may be one of another server.
async fn shown(
    sender: &PushSender,
    notification: &Notification,
) -> Result<(Option<String>, Option<String>)> {
    let state = sender.rooms.stripped_state(&notification.event, SHOWN_BYTES_MAX).await?;
    let state: Vec<Value> =
        state.iter().filter_map(|event| serde_json::from_str(event.get()).ok()).collect();
    let said = |event_type: &str, field: &str| {
        let event = state.iter().find(|event| event["type"] == event_type)?;
        let text = event["content"][field].as_str().filter(|text| !text.is_empty())?;
        Some(text.to_owned())
    };
    Ok((said("m.room.name", "name"), said("m.room.canonical_alias", "alias")))
}

/// Calls a room after the people in it.
async fn called(
    sender: &PushSender,
    room: RoomNid,
    viewer: (&UserId, UserNid),
) -> Result<Option<String>> {
    let heroes = heroes_of(&sender.context, room, viewer).await?;
    let known = sender.context.interned.find_users(heroes.iter().map(|hero| &**hero)).await?;
    let nids: Vec<UserNid> = known.values().copied().collect();
    let members = members::many(&sender.context.db, room, &nids).await?;
    let name = |hero: &UserId| {
        let nid = known.get(hero)?;
        members.iter().find(|member| member.user == *nid)?.display_name.clone()
    };
    let names: Vec<String> = heroes
        .iter()
        .take(NAMES_MAX)
        .map(|hero| name(hero).unwrap_or_else(|| hero.localpart().to_owned()))
        .collect();
    Ok((!names.is_empty()).then(|| names.join(", ")))
}

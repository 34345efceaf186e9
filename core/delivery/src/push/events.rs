//! Handing out what is new in the streams: events to those they notify, and who read.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use colonnade_model::{
    nid::{EventNid, RoomNid, UserNid},
    stream::Position,
};
use colonnade_rooms::{Result, RoomEvent};
use colonnade_rules::push::PushOutcome;
use colonnade_storage::delivery::push::{self, StreamedEvent};

use super::{
    consider::{self, Concerned},
    pusher::Pusher,
    sender::PushSender,
    sending, unread,
};

/// Rows of a stream that are looked at together.
const TOGETHER: i64 = 200;

/// Hands out what comes next in the events stream, and returns up to where that is all.
pub(super) async fn page(
    sender: &Arc<PushSender>,
    (after, upto): (Position, Position),
) -> Result<Position> {
    let db = &sender.context.db;
    let streamed = push::events(db, (after, upto), TOGETHER).await?;
    let is_all = i64::try_from(streamed.len()).is_ok_and(|count| count < TOGETHER);
    let last = streamed.last().map_or(upto, |event| event.pos);
    let reached = if is_all { upto } else { last };
    let mut own: HashMap<Position, Vec<(UserNid, PushOutcome)>> = HashMap::new();
    for (pos, user, outcome) in push::own_outcomes(db, (after, reached)).await? {
        own.entry(pos).or_default().push((user, outcome));
    }
    let mut concerned: Vec<(StreamedEvent, Vec<UserNid>)> = Vec::new();
    let mut spoke: HashSet<(UserNid, RoomNid)> = HashSet::new();
    {
        let index = sender.index.lock();
        for event in streamed {
            if index.is_member(event.room, event.sender) {
                spoke.insert((event.sender, event.room));
            }
            let own = own.get(&event.pos).map_or(&[][..], Vec::as_slice);
            let place = (event.room, event.pos);
            let members = || index.members_at(place, event.sender).collect();
            let users = notified(&event, own, members);
            if !users.is_empty() {
                concerned.push((event, users));
            }
        }
    }
    let nids: Vec<EventNid> = concerned.iter().map(|(event, _)| event.event).collect();
    let events = sender.rooms.events(&nids).await?;
    let events: HashMap<EventNid, Arc<RoomEvent>> =
        events.into_iter().map(|event| (event.nid, event)).collect();
    for (StreamedEvent { pos, event, .. }, users) in concerned {
        let Some(event) = events.get(&event).cloned() else { continue };
        let is_invite = false;
        consider::notify(sender, Concerned { pos, event, users, is_invite }).await?;
    }
    // Who speaks has read.
    badges(sender, spoke).await?;
    Ok(reached)
}

/// Returns those members with pushers to whom an event means something.
fn notified(
    event: &StreamedEvent,
    own: &[(UserNid, PushOutcome)],
    members: impl Fn() -> HashSet<UserNid>,
) -> Vec<UserNid> {
    if !event.outcome.notifies() && own.is_empty() {
        return Vec::new();
    }
    let members = members();
    let mut users: HashSet<UserNid> = match event.outcome.notifies() {
        true => members.clone(),
        false => HashSet::new(),
    };
    for (user, outcome) in own {
        match outcome.notifies() {
            true if members.contains(user) => users.insert(*user),
            true => false,
            false => users.remove(user),
        };
    }
    users.into_iter().collect()
}

/// Has the gateways told of those who read, and returns up to where that is all.
pub(super) async fn readers(
    sender: &Arc<PushSender>,
    (after, upto): (Position, Position),
) -> Result<Position> {
    let readers = push::readers(&sender.context.db, (after, upto), TOGETHER).await?;
    let is_all = i64::try_from(readers.len()).is_ok_and(|count| count < TOGETHER);
    let last = readers.last().map_or(upto, |(pos, ..)| *pos);
    let read: HashSet<(UserNid, RoomNid)> =
        readers.into_iter().map(|(_, user, room)| (user, room)).collect();
    badges(sender, read).await?;
    Ok(if is_all { upto } else { last })
}

/// Has the gateways told of users whose unread counts changed.
async fn badges(sender: &Arc<PushSender>, of: HashSet<(UserNid, RoomNid)>) -> Result<()> {
    for (user, room) in of {
        if !sender.index.lock().has(user) {
            continue;
        }
        let badge = unread::in_all_rooms(sender, user, Some(room)).await?;
        let pushers: Vec<Arc<Pusher>> = sender.index.lock().pushers(user).to_vec();
        for pusher in pushers {
            // What is under way says how much was unread when it was made.
            let is_news = {
                let waiting = pusher.waiting.lock();
                waiting.is_sending || waiting.told_unread != badge
            };
            if is_news && pusher.badge_changed() {
                sending::start(sender, &pusher);
            }
        }
    }
    Ok(())
}

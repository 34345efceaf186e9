//! What an event means to users with pushers.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::{
    nid::{DeviceNid, UserNid},
    stream::Position,
};
use colonnade_rooms::{Result, RoomEvent};
use colonnade_rules::push::Outcome;
use colonnade_storage::rooms::{
    events::EventFlags,
    members::{self, Member, Membership},
};
use colonnade_views::timeline::{RoomContexts, Shown, Viewer};
use serde_json::{Map, Value};

use super::{
    figures::PushFigures,
    pusher::{Enqueued, Notification, Pusher},
    sender::PushSender,
    sending,
};

/// Users asked about with one statement.
const USERS_MAX: usize = 500;

/// An event, and who may be notified of it.
pub(super) struct Concerned {
    pub(super) pos: Position,
    pub(super) event: Arc<RoomEvent>,
    pub(super) users: Vec<UserNid>,
    pub(super) is_invite: bool,
}

/// Has those who are notified of an event told of it.
pub(super) async fn notify(sender: &Arc<PushSender>, concerned: Concerned) -> Result<()> {
    let Concerned { event, users, .. } = &concerned;
    if event.flags.has(EventFlags::REDACTED) {
        return Ok(());
    }
    let mut evaluator = RoomContexts::default().evaluator(&sender.rooms, event).await?;
    let db = &sender.context.db;
    for users in users.chunks(USERS_MAX) {
        let found = members::many(db, event.room, users).await?;
        let found: HashMap<UserNid, Member> =
            found.into_iter().map(|member| (member.user, member)).collect();
        let names = sender.context.interned.user_ids(users).await?;
        for (user, user_id) in users.iter().copied().zip(names) {
            let Some(member) = found.get(&user).filter(|member| is_due(&concerned, member)) else {
                continue;
            };
            let viewer = Viewer { user, user_id, device: DeviceNid(0) };
            if !concerned.is_invite && !sees(sender, &viewer, &concerned, member).await? {
                continue;
            }
            let name = member.display_name.as_deref().unwrap_or(viewer.user_id.localpart());
            let rules = sender.push.rules_of(user).await?;
            let outcome = evaluator.evaluate(&viewer.user_id, name, &rules);
            if outcome.notify() {
                let notification = Arc::new(Notification {
                    pos: concerned.pos,
                    room: event.room,
                    event: Arc::clone(event),
                    tweaks: tweaks(&outcome),
                    is_invite: concerned.is_invite,
                });
                hand_out(sender, user, &notification);
            }
        }
    }
    Ok(())
}

fn is_due(concerned: &Concerned, member: &Member) -> bool {
    match concerned.is_invite {
        true => member.membership == Membership::Invite && member.event == concerned.event.nid,
        false => member.membership == Membership::Join,
    }
}

/// Tells whether a member may see an event; whoever came after it may not, perhaps.
async fn sees(
    sender: &PushSender,
    viewer: &Viewer,
    concerned: &Concerned,
    member: &Member,
) -> Result<bool> {
    if member.pos < concerned.pos {
        return Ok(true);
    }
    let shown = vec![Shown::from(Arc::clone(&concerned.event))];
    Ok(!sender.timeline.visible(viewer, shown).await?.is_empty())
}

/// Says how it is notified.
///
/// Source: Matrix v1.19, push gateway API, `devices[].tweaks`.
fn tweaks(outcome: &Outcome<'_>) -> Map<String, Value> {
    let mut tweaks = Map::new();
    if let Some(sound) = outcome.sound() {
        tweaks.insert("sound".to_owned(), sound.into());
    }
    if outcome.highlight() {
        tweaks.insert("highlight".to_owned(), true.into());
    }
    tweaks
}

/// Hands a notification to the pushers of a user who were not told of it.
fn hand_out(sender: &Arc<PushSender>, user: UserNid, notification: &Arc<Notification>) {
    let pushers: Vec<Arc<Pusher>> = sender.index.lock().pushers(user).to_vec();
    for pusher in pushers.iter().filter(|pusher| pusher.begin() < notification.pos) {
        let added = pusher.add(Arc::clone(notification));
        match added {
            Enqueued::Start => sending::start(sender, pusher),
            Enqueued::Waits => {}
            Enqueued::InsteadOf => PushFigures::count(&sender.figures.left_out),
        }
    }
}

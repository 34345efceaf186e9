//! Reading who has pushers, and where the users are.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::{
    nid::{RoomNid, UserNid},
    ruma::OwnedUserId,
    stream::Position,
};
use colonnade_rooms::Result;
use colonnade_storage::delivery::push::{self, Place, StoredPusher};

use super::{
    consider::{self, Concerned},
    pusher::Pusher,
    sender::{PushSender, shard_of},
    sending,
};

/// Reads the pushers and rooms of users. A pusher that is not known yet begins where `begin` says.
pub(super) async fn read(
    sender: &Arc<PushSender>,
    users: &[(UserNid, OwnedUserId)],
    begin: impl Fn(i64, &StoredPusher) -> Position,
) -> Result<()> {
    let db = &sender.context.db;
    let nids: Vec<UserNid> = users.iter().map(|(user, _)| *user).collect();
    let mut pushers: HashMap<UserNid, Vec<StoredPusher>> = HashMap::new();
    for stored in push::of_users(db, &nids).await? {
        pushers.entry(stored.key.user).or_default().push(stored);
    }
    let owners: Vec<UserNid> = pushers.keys().copied().collect();
    let mut rooms: HashMap<UserNid, Vec<RoomNid>> = HashMap::new();
    let mut invites: Vec<Place> = Vec::new();
    for place in push::places(db, &owners).await? {
        match place.is_invite {
            true => invites.push(place),
            false => rooms.entry(place.user).or_default().push(place.room),
        }
    }
    let mut changed_ones: Vec<Arc<Pusher>> = Vec::new();
    {
        let mut index = sender.index.lock();
        for (user, name) in users {
            let shard = shard_of(name);
            let of_user = pushers.remove(user).unwrap_or_default().into_iter().map(|stored| {
                match index.find(&stored.key).filter(|known| !known.is_ended()) {
                    Some(known) if known.is(&stored) => Arc::clone(known),
                    Some(changed) => {
                        let pusher = Pusher::new(stored, shard, changed.begin());
                        pusher.inherit(changed);
                        changed_ones.push(Arc::new(pusher));
                        Arc::clone(&changed_ones[changed_ones.len() - 1])
                    }
                    None => {
                        let begin = begin(shard, &stored);
                        Arc::new(Pusher::new(stored, shard, begin))
                    }
                }
            });
            let of_user: Vec<Arc<Pusher>> = of_user.collect();
            if index.put(*user, of_user, rooms.remove(user).unwrap_or_default()) {
                sender.badges.forget(*user);
            }
        }
    }
    for pusher in changed_ones.iter().filter(|pusher| pusher.is_inherited()) {
        sending::start(sender, pusher);
    }
    invites.sort_by_key(|place| place.pos);
    for invite in invites {
        invited(sender, invite).await?;
    }
    Ok(())
}

/// Has a user told of an invitation.
async fn invited(sender: &Arc<PushSender>, place: Place) -> Result<()> {
    let Place { user, event, pos, .. } = place;
    if sender.index.lock().invites_upto(user).is_none_or(|upto| upto >= pos) {
        return Ok(());
    }
    if let Some(event) = sender.rooms.event(event).await? {
        let is_invite = true;
        consider::notify(sender, Concerned { pos, event, users: vec![user], is_invite }).await?;
    }
    sender.index.lock().saw_invites(user, pos);
    Ok(())
}

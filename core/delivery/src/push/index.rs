//! Who has pushers here, and in which rooms: asked of every event, without the database.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::Position,
};
use colonnade_storage::delivery::push::PusherKey;

use super::pusher::Pusher;

/// A user with pushers.
pub(super) struct PusherOwner {
    pub(super) pushers: Vec<Arc<Pusher>>,
    rooms: Vec<RoomNid>,
    /// Up to where invitations were looked at.
    pub(super) invites_upto: Position,
}

/// The users whose pushers are this process's, about 40 bytes for each room of each.
#[derive(Default)]
pub(super) struct Index {
    owners: HashMap<UserNid, PusherOwner>,
    members: HashMap<RoomNid, HashSet<UserNid>>,
}

impl Index {
    /// Returns a user's pushers.
    pub(super) fn pushers(&self, user: UserNid) -> &[Arc<Pusher>] {
        self.owners.get(&user).map_or(&[], |owner| &owner.pushers)
    }

    /// Returns every pusher.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Pusher>> {
        self.owners.values().flat_map(|owner| &owner.pushers)
    }

    /// Returns a pusher that is known already.
    pub(super) fn find(&self, key: &PusherKey) -> Option<&Arc<Pusher>> {
        self.pushers(key.user).iter().find(|pusher| pusher.key == *key)
    }

    /// Tells whether a user has pushers.
    pub(super) fn has(&self, user: UserNid) -> bool {
        self.owners.contains_key(&user)
    }

    /// Returns up to where a user's invitations were looked at.
    pub(super) fn invites_upto(&self, user: UserNid) -> Option<Position> {
        self.owners.get(&user).map(|owner| owner.invites_upto)
    }

    /// Notes up to where a user's invitations were looked at.
    pub(super) fn saw_invites(&mut self, user: UserNid, upto: Position) {
        if let Some(owner) = self.owners.get_mut(&user) {
            owner.invites_upto = owner.invites_upto.max(upto);
        }
    }

    /// Returns the members of a room with pushers that what is at a position is for, but for one.
    pub(super) fn members_at(
        &self,
        (room, pos): (RoomNid, Position),
        not: UserNid,
    ) -> impl Iterator<Item = UserNid> {
        let members = self.members.get(&room).into_iter().flatten().copied();
        members.filter(move |user| {
            *user != not && self.pushers(*user).iter().any(|pusher| pusher.begin() < pos)
        })
    }

    /// Tells whether a user with pushers is in a room.
    pub(super) fn is_member(&self, room: RoomNid, user: UserNid) -> bool {
        self.members.get(&room).is_some_and(|members| members.contains(&user))
    }

    /// Replaces what is known of a user; without pushers he is forgotten. Returns whether his rooms are others.
    pub(super) fn put(
        &mut self,
        user: UserNid,
        pushers: Vec<Arc<Pusher>>,
        mut rooms: Vec<RoomNid>,
    ) -> bool {
        rooms.sort_unstable();
        let before = self.owners.remove(&user);
        let invites_upto = before.as_ref().map(|owner| owner.invites_upto);
        let moved = before.as_ref().is_some_and(|before| before.rooms != rooms);
        if let Some(owner) = before {
            for room in owner.rooms {
                if let Some(members) = self.members.get_mut(&room) {
                    members.remove(&user);
                    if members.is_empty() {
                        self.members.remove(&room);
                    }
                }
            }
            for gone in owner.pushers {
                if !pushers.iter().any(|pusher| Arc::ptr_eq(pusher, &gone)) {
                    gone.end();
                }
            }
        }
        if pushers.is_empty() {
            return moved;
        }
        for room in &rooms {
            self.members.entry(*room).or_default().insert(user);
        }
        let begin = pushers.iter().map(|pusher| pusher.begin()).min().unwrap_or(0);
        let invites_upto = invites_upto.unwrap_or(begin);
        self.owners.insert(user, PusherOwner { pushers, rooms, invites_upto });
        moved
    }

    /// Forgets everybody but these.
    pub(super) fn keep(&mut self, users: &HashSet<UserNid>) {
        let gone: Vec<UserNid> =
            self.owners.keys().filter(|user| !users.contains(user)).copied().collect();
        for user in gone {
            self.put(user, Vec::new(), Vec::new());
        }
    }
}

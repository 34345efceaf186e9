//! What other servers are told of who is here.
//!
//! Source: Matrix v1.19, server-server, "Presence".

use colonnade_model::{
    nid::{RoomNid, UserNid},
    ruma::presence::PresenceState,
    stream::Position,
};
use colonnade_rooms::Result;
use colonnade_storage::users::presence as rows;
use serde_json::Value;

use super::{Presence, UserPresence};

/// Users whose change is told to other servers in one step; of more, they hear when it is said again.
const CHANGED_MAX: usize = 5_000;

impl Presence {
    /// Returns the users of this server whose change was told after `after`, the latest first.
    pub fn own_since(&self, after: Position) -> Vec<UserNid> {
        let users = self.users.lock();
        let range = (after.saturating_add(1), UserNid(i64::MIN))..;
        let changed = users.by_pos.range(range).rev().map(|(_, user)| *user);
        let own =
            changed.filter(|user| users.known.get(user).is_some_and(|known| !known.is_remote));
        own.take(CHANGED_MAX).collect()
    }

    /// Returns the users of this server who are not offline.
    pub fn own_present(&self) -> Vec<UserNid> {
        let users = self.users.lock();
        users
            .known
            .iter()
            .filter(|(_, known)| known.is_own_present())
            .map(|(user, _)| *user)
            .collect()
    }

    /// Returns the users of this server in a room who are not offline.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn own_present_in(&self, room: RoomNid) -> Result<Vec<UserNid>> {
        let (mut present, unsure) = {
            let users = self.users.lock();
            let own = users.known.iter().filter(|(_, known)| known.is_own_present());
            let (mut present, mut unsure) = (Vec::new(), Vec::new());
            for (user, known) in own {
                match users.may_have_moved(*user) {
                    true => unsure.push(*user),
                    false if known.rooms.contains(&room) => present.push(*user),
                    false => {}
                }
            }
            (present, unsure)
        };
        present.extend(rows::joined_of(&self.context.db, room, &unsure).await?);
        Ok(present)
    }

    /// Returns what other servers are told of users as of now, those of whom something is known.
    pub fn contents(&self, users: &[UserNid]) -> Vec<(UserNid, Value)> {
        let now_ms = self.context.now_ms();
        let of = self.users.lock();
        let known = users.iter().filter_map(|user| Some((*user, of.known.get(user)?)));
        known.map(|(user, known)| (user, known.content(now_ms))).collect()
    }
}

impl UserPresence {
    fn is_own_present(&self) -> bool {
        !self.is_remote && self.state != PresenceState::Offline
    }
}

//! What a user is shown of others, and of himself.

use std::collections::HashSet;

use colonnade_model::{
    MatrixError,
    nid::{RoomNid, UserNid},
    ruma::{OwnedUserId, UserId, presence::PresenceState},
    session::Session,
    stream::Position,
};
use colonnade_rooms::Result;
use colonnade_storage::users::presence as rows;
use serde_json::{Value, json};

use super::{Presence, UserPresence};

/// Changes told in one answer; older ones are left out, for presence is a hint.
const CHANGES_MAX: usize = 500;
/// Changes looked at for one answer, whoever they concern.
const LOOKED_AT_MAX: usize = 5_000;
/// Newcomers who are offline told in one answer: clients take whom they are not told of for offline, too.
const OFFLINE_MAX: usize = 50;

impl Presence {
    /// Returns the presence of a user, as the content of `m.presence`.
    ///
    /// # Errors
    /// `M_NOT_FOUND` for an unknown user, `M_FORBIDDEN` when no room is shared.
    pub async fn get(&self, session: &Session, user_id: &UserId) -> Result<Value> {
        let user = self.context.interned.find_user(user_id).await?;
        let user = user.ok_or_else(|| MatrixError::not_found("no such user"))?;
        let is_own = user == session.user;
        if !is_own && rows::sharing_of(&self.context.db, session.user, &[user]).await?.is_empty() {
            let why = "only users you share a room with show you their presence";
            return Err(MatrixError::forbidden(why).into());
        }
        let known = self.users.lock().known.get(&user).cloned();
        Ok(content_of(known.as_ref(), self.context.now_ms()))
    }

    /// Tells whether anything is known of a user.
    pub fn knows(&self, user: UserNid) -> bool {
        self.users.lock().known.contains_key(&user)
    }

    /// Returns the `m.presence` events that changed above `after` and up to `upto`: that of `viewer`
    /// himself, and of users who are in one of `rooms`, those that he is joined to. With `after` 0,
    /// everybody who is not offline.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn changes(
        &self,
        viewer: UserNid,
        rooms: &HashSet<RoomNid>,
        after: Position,
        upto: Position,
    ) -> Result<Vec<Value>> {
        let mut shown: Vec<_> = self.own_change(viewer, after, upto).into_iter().collect();
        shown.extend(match after {
            0 => self.all_shown(viewer, rooms).await?,
            _ => self.changed(viewer, rooms, after, upto),
        });
        shown.truncate(CHANGES_MAX);
        let nids: Vec<UserNid> = shown.iter().map(|(user, _)| *user).collect();
        let names = self.context.interned.user_ids(&nids).await?;
        let now_ms = self.context.now_ms();
        let events = shown.iter().zip(&names);
        Ok(events.map(|((_, known), sender)| event(sender, known.content(now_ms))).collect())
    }

    /// Tells whether a user's own last change is above a position.
    pub fn has_own_change(&self, user: UserNid, after: Position) -> bool {
        self.users.lock().known.get(&user).is_some_and(|known| known.own_pos > after)
    }

    /// Returns the last change of a user himself, if it is in this range, or the range begins with 0.
    fn own_change(
        &self,
        user: UserNid,
        after: Position,
        upto: Position,
    ) -> Option<(UserNid, UserPresence)> {
        let users = self.users.lock();
        let is_shown =
            |known: &&UserPresence| after == 0 || known.own_pos > after && known.own_pos <= upto;
        users.known.get(&user).filter(is_shown).map(|known| (user, known.clone()))
    }

    /// In memory alone: everybody who waits asks this after each change. Who shares a room is as noted
    /// when the change was told: whoever came since is told of by [`Presence::of_newcomers`].
    fn changed(
        &self,
        viewer: UserNid,
        rooms: &HashSet<RoomNid>,
        after: Position,
        upto: Position,
    ) -> Vec<(UserNid, UserPresence)> {
        let users = self.users.lock();
        let above = after.saturating_add(1);
        let range = (above, UserNid(i64::MIN))..=(upto.max(above), UserNid(i64::MAX));
        let latest_first = users.by_pos.range(range).rev().take(LOOKED_AT_MAX);
        let shown = latest_first.filter_map(|(pos, user)| {
            let known = users.known.get(user).filter(|_| *pos <= upto && *user != viewer)?;
            known.is_in_any(rooms).then(|| (*user, known.clone()))
        });
        shown.take(CHANGES_MAX).collect()
    }

    /// Returns everybody who is not offline, for a client that was told nothing yet, whether the change
    /// was told to others or not. Nobody is told to it later because of a membership from before, so those
    /// whose noted rooms may be old are looked up.
    async fn all_shown(
        &self,
        viewer: UserNid,
        rooms: &HashSet<RoomNid>,
    ) -> Result<Vec<(UserNid, UserPresence)>> {
        let (mut shown, unsure) = {
            let users = self.users.lock();
            let untold: HashSet<UserNid> =
                users.due.iter().chain(&users.asked).take(LOOKED_AT_MAX).copied().collect();
            let told = users.by_pos.iter().rev().map(|(_, user)| *user);
            let told = told.filter(|user| !untold.contains(user));
            let latest_first = untold.iter().copied().chain(told).filter_map(|user| {
                let known = users.known.get(&user).filter(|_| user != viewer)?;
                (known.state != PresenceState::Offline).then_some((user, known))
            });
            let (mut shown, mut unsure) = (Vec::new(), Vec::new());
            for (user, known) in latest_first.take(LOOKED_AT_MAX) {
                match users.may_have_moved(user) {
                    true => unsure.push((user, known.clone())),
                    false if known.is_in_any(rooms) => shown.push((user, known.clone())),
                    false => {}
                }
                if shown.len() >= CHANGES_MAX {
                    break;
                }
            }
            (shown, unsure)
        };
        let asked: Vec<UserNid> = unsure.iter().map(|(user, _)| *user).collect();
        let sharing: HashSet<UserNid> =
            rows::sharing_of(&self.context.db, viewer, &asked).await?.into_iter().collect();
        shown.splice(0..0, unsure.into_iter().filter(|(user, _)| sharing.contains(user)));
        Ok(shown)
    }

    /// Returns the `m.presence` events of users who newly share a room with `viewer`, those who are offline
    /// last and not all. That a room is shared is the caller's to know, and that their last change was told
    /// is, by [`Presence::tell_now`].
    pub fn of_newcomers(
        &self,
        viewer: UserNid,
        newcomers: &[&(OwnedUserId, UserNid)],
    ) -> Vec<Value> {
        let now_ms = self.context.now_ms();
        let users = self.users.lock();
        let others = newcomers.iter().copied().filter(|(_, user)| *user != viewer);
        let (offline, there): (Vec<_>, Vec<_>) = others.partition(|(_, user)| {
            users.known.get(user).is_none_or(|known| known.state == PresenceState::Offline)
        });
        let shown = there.into_iter().chain(offline.into_iter().take(OFFLINE_MAX));
        let events =
            shown.map(|(name, user)| event(name, content_of(users.known.get(user), now_ms)));
        events.take(CHANGES_MAX).collect()
    }
}

/// Returns the content of `m.presence` of a user of whom something is known, or not.
fn content_of(known: Option<&UserPresence>, now_ms: i64) -> Value {
    known.map_or_else(|| json!({ "presence": "offline" }), |known| known.content(now_ms))
}

fn event(sender: &UserId, content: Value) -> Value {
    json!({ "type": "m.presence", "sender": sender, "content": content })
}

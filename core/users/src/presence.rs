//! Who is there. Lives in memory: a restart forgets it, and the next syncs say it again. Each process
//! is told by the one that heard it, again and again while the user is there.
//!
//! A user is there as long as one of the user's clients syncs, and a little longer. Only users who
//! share a room are told, and only of what changed, never of mere activity: the first change at once,
//! what follows in steps ([`telling`]), since everybody who logs in concerns everybody in the rooms.
//!
//! Source: Matrix v1.19, client-server, "Presence".

mod receive;
mod telling;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{RoomNid, UserNid},
    ruma::{OwnedUserId, UserId, presence::PresenceState},
    stream::Position,
};
use colonnade_replication::ephemeral::{Channel, Receivers};
use colonnade_rooms::{Context, Result};
use colonnade_storage::users::presence as rows;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;

pub use receive::RemotePresence;

/// Tells other processes who is there.
static CHANNEL: Channel<PresenceUpdate> = Channel::new("Presence");
/// Users whose presence is kept, about 150 bytes and 8 a room each; past it, more are simply not
/// shown.
const USERS_MAX: usize = 100_000;
/// Changes told in one answer; older ones are left out, for presence is a hint.
const CHANGES_MAX: usize = 500;
/// Changes looked at for one answer, whoever they concern.
const LOOKED_AT_MAX: usize = 5_000;
/// How long after a client's last sync ended its user is still there, in milliseconds.
const GRACE_MS: i64 = 30_000;
/// How long a user without a change counts as currently active, in milliseconds.
const ACTIVE_MS: i64 = 60_000;
/// How long before other processes take a user for gone they are told again, in milliseconds.
const TELL_AGAIN_MS: i64 = GRACE_MS + 10_000;
/// How long a client's sync waits at most, as far as this is concerned, in milliseconds.
const WAIT_MS_MAX: i64 = 300_000;
/// How long what another server says of its users holds, in milliseconds: servers in use say it again
/// within 25 minutes.
const REMOTE_MS: i64 = 30 * 60 * 1_000;
/// How often those who went are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// The longest status message, in bytes.
const STATUS_BYTES_MAX: usize = 1_024;

/// What is known of a user.
#[derive(Debug, Clone)]
struct UserPresence {
    state: PresenceState,
    status_msg: Option<String>,
    /// Milliseconds since 1970.
    last_active_ms: i64,
    /// When the user counts as gone unless heard of; milliseconds since 1970.
    gone_ms: i64,
    /// The last change that was told.
    pos: Position,
    /// Nothing has changed since.
    is_announced: bool,
    /// The rooms joined: who shares one is told.
    rooms: Arc<[RoomNid]>,
    /// `gone_ms` as other processes were told it last.
    announced_ms: i64,
    /// Another server says it.
    is_remote: bool,
}

/// What one process tells the others of a user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PresenceUpdate {
    user: UserNid,
    state: PresenceState,
    status_msg: Option<String>,
    last_active_ms: i64,
    gone_ms: i64,
    /// Another server says it.
    #[serde(default)]
    is_remote: bool,
}

/// Everybody's presence, and the order of the last changes.
#[derive(Default)]
struct Users {
    known: HashMap<UserNid, UserPresence>,
    by_pos: BTreeSet<(Position, UserNid)>,
    /// Whose change was not told yet.
    due: HashSet<UserNid>,
    /// Whose rooms may be others than noted.
    moved: HashSet<UserNid>,
    /// Those of them whose rooms are being read.
    asked: HashSet<UserNid>,
}

impl Users {
    /// Tells whether the rooms noted of a user may be others than the user's.
    fn may_have_moved(&self, user: UserNid) -> bool {
        self.moved.contains(&user) || self.asked.contains(&user)
    }

    /// Returns what is known of a user, who is offline if nothing was; `None` when no more are kept.
    fn known(&mut self, user: UserNid, now_ms: i64) -> Option<&mut UserPresence> {
        if !self.known.contains_key(&user) && self.known.len() >= USERS_MAX {
            return None;
        }
        Some(self.known.entry(user).or_insert_with(|| UserPresence {
            state: PresenceState::Offline,
            status_msg: None,
            last_active_ms: now_ms,
            gone_ms: 0,
            pos: 0,
            is_announced: true,
            rooms: Arc::default(),
            announced_ms: 0,
            is_remote: false,
        }))
    }
}

/// Presence.
pub struct Presence {
    context: Arc<Context>,
    users: Mutex<Users>,
    /// There is something to tell.
    news: Arc<Notify>,
}

/// What a client or the passing of time says about a user.
struct Change {
    state: PresenceState,
    /// `None` leaves the status message alone.
    status_msg: Option<Option<String>>,
    gone_ms: i64,
    active: bool,
}

impl Presence {
    /// Begins with nobody there, and to tell changes as long as the service lives.
    pub fn start(context: Arc<Context>) -> Arc<Self> {
        let news = Arc::new(Notify::new());
        let presence = Arc::new(Self { context, users: Mutex::default(), news });
        presence.begin_telling(Arc::clone(&presence.news));
        presence
    }

    /// Notes what a user says.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for an overlong status message.
    pub fn set(
        &self,
        session: &Session,
        state: PresenceState,
        status_msg: Option<String>,
    ) -> Result<()> {
        if status_msg.as_ref().is_some_and(|text| text.len() > STATUS_BYTES_MAX) {
            let why = format!("status_msg is longer than {STATUS_BYTES_MAX} bytes");
            return Err(MatrixError::invalid_param(why).into());
        }
        let gone_ms = self.context.now_ms() + GRACE_MS;
        let change = Change { state, status_msg: Some(status_msg), gone_ms, active: true };
        self.apply(session.user, change);
        Ok(())
    }

    /// Notes that a client syncs for up to `wait_ms`. Costs nothing when that is no news.
    pub fn syncs(&self, user: UserNid, state: &PresenceState, wait_ms: u64) {
        if *state == PresenceState::Offline {
            return;
        }
        let wait_ms =
            i64::try_from(wait_ms).map_or(WAIT_MS_MAX, |wait_ms| wait_ms.min(WAIT_MS_MAX));
        let gone_ms = self.context.now_ms() + wait_ms + GRACE_MS;
        let active = *state == PresenceState::Online;
        self.apply(user, Change { state: state.clone(), status_msg: None, gone_ms, active });
    }

    fn apply(&self, user: UserNid, change: Change) {
        let now_ms = self.context.now_ms();
        let mut users = self.users.lock();
        let Some(known) = users.known(user, now_ms) else { return };
        if change.active {
            known.last_active_ms = now_ms;
        }
        known.gone_ms = known.gone_ms.max(change.gone_ms);
        let is_news = known.state != change.state
            || change.status_msg.as_ref().is_some_and(|said| *said != known.status_msg);
        known.state = change.state;
        if let Some(said) = change.status_msg {
            known.status_msg = said;
        }
        if is_news || known.announced_ms - now_ms < TELL_AGAIN_MS {
            known.announced_ms = known.gone_ms;
            CHANNEL.send(&self.context.streams, &known.as_heard(user));
        }
        if is_news {
            known.is_announced = false;
            users.due.insert(user);
            self.news.notify_one();
        }
    }

    /// Takes in what other processes say of who is there.
    #[must_use]
    pub fn listen(self: &Arc<Self>, receivers: Receivers) -> Receivers {
        receivers.on(&CHANNEL, self, Self::heard)
    }

    /// Takes in what another process heard of a user.
    pub(crate) fn heard(&self, heard: PresenceUpdate) {
        let PresenceUpdate { user, state, status_msg, last_active_ms, gone_ms, is_remote } = heard;
        let mut users = self.users.lock();
        let Some(known) = users.known(user, last_active_ms) else { return };
        known.last_active_ms = known.last_active_ms.max(last_active_ms);
        known.gone_ms = known.gone_ms.max(gone_ms);
        known.is_remote = is_remote;
        if known.state != state || known.status_msg != status_msg {
            known.state = state;
            known.status_msg = status_msg;
            known.is_announced = false;
            users.due.insert(user);
            self.news.notify_one();
        }
    }

    /// Marks those who were not heard of as offline, and forgets those who long were.
    pub(crate) fn sweep(&self) {
        let now_ms = self.context.now_ms();
        let mut users = self.users.lock();
        let Users { known, by_pos, due, .. } = &mut *users;
        let before = due.len();
        for (user, known) in known.iter_mut() {
            known.bound(now_ms);
            if known.state != PresenceState::Offline && known.gone_ms <= now_ms {
                known.state = PresenceState::Offline;
                known.is_announced = false;
                due.insert(*user);
            }
        }
        if due.len() > before {
            self.news.notify_one();
        }
        if known.len() >= USERS_MAX {
            known.retain(|user, known| known.state != PresenceState::Offline || due.contains(user));
            by_pos.retain(|(_, user)| known.contains_key(user));
        }
    }

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
        Ok(match known {
            Some(known) => known.content(self.context.now_ms()),
            None => json!({ "presence": "offline" }),
        })
    }

    /// Returns the `m.presence` events of others that changed above `after` and up to `upto`, for
    /// users who are in one of `rooms`, those that `viewer` is joined to. With `after` 0, everybody
    /// who is not offline.
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
        let mut shown = match after {
            0 => self.all_shown(viewer, rooms, upto).await?,
            _ => self.changed(viewer, rooms, after, upto),
        };
        shown.truncate(CHANGES_MAX);
        let nids: Vec<UserNid> = shown.iter().map(|(user, _)| *user).collect();
        let names = self.context.interned.user_ids(&nids).await?;
        let now_ms = self.context.now_ms();
        let events = shown.into_iter().zip(names).map(|((_, known), sender)| {
            json!({ "type": "m.presence", "sender": sender, "content": known.content(now_ms) })
        });
        Ok(events.collect())
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

    /// Returns everybody who is not offline, for a client that was told nothing yet. Nobody is told to
    /// it later because of a membership from before, so those whose noted rooms may be old are looked
    /// up.
    async fn all_shown(
        &self,
        viewer: UserNid,
        rooms: &HashSet<RoomNid>,
        upto: Position,
    ) -> Result<Vec<(UserNid, UserPresence)>> {
        let (mut shown, unsure) = {
            let users = self.users.lock();
            let latest_first = users.by_pos.iter().rev().filter_map(|(pos, user)| {
                let known = users.known.get(user).filter(|_| *pos <= upto && *user != viewer)?;
                (known.state != PresenceState::Offline).then_some((*user, known))
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
        let sharing = rows::sharing_of(&self.context.db, viewer, &asked).await?;
        shown.splice(0..0, unsure.into_iter().filter(|(user, _)| sharing.contains(user)));
        Ok(shown)
    }

    /// Returns the `m.presence` events of users who newly share a room with `viewer`, those who are not
    /// offline. Whose last change is told above `upto` is left to the answer that tells it: it is told
    /// to the rooms the user was in by then. That a room is shared is the caller's to know.
    pub fn of_newcomers(
        &self,
        viewer: UserNid,
        users: &[&(OwnedUserId, UserNid)],
        upto: Position,
    ) -> Vec<Value> {
        let now_ms = self.context.now_ms();
        let of = self.users.lock();
        let shown = users.iter().filter_map(|(name, user)| {
            let known = of.known.get(user).filter(|known| {
                known.is_announced
                    && known.pos <= upto
                    && known.state != PresenceState::Offline
                    && *user != viewer
            })?;
            let content = known.content(now_ms);
            Some(json!({ "type": "m.presence", "sender": name, "content": content }))
        });
        shown.take(CHANGES_MAX).collect()
    }
}

impl UserPresence {
    /// Tells whether the user is in one of these rooms, as noted.
    fn is_in_any(&self, rooms: &HashSet<RoomNid>) -> bool {
        self.rooms.iter().any(|room| rooms.contains(room))
    }

    /// Takes back what cannot be, since it is too far ahead: the clock was set back meanwhile.
    fn bound(&mut self, now_ms: i64) {
        let latest_ms = now_ms + if self.is_remote { REMOTE_MS } else { WAIT_MS_MAX + GRACE_MS };
        self.gone_ms = self.gone_ms.min(latest_ms);
        self.announced_ms = self.announced_ms.min(latest_ms);
        self.last_active_ms = self.last_active_ms.min(now_ms);
    }

    fn as_heard(&self, user: UserNid) -> PresenceUpdate {
        PresenceUpdate {
            user,
            state: self.state.clone(),
            status_msg: self.status_msg.clone(),
            last_active_ms: self.last_active_ms,
            gone_ms: self.gone_ms,
            is_remote: self.is_remote,
        }
    }

    fn content(&self, now_ms: i64) -> Value {
        let ago = (now_ms - self.last_active_ms).max(0);
        let is_active = self.state == PresenceState::Online && ago < ACTIVE_MS;
        let mut content = json!({
            "presence": self.state,
            "last_active_ago": ago,
            "currently_active": is_active,
        });
        if let Some(text) = &self.status_msg {
            content["status_msg"] = text.clone().into();
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> UserPresence {
        UserPresence {
            state: PresenceState::Online,
            status_msg: None,
            last_active_ms: 1_000_000,
            gone_ms: 1_030_000,
            pos: 0,
            is_announced: true,
            rooms: [RoomNid(1), RoomNid(2)].into(),
            announced_ms: 1_030_000,
            is_remote: false,
        }
    }

    #[test]
    fn a_user_is_active_for_a_minute_after_the_last_action() {
        for (state, after_ms, active) in [
            (PresenceState::Online, 0, true),
            (PresenceState::Online, ACTIVE_MS - 1, true),
            (PresenceState::Online, ACTIVE_MS, false),
            (PresenceState::Unavailable, 0, false),
            (PresenceState::Offline, 0, false),
        ] {
            let content = UserPresence { state, ..known() }.content(1_000_000 + after_ms);
            assert_eq!(content["currently_active"], active, "{content}");
            assert_eq!(content["last_active_ago"], after_ms, "{content}");
            assert!(content.get("status_msg").is_none());
        }
    }

    #[test]
    fn nobody_was_active_in_the_future() {
        let content = known().content(500_000);
        assert_eq!(
            (&content["last_active_ago"], &content["currently_active"]),
            (&json!(0), &json!(true))
        );
        let said = UserPresence { status_msg: Some("out".to_owned()), ..known() }.content(500_000);
        assert_eq!(said["status_msg"], "out");
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nobody_online() {
        let mut far = UserPresence { gone_ms: i64::MAX, announced_ms: i64::MAX, ..known() };
        far.bound(2_000);
        let latest = 2_000 + WAIT_MS_MAX + GRACE_MS;
        assert_eq!((far.gone_ms, far.announced_ms, far.last_active_ms), (latest, latest, 2_000));
        let mut near = known();
        near.bound(1_010_000);
        assert_eq!(
            (near.gone_ms, near.last_active_ms),
            (1_030_000, 1_000_000),
            "nothing to take back"
        );
    }

    #[test]
    fn presence_is_for_those_who_share_a_room() {
        let rooms = |nids: &[i64]| nids.iter().map(|nid| RoomNid(*nid)).collect::<HashSet<_>>();
        assert!(known().is_in_any(&rooms(&[7, 2])));
        assert!(!known().is_in_any(&rooms(&[7])));
        assert!(!known().is_in_any(&rooms(&[])));
    }
}

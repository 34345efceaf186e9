//! Who is there. Lives in memory: a restart forgets it, and the next syncs say it again. Each process
//! is told by the one that heard it, again and again while the user is there.
//!
//! A user is there as long as one of the user's clients syncs, and a little longer. Only users who
//! share a room are told, and only of what changed, never of mere activity: the first change at once,
//! what follows in steps ([`telling`]), since everybody who logs in concerns everybody in the rooms.
//!
//! Source: Matrix v1.19, client-server, "Presence".

mod early;
mod outgoing;
mod receive;
mod shown;
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
    ruma::presence::PresenceState,
    stream::{Position, Stream, Touch},
};
use colonnade_replication::ephemeral::{Channel, Receivers};
use colonnade_rooms::{Context, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;

use early::Early;

pub use early::RemotePresence;

/// Tells other processes who is there.
static CHANNEL: Channel<PresenceUpdate> = Channel::new("Presence");
/// Users whose presence is kept, about 150 bytes and 8 a room each; past it, more are simply not
/// shown.
const USERS_MAX: usize = 100_000;
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
    /// Where the user himself is told of his last change: at once, since it concerns nobody else.
    own_pos: Position,
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
    /// The user said it, rather than the sync of a client.
    #[serde(default)]
    is_said: bool,
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
    /// Those of both whose rooms are being read.
    asked: HashSet<UserNid>,
}

impl Users {
    /// Tells whether the rooms noted of a user may be others than the user's.
    fn may_have_moved(&self, user: UserNid) -> bool {
        self.moved.contains(&user) || self.asked.contains(&user) || self.due.contains(&user)
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
            own_pos: 0,
        }))
    }
}

/// Presence.
pub struct Presence {
    context: Arc<Context>,
    users: Mutex<Users>,
    /// What other servers said of users who are in no room here yet.
    early: Mutex<Early<RemotePresence>>,
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
    /// The user said it, rather than the sync of a client.
    is_said: bool,
}

impl Presence {
    /// Begins with nobody there, and to tell changes as long as the service lives.
    pub fn start(context: Arc<Context>) -> Arc<Self> {
        let news = Arc::new(Notify::new());
        let presence =
            Arc::new(Self { context, users: Mutex::default(), early: Mutex::default(), news });
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
        let status_msg = Some(status_msg);
        let change = Change { state, status_msg, gone_ms, active: true, is_said: true };
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
        let state = state.clone();
        let change = Change { state, status_msg: None, gone_ms, active, is_said: false };
        self.apply(user, change);
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
            let update = PresenceUpdate { is_said: change.is_said, ..known.as_heard(user) };
            CHANNEL.send(&self.context.streams, &update);
        }
        if is_news {
            known.is_announced = false;
            known.own_pos = self.tell_himself(user, change.is_said);
            users.due.insert(user);
            self.news.notify_one();
        }
    }

    /// Tells a user of his own change, before it is told to others, and returns the position. Called under the
    /// lock of the users: whoever is woken finds it noted. What a sync says wakes none of his clients: two
    /// that say different things would wake each other for ever.
    fn tell_himself(&self, user: UserNid, is_said: bool) -> Position {
        let touched: &[Touch] = if is_said { &[Touch::User(user)] } else { &[] };
        self.context.streams.advance_in_memory(Stream::Presence, touched)
    }

    /// Takes in what other processes say of who is there.
    #[must_use]
    pub fn listen(self: &Arc<Self>, receivers: Receivers) -> Receivers {
        receivers.on(&CHANNEL, self, Self::heard)
    }

    /// Takes in what another process heard of a user.
    pub(crate) fn heard(&self, heard: PresenceUpdate) {
        let PresenceUpdate { user, state, status_msg, last_active_ms, gone_ms, .. } = heard;
        let mut users = self.users.lock();
        let Some(known) = users.known(user, last_active_ms) else { return };
        known.last_active_ms = known.last_active_ms.max(last_active_ms);
        known.gone_ms = known.gone_ms.max(gone_ms);
        known.is_remote = heard.is_remote;
        if known.state != state || known.status_msg != status_msg {
            known.state = state;
            known.status_msg = status_msg;
            known.is_announced = false;
            if !heard.is_remote {
                known.own_pos = self.tell_himself(user, heard.is_said);
            }
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
            is_said: false,
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
mod tests;

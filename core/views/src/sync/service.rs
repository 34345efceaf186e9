//! The service behind `/sync`: what it reads from, what it keeps in memory, and one answer being made.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{DeviceNid, EventNid, RoomNid, UserNid},
    ruma::{OwnedUserId, api::client::filter::FilterDefinition, presence::PresenceState},
    stream::{Positions, Stream},
    token::SyncToken,
};
use colonnade_replication::streams::DURABLE;
use colonnade_rooms::{Context, Result, Rooms};
use colonnade_rules::event::ClientFormat;
use colonnade_storage::rooms::{
    heads as room_rows,
    members::{self, Member, Membership},
    receipts as receipt_rows,
};
use colonnade_users::{
    account_data::AccountDataService, answers::Answers, encryption::Encryption, presence::Presence,
    to_device::ToDevice,
};
use quick_cache::sync::Cache;
use tokio::sync::watch;

use super::{
    answer::SyncAnswer,
    changed_data::ChangedData,
    lazy_loaded::LazyLoaded,
    notifier::Notifier,
    sliding::{Connections, Facts},
    tally::Tallies,
};
use crate::{
    receipts::Receipts,
    recent::Recent,
    timeline::{PAGE_BYTES_MAX, Timeline, Viewer},
    typing::Typing,
};

/// A position before every other, but not that of a client that was told nothing.
const BEFORE_ALL: i64 = 1;
/// Bytes of all timelines of an answer. Beyond the half of it a room is shown with its newest event, which
/// twenty thousand ordinary rooms have room for, and beyond all of it with none.
const TIMELINES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Users whose room lists are kept in memory, about 100 bytes a room each.
const USERS_MAX: usize = 10_000;
/// Rooms a head is read of at a time when the process starts.
const HEADS_PAGE: i64 = 5_000;
/// Uploaded filters kept in memory, about 1 kB each.
const FILTERS_MAX: usize = 10_000;
/// Devices of which it is remembered whose member events they were sent, per room.
const LAZY_LOADED_MAX: usize = 20_000;

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub struct SyncRequest {
    /// Where the client stands; `None` for an initial sync.
    pub since: Option<String>,
    /// How long to wait for something to happen, in milliseconds.
    pub timeout_ms: u64,
    /// All state of all rooms, whatever the client has.
    pub full_state: bool,
    /// What the client wants to see.
    pub filter: Arc<FilterDefinition>,
    /// What the client says of its user by syncing.
    pub set_presence: PresenceState,
    /// The state after the timeline instead of before it.
    pub use_state_after: bool,
}

/// The services a sync reads from.
pub struct Sources {
    /// The budget of what is made.
    pub answers: Arc<Answers>,
    /// Rooms and their events.
    pub rooms: Rooms,
    /// What was said.
    pub timeline: Arc<Timeline>,
    /// Counts of keys, and whose keys changed.
    pub encryption: Arc<Encryption>,
    /// What was said and read last.
    pub recent: Arc<Recent>,
    /// Messages to the device.
    pub to_device: Arc<ToDevice>,
    /// Who read what.
    pub receipts: Arc<Receipts>,
    /// Who types.
    pub typing: Arc<Typing>,
    /// Who is there.
    pub presence: Arc<Presence>,
    /// What the user keeps here.
    pub account_data: Arc<AccountDataService>,
}

/// A user's rooms, as they stood when they were read.
pub(super) struct Memberships {
    pub(super) rooms: Vec<Member>,
    /// The user's head when they were read.
    pub(super) at: i64,
}

impl Memberships {
    /// Returns the rooms the user is joined to.
    pub(super) fn joined(&self) -> impl Iterator<Item = RoomNid> {
        let rooms = self.rooms.iter();
        rooms.filter(|member| member.membership == Membership::Join).map(|member| member.room)
    }

    /// Returns the one room that a user listens to: as if he were in it, for what of it he may see is decided
    /// with each event.
    pub(super) fn only(&self, user: UserNid, room: RoomNid) -> Self {
        let known = self.rooms.iter().find(|member| member.room == room);
        let known = known.filter(|member| member.membership == Membership::Join).cloned();
        let member = known.unwrap_or(Member {
            room,
            user,
            membership: Membership::Join,
            event: EventNid(0),
            sender: user,
            pos: 0,
            forgotten: false,
            display_name: None,
            avatar_url: None,
        });
        Self { rooms: vec![member], at: self.at }
    }
}

/// Answers `/sync`.
pub struct Sync {
    pub(super) context: Arc<Context>,
    pub(super) from: Sources,
    pub(super) heads: Arc<Notifier>,
    pub(super) memberships: Cache<UserNid, Arc<Memberships>>,
    /// Whose member events a device was sent, so that lazy loading does not repeat them. Losing it
    /// only repeats some.
    pub(super) lazy_loaded: Cache<(DeviceNid, RoomNid), Arc<parking_lot::Mutex<LazyLoaded>>>,
    /// Uploaded filters, which never change.
    pub(super) filters: Cache<(UserNid, i64), Arc<FilterDefinition>>,
    /// What was counted as unread.
    pub(super) tallies: Tallies,
    /// Connections of sliding sync.
    pub(super) connections: Connections,
    /// By what rooms are filtered there.
    pub(super) facts: Facts,
    pub(super) stopping: watch::Sender<bool>,
}

/// One answer being made: who asks, from where to where.
pub(super) struct SyncContext {
    pub(super) viewer: Viewer,
    pub(super) since: Option<Positions>,
    pub(super) now: Positions,
    pub(super) request: Arc<SyncRequest>,
    pub(super) ignored: Arc<[OwnedUserId]>,
    /// The user's account data that changed, asked for once.
    pub(super) data: tokio::sync::OnceCell<ChangedData>,
    pub(super) timelines: Timelines,
    /// Events say which room they are of, for an answer that is not sorted by rooms.
    pub(super) names_rooms: bool,
}

/// How many bytes the timelines of an answer have so far.
#[derive(Default)]
pub(super) struct Timelines(AtomicUsize);

impl Timelines {
    /// Returns how many bytes the timeline of the next room may have, and one event more at most: none
    /// when there is no room even for that.
    pub(super) fn room(&self) -> usize {
        match self.0.load(Ordering::Relaxed) {
            bytes if bytes < TIMELINES_BYTES_MAX / 2 => {
                (TIMELINES_BYTES_MAX / 2 - bytes).min(PAGE_BYTES_MAX)
            }
            bytes if bytes < TIMELINES_BYTES_MAX => 1,
            _ => 0,
        }
    }

    pub(super) fn tell(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl SyncContext {
    /// Where the client stands in a stream; 0 at an initial sync.
    pub(super) fn since(&self, stream: Stream) -> i64 {
        self.since.map_or(0, |since| since.get(stream))
    }

    pub(super) fn now(&self, stream: Stream) -> i64 {
        self.now.get(stream)
    }

    /// Returns how events are written.
    pub(super) fn format(&self) -> ClientFormat {
        match self.names_rooms {
            true => ClientFormat::WithRoomAndUser,
            false => ClientFormat::WithoutRoom,
        }
    }
}

impl Sync {
    /// Learns where every room stands. From before this, [`Sync::notifier`] has to be told of every advance.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start(context: Arc<Context>, from: Sources) -> Result<Self> {
        let gathered_for = Duration::from_millis(context.settings.sync.gather_ms);
        let heads = Notifier::new(context.streams.positions(), gathered_for);
        let receipts: std::collections::HashMap<i64, i64> =
            receipt_rows::heads(&context.db).await?.into_iter().collect();
        let mut after = RoomNid(0);
        loop {
            let page = room_rows::heads_page(&context.db, after, HEADS_PAGE).await?;
            for head in &page {
                let receipt = receipts.get(&head.room.0).copied().unwrap_or(0);
                heads.learn(head.room, head.last_pos, receipt);
            }
            match page.last() {
                Some(last) if page.len() as i64 == HEADS_PAGE => after = last.room,
                _ => break,
            }
        }
        heads.start();
        Ok(Self {
            context,
            from,
            heads,
            memberships: Cache::new(USERS_MAX),
            lazy_loaded: Cache::new(LAZY_LOADED_MAX),
            filters: Cache::new(FILTERS_MAX),
            tallies: Tallies::default(),
            connections: Connections::default(),
            facts: Facts::default(),
            stopping: watch::Sender::new(false),
        })
    }

    /// Returns who wakes the syncs that wait, to subscribe it to changes.
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.heads
    }

    /// Answers every waiting sync now, and every later one without waiting: the process stops.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Returns how many syncs wait for something to happen.
    pub fn waiting(&self) -> usize {
        self.stopping.receiver_count()
    }

    /// Answers a sync, waiting for something to happen if nothing has.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when `since` is not a token of ours; `M_LIMIT_EXCEEDED` when there is no room for
    /// the answer for long.
    pub async fn sync(
        self: &Arc<Self>,
        session: &Session,
        request: SyncRequest,
    ) -> Result<SyncAnswer> {
        let since = match &request.since {
            Some(text) => Some(Box::pin(self.clamp_token(self.token(text)?)).await?),
            None => None,
        };
        Box::pin(self.acknowledge(session, since, &request)).await?;
        self.answer(session, since, Arc::new(request)).await
    }

    /// Does what a client says by asking: it has what its token covers, and its user is there.
    pub(super) async fn acknowledge(
        &self,
        session: &Session,
        since: Option<Positions>,
        request: &SyncRequest,
    ) -> Result<()> {
        if let Some(since) = &since {
            let acknowledged = since.get(Stream::ToDevice);
            self.from.to_device.acknowledge(session.device, acknowledged).await?;
        }
        self.arrive(session, since, request).await;
        Ok(())
    }

    /// Notes that a user is there, and waits until this process knows as much as the user was told or did.
    pub(super) async fn arrive(
        &self,
        session: &Session,
        since: Option<Positions>,
        request: &SyncRequest,
    ) {
        if let Some(since) = &since {
            // Another process may be ahead of this one, and told of more.
            for stream in DURABLE {
                self.context.streams.hear_of(stream, since.get(stream));
            }
        }
        let presence = &self.from.presence;
        presence.syncs(session.user, &request.set_presence, request.timeout_ms);
        // A client sees its own writes, whichever process wrote them: those of others the front has
        // asked the database for.
        self.heads.reached(self.context.streams.known()).await;
    }

    pub(super) fn token(&self, text: &str) -> Result<Positions, MatrixError> {
        let bad = || MatrixError::invalid_param("this is not a token of this server");
        let token = SyncToken::decode(text, &self.context.token_key).map_err(|_| bad())?;
        Ok(token.positions)
    }

    /// Brings a token of ours that stands beyond what the database has, since the database was put
    /// back to an earlier copy, back to its end: else its client would miss what comes next.
    pub(super) async fn clamp_token(&self, mut since: Positions) -> Result<Positions> {
        // What lives in memory has positions of its own in each process: to those of another the
        // client is told again whatever there is here.
        for stream in [Stream::Presence, Stream::Typing] {
            if !self.context.streams.is_of_this_run(stream, since.get(stream)) {
                since.set(stream, BEFORE_ALL);
            }
        }
        let reached = self.context.streams.positions();
        if DURABLE.iter().all(|stream| since.get(*stream) <= reached.get(*stream)) {
            return Ok(since);
        }
        let horizons = colonnade_storage::streams::horizons(&self.context.db).await?;
        // Mostly another process was faster than we are: then all of it is in the database.
        let given = since;
        for stream in DURABLE {
            since.set(stream, since.get(stream).min(horizons.get(stream)));
        }
        if since != given {
            tracing::warn!("a client was told more than the database has: was a backup restored?");
        }
        Ok(since)
    }

    pub(super) fn encode(&self, positions: Positions) -> String {
        SyncToken { epoch: 0, positions }.encode(&self.context.token_key)
    }

    /// Returns the user's memberships with positions at least as high as every change they show.
    pub(super) async fn sample(&self, user: UserNid) -> Result<(Arc<Memberships>, Positions)> {
        loop {
            let memberships = self.memberships(user).await?;
            let now = self.heads.applied();
            let newest = memberships.rooms.iter().map(|member| member.pos).max().unwrap_or(0);
            if self.heads.user(user).events > memberships.at {
                continue;
            }
            if newest > now.get(Stream::Events) {
                let mut wanted = now;
                wanted.set(Stream::Events, newest);
                self.heads.reached(wanted).await;
                continue;
            }
            return Ok((memberships, now));
        }
    }

    pub(super) async fn memberships(&self, user: UserNid) -> Result<Arc<Memberships>> {
        let at = self.heads.user(user).events;
        if let Some(known) = self.memberships.get(&user)
            && known.at >= at
        {
            return Ok(known);
        }
        let kinds = [
            Membership::Join,
            Membership::Invite,
            Membership::Knock,
            Membership::Leave,
            Membership::Ban,
        ];
        let rooms = members::rooms_of(&self.context.db, user, &kinds).await?;
        let read = Arc::new(Memberships { rooms, at });
        self.memberships.insert(user, Arc::clone(&read));
        Ok(read)
    }
}

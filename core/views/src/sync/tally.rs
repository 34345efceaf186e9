//! What was counted as unread of a room. It is kept, and taken on by what was said since, as long as its user
//! reads no further and stays in the room.
//!
//! Source: Matrix v1.19, client-server, "Receiving notifications", "Threaded read receipts".

use std::{collections::BTreeMap, sync::Arc};

use colonnade_model::{
    nid::{EventNid, RoomNid, UserNid},
    ruma::events::TimelineEventType,
    stream::Position,
};
use colonnade_rooms::{Result, Rooms};
use colonnade_rules::account_data::ignored_of;
use colonnade_storage::{
    Database,
    rooms::{
        receipts,
        unread::{self, Counts, Span},
    },
    users::account_data,
};
use quick_cache::sync::Cache;

use super::{at_hand::AtHand, notifier::UserHead};
use crate::recent::RecentEvent;

/// Counts that are kept, about 300 bytes each: those of 1,000 people in 50 rooms.
const TALLIES_MAX: usize = 50_000;
/// Threads of a room that are counted; older ones than these have been quiet for longer.
const THREADS_MAX: i64 = 100;

/// What is unread of a room.
#[derive(Debug, Default)]
pub struct UnreadOfRoom {
    /// Outside threads.
    pub main: Counts,
    /// In each thread of which anything is, by its root.
    pub by_thread: BTreeMap<String, Counts>,
}

impl UnreadOfRoom {
    /// Returns all of it together.
    pub fn sum(&self) -> Counts {
        self.by_thread.values().fold(self.main, |sum, thread| Counts {
            notify: sum.notify + thread.notify,
            highlight: sum.highlight + thread.highlight,
        })
    }
}

/// What was counted of a room for a user, and by what.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Up to here.
    upto: Position,
    /// Where the user stood when it was begun.
    head: UserHead,
    /// Everything up to here was read, or is from before the user came.
    whole: Position,
    /// How far he read: thread (empty for the whole room) and position.
    read: Arc<[(String, Position)]>,
    /// Outside threads; it may be less than nothing for a while.
    main: Counts,
    /// In threads, by their roots.
    threads: BTreeMap<EventNid, (String, Counts)>,
}

impl Tally {
    /// Counts by the database.
    pub(super) async fn read(
        rooms: &Rooms,
        (user, room): (UserNid, RoomNid),
        head: UserHead,
        upto: Position,
    ) -> Result<Self> {
        let db = &rooms.context().db;
        let since = unread::member_since(db, room, user).await?;
        let read = receipts::read_upto(db, room, user).await?;
        let (whole, main, threads) = (since, Counts::default(), BTreeMap::new());
        let mut tally = Self { upto, head, whole, read: read.into(), main, threads };
        tally.whole = tally.place("").max(since);
        let ignored = ignored_by(rooms, user).await?;
        let span = |thread, after| Span { room, user, thread, after, upto };
        tally.main = counted(db, span(None, tally.read_upto("main")), &ignored).await?;
        for root in unread::threads_after(db, room, tally.whole, THREADS_MAX).await? {
            let Some(event) = rooms.event(root).await? else { continue };
            let id = event.event.event_id().to_string();
            let counts = counted(db, span(Some(root), tally.read_upto(&id)), &ignored).await?;
            tally.threads.insert(root, (id, counts));
        }
        Ok(tally)
    }

    /// Takes on by what was said up to a position; false if that is not known well enough in memory.
    async fn take_on(
        &mut self,
        rooms: &Rooms,
        user: UserNid,
        at_hand: &AtHand,
        upto: Position,
    ) -> Result<bool> {
        let Some(news) = at_hand.between(self.upto, upto) else { return Ok(false) };
        for event in news {
            if *event.row.event.event_type() == TimelineEventType::RoomRedaction {
                // What it redacted may have been counted.
                return Ok(false);
            }
            let Some(thread) = event.row.thread else {
                if event.pos > self.read_upto("main") && !add(&mut self.main, event, user) {
                    return Ok(false);
                }
                continue;
            };
            let id = match self.threads.get(&thread) {
                Some((id, _)) => id.clone(),
                None => {
                    let Some(root) = rooms.event(thread).await? else { continue };
                    root.event.event_id().to_string()
                }
            };
            let read_upto = self.read_upto(&id);
            let (_, counts) = self.threads.entry(thread).or_insert((id, Counts::default()));
            if event.pos > read_upto && !add(counts, event, user) {
                return Ok(false);
            }
        }
        self.upto = upto;
        Ok(self.threads.len() <= THREADS_MAX as usize)
    }

    fn place(&self, thread: &str) -> Position {
        let found = self.read.iter().find(|(of, _)| of == thread);
        found.map_or(0, |(_, position)| *position)
    }

    /// Returns how far a thread was read, or what is in none: `main`.
    fn read_upto(&self, thread: &str) -> Position {
        self.whole.max(self.place(thread))
    }

    pub(super) fn unread(&self) -> UnreadOfRoom {
        let shown = |counts: &Counts| Counts {
            notify: counts.notify.max(0),
            highlight: counts.highlight.max(0),
        };
        let threads = self.threads.values().map(|(id, counts)| (id.clone(), shown(counts)));
        let by_thread = threads.filter(|(_, counts)| *counts != Counts::default());
        UnreadOfRoom { main: shown(&self.main), by_thread: by_thread.collect() }
    }
}

/// Counts what is unread, but for what those said who are ignored.
async fn counted(db: &Database, span: Span, ignored: &[UserNid]) -> Result<Counts> {
    let mut counts = unread::count(db, span).await?;
    if !ignored.is_empty() && counts != Counts::default() {
        let of_ignored = unread::count_of(db, span, ignored).await?;
        counts.notify -= of_ignored.notify;
        counts.highlight -= of_ignored.highlight;
    }
    Ok(counts)
}

/// Returns whom a user ignores.
async fn ignored_by(rooms: &Rooms, user: UserNid) -> Result<Vec<UserNid>> {
    let context = rooms.context();
    let list = account_data::get(&context.db, user, None, "m.ignored_user_list").await?;
    let ignored = list.map(|list| ignored_of(&list)).unwrap_or_default();
    if ignored.is_empty() {
        return Ok(Vec::new());
    }
    let found = context.interned.find_users(ignored.iter().map(AsRef::as_ref)).await?;
    Ok(found.into_values().collect())
}

/// Adds an event to what it is counted with; false if it is not known what it means to the user.
fn add(counts: &mut Counts, event: &RecentEvent, user: UserNid) -> bool {
    if event.row.sender == user {
        // Who speaks has read.
        if event.row.outcome.notifies() {
            *counts = Counts::default();
        }
        return true;
    }
    let Some(outcome) = event.outcome(user) else { return false };
    counts.notify += i64::from(outcome.notifies());
    counts.highlight += i64::from(outcome.highlights());
    true
}

/// What was counted, by user and room.
pub(super) struct Tallies(Cache<(UserNid, RoomNid), Arc<Tally>>);

impl Default for Tallies {
    fn default() -> Self {
        Self(Cache::new(TALLIES_MAX))
    }
}

impl Tallies {
    /// Counts on from where it was counted to, or anew. `head` is where the user stands.
    pub(super) async fn of(
        &self,
        rooms: &Rooms,
        whose: (UserNid, RoomNid),
        (head, upto): (UserHead, Position),
        at_hand: &AtHand,
    ) -> Result<Arc<Tally>> {
        let known = self.0.get(&whose).filter(|known| {
            let stood = &known.head;
            stood.events == head.events
                && stood.receipts == head.receipts
                && stood.account_data == head.account_data
                && known.upto <= upto
        });
        if let Some(known) = known {
            let mut tally = Tally::clone(&known);
            if tally.take_on(rooms, whose.0, at_hand, upto).await? {
                return Ok(self.keep(whose, tally));
            }
        }
        Ok(self.keep(whose, Tally::read(rooms, whose, head, upto).await?))
    }

    fn keep(&self, whose: (UserNid, RoomNid), tally: Tally) -> Arc<Tally> {
        let tally = Arc::new(tally);
        self.0.insert(whose, Arc::clone(&tally));
        tally
    }
}

//! The members of a pool, what each is doing, and which one takes the next request.
//!
//! A choice is made from numbers; a member only holds its connections, it never looks at them. A member's counters live
//! as long as some table or some request still knows the member, so a reload that leaves a pool
//! alone changes nothing here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::{Notified, OwnedNotified};

use crate::config::{Balance, HealthConfig, PoolConfig, WorkerAddr};
use crate::metrics::WorkerSeries;
use crate::routing::routes::KeyKind;
use crate::upstream::health::{Health, HealthSign, State};
use crate::upstream::idle::IdleConnections;
use crate::upstream::ring::Ring;
use crate::upstream::slots::slot_of;

/// Below this many requests in flight a member is never "too loaded" for its keys: with little
/// traffic the fair share is a fraction of a request, and spilling would only cost warm caches.
const BOUND_FLOOR: u64 = 32;

/// One worker of a pool.
#[derive(Debug)]
pub struct Member {
    /// Where it listens.
    pub address: WorkerAddr,
    /// Its address as text, as metrics and the ring use it.
    pub name: String,
    /// Its share of requests relative to the others.
    pub weight: u32,
    /// Whether it may get new requests.
    pub health: Health,
    /// Connections to it that rest; they go when it goes.
    pub kept: IdleConnections,
    /// What is counted about it.
    pub series: WorkerSeries,
    /// Told when the map it was in says that it is gone: what is under way there has no answer.
    marked_down: Arc<Notify>,
    working: AtomicU64,
    long_polling: AtomicU64,
    failures: AtomicU64,
    served: AtomicU64,
}

impl Member {
    fn new(address: WorkerAddr, weight: u32) -> Self {
        Self {
            name: address.to_string(),
            address,
            weight,
            health: Health::default(),
            kept: IdleConnections::default(),
            series: WorkerSeries::default(),
            marked_down: Arc::new(Notify::new()),
            working: AtomicU64::new(0),
            long_polling: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            served: AtomicU64::new(0),
        }
    }

    /// Waits until the worker is taken for dead, from now on.
    pub fn is_marked_down(&self) -> Notified<'_> {
        self.marked_down.notified()
    }

    /// The same, for who cannot borrow the member.
    pub fn is_marked_down_owned(&self) -> OwnedNotified {
        Arc::clone(&self.marked_down).notified_owned()
    }

    /// Requests it works on now, waiting long polls not counted.
    pub fn working(&self) -> u64 {
        self.working.load(Ordering::Relaxed)
    }

    /// Long polls that wait at it now.
    pub fn long_polling(&self) -> u64 {
        self.long_polling.load(Ordering::Relaxed)
    }

    /// Attempts that failed at it since it is known.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Requests it answered since it is known.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Work relative to weight and to the share a slow start allows, comparable between members.
    fn load(&self, slow_start_ms: u64, now_ms: u64) -> u64 {
        let share = self.health.share_percent(slow_start_ms, now_ms);
        // One more than it has: an idle member that begins slowly is not the least loaded for long.
        (self.working() * 100_000 + (100 - share)) / (u64::from(self.weight) * share)
    }
}

/// A request on its way through a member. Dropping it ends the counting, whatever happened.
#[derive(Debug)]
pub struct InFlight {
    member: Arc<Member>,
    long_polling: bool,
}

impl InFlight {
    /// A request on its way to a worker that no pool lists yet, but another worker named.
    pub fn unlisted(address: WorkerAddr, long_polling: bool) -> Self {
        Self::new(Arc::new(Member::new(address, 1)), long_polling)
    }

    fn new(member: Arc<Member>, long_polling: bool) -> Self {
        let counter = if long_polling { &member.long_polling } else { &member.working };
        counter.fetch_add(1, Ordering::Relaxed);
        Self { member, long_polling }
    }

    /// Gives the member.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// The long poll has something to say: from here on it is work.
    pub fn unpark(&mut self) {
        if self.long_polling {
            self.long_polling = false;
            self.member.working.fetch_add(1, Ordering::Relaxed);
            self.member.long_polling.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends the attempt with what it tells about the member's health; `None` tells nothing.
    pub fn ended(self, pool: &Pool, sign: Option<HealthSign>, now_ms: u64) {
        let changed = match sign {
            None => {
                self.member.health.abandon_probe(now_ms);
                false
            }
            Some(sign) => {
                let counter = match sign {
                    HealthSign::Good => &self.member.served,
                    HealthSign::Bad | HealthSign::Dead => &self.member.failures,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                self.member.health.learn(sign, pool.eject_after, now_ms)
            }
        };
        if changed {
            pool.changed.notify_waiters();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let counter =
            if self.long_polling { &self.member.long_polling } else { &self.member.working };
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A pool: its members and how one is chosen.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How it chooses for requests that carry no key.
    pub balance: Balance,
    /// Its workers: those that take everything in file order, then those that leave.
    pub members: Vec<Arc<Member>>,
    /// Whether its members are those of the slot map, and change with it.
    pub discover: bool,
    /// How its members are asked whether they are well, if they are.
    pub health: Option<HealthConfig>,
    /// The place of the pool that serves when no member here can.
    pub fallback: Option<usize>,
    /// Told when a member opens or closes.
    pub changed: Notify,
    bounded_load: Option<f64>,
    eject_after: u32,
    slow_start_ms: u64,
    /// So many members, from the first, take everything; the others only the slots they own.
    standing: usize,
    /// First slot, the slot after the last, and the place of the member that owns them.
    owners: Vec<(u32, u32, usize)>,
    ring: Ring,
    turn: AtomicUsize,
}

impl Pool {
    /// Builds a pool; members already known keep their counters and their health. Members new in a
    /// pool that already runs begin slowly.
    pub fn new(config: &PoolConfig, known: Option<&Pool>, now_ms: u64) -> Self {
        let member = |(address, weight): (&WorkerAddr, u32)| {
            let same =
                |member: &&Arc<Member>| member.address == *address && member.weight == weight;
            if let Some(kept) = known.and_then(|pool| pool.members.iter().find(same)) {
                return Arc::clone(kept);
            }
            let fresh = Member::new(address.clone(), weight);
            if known.is_some_and(|pool| !pool.members.is_empty()) {
                fresh.health.begin_slowly(now_ms);
            }
            Arc::new(fresh)
        };
        let standing = config.workers.iter().map(|(address, weight)| (address, *weight));
        let leaving = config.leaving.iter().map(|address| (address, 1));
        let members: Vec<Arc<Member>> = standing.chain(leaving).map(member).collect();
        let standing = config.workers.len();
        let place = |owner: &WorkerAddr| members.iter().position(|member| member.address == *owner);
        let owners = config.owners.iter();
        let owners = owners.filter_map(|r| Some((r.first, r.end, place(&r.owner)?))).collect();
        Self {
            name: config.name.clone(),
            balance: config.balance,
            health: config.health.clone(),
            fallback: config.fallback,
            changed: Notify::new(),
            ring: Ring::new(members[..standing].iter().map(|m| (m.name.as_str(), m.weight))),
            members,
            discover: config.discover,
            standing,
            owners,
            bounded_load: config.bounded_load,
            eject_after: config.eject_after,
            slow_start_ms: config.slow_start.as_millis() as u64,
            turn: AtomicUsize::new(0),
        }
    }

    /// Gives up the members that the pool's next map does not list any more, although they took
    /// everything until now: others have taken over what they owned. Whoever stops in an orderly way
    /// is listed as leaving until it has answered everything.
    pub fn give_up_missing(&self, next: Option<&Self>) {
        for member in &self.members[..self.standing] {
            let stays =
                next.is_some_and(|next| next.members.iter().any(|m| Arc::ptr_eq(m, member)));
            if !stays {
                member.marked_down.notify_waiters();
            }
        }
    }

    /// Says whether any member may get new requests.
    pub fn is_open(&self, now_ms: u64) -> bool {
        let standing = &self.members[..self.standing];
        standing.iter().any(|member| member.health.state(now_ms) == State::Open)
    }

    /// The slot of a key and the place of the member that owns it, if the slot map says so.
    pub fn owner(&self, kind: KeyKind, key: &[u8]) -> Option<(u32, usize)> {
        if self.owners.is_empty() {
            return None;
        }
        let slot = slot_of(kind, key)?;
        let at = self.owners.partition_point(|(_, end, _)| *end <= slot);
        let (first, _, place) = *self.owners.get(at)?;
        (first <= slot).then_some((slot, place))
    }

    /// Takes the owner of a key's slot for a request, if there is one that can be reached.
    pub fn take_owner(
        &self,
        kind: KeyKind,
        key: &[u8],
        tried: &[usize],
        long_poll: bool,
        now_ms: u64,
    ) -> Option<(usize, InFlight)> {
        let (_, place) = self.owner(kind, key).filter(|(_, place)| !tried.contains(place))?;
        let member = &self.members[place];
        let open = member.health.state(now_ms) == State::Open && member.health.admit(now_ms);
        open.then(|| (place, InFlight::new(Arc::clone(member), long_poll)))
    }

    /// Chooses the member for a request: by its key if it has one, else as the pool balances.
    /// Members that are closed or in `tried` are not chosen; `None` when no member is left.
    pub fn choose(&self, key: Option<&[u8]>, tried: &[usize], now_ms: u64) -> Option<usize> {
        let open = |place: &usize| {
            !tried.contains(place) && self.members[*place].health.state(now_ms) == State::Open
        };
        match (self.standing, key, self.balance) {
            (0, _, _) => None,
            (1, _, _) => Some(0).filter(open),
            (_, Some(key), _) => self.by_key(key, &open, now_ms),
            (_, None, Balance::Single) => (0..self.standing).find(open),
            (_, None, Balance::RoundRobin) => self.in_turn(&open, now_ms),
            (_, None, Balance::LeastConn | Balance::Hash(_)) => self.least(&open, now_ms),
        }
    }

    /// Chooses a member and takes it for a request.
    pub fn take(
        &self,
        key: Option<&[u8]>,
        tried: &[usize],
        long_poll: bool,
        now_ms: u64,
    ) -> Option<(usize, InFlight)> {
        let mut closed = tried.to_vec();
        loop {
            let place = self.choose(key, &closed, now_ms)?;
            let member = &self.members[place];
            if member.health.admit(now_ms) {
                return Some((place, InFlight::new(Arc::clone(member), long_poll)));
            }
            // Another request probes it just now.
            closed.push(place);
        }
    }

    /// Takes a member for a request, whatever its health; for a worker that another one named.
    pub fn take_named(&self, name: &str, long_poll: bool) -> Option<(usize, InFlight)> {
        let place = self.members.iter().position(|member| member.name == name)?;
        Some((place, InFlight::new(Arc::clone(&self.members[place]), long_poll)))
    }

    /// The first member on the ring that is open and not too loaded; if all are, the first open
    /// one.
    fn by_key(&self, key: &[u8], open: &dyn Fn(&usize) -> bool, now_ms: u64) -> Option<usize> {
        // Where in 0..100 the key stands: a slow start lets through the keys below the share.
        let percentile = u64::from(crc32fast::hash(key)) % 100;
        let mut first = None;
        let mut refused = 0;
        let mut last_refused = usize::MAX;
        for place in self.ring.walk(key).filter(open) {
            first = first.or(Some(place));
            let share = self.members[place].health.share_percent(self.slow_start_ms, now_ms);
            if percentile < share && !self.too_loaded(place) {
                return Some(place);
            }
            // Every member refusing once is enough to know; a ring has far more points.
            if place != last_refused {
                last_refused = place;
                refused += 1;
            }
            if refused > 2 * self.members.len() {
                break;
            }
        }
        first
    }

    /// Bounded load (Mirrokni, Thorup, Zadimoghaddam 2016): a member takes no key's request while
    /// its work is above the fair share by the bound.
    fn too_loaded(&self, place: usize) -> bool {
        let Some(bound) = self.bounded_load else { return false };
        let member = &self.members[place];
        let working = member.working();
        if working < BOUND_FLOOR {
            return false;
        }
        let total: u64 = self.members.iter().map(|m| m.working()).sum();
        let weights: u64 = self.members.iter().map(|m| u64::from(m.weight)).sum();
        let share = (total + 1) as f64 * f64::from(member.weight) / weights as f64;
        working as f64 + 1.0 > (share * bound).ceil()
    }

    fn in_turn(&self, open: &dyn Fn(&usize) -> bool, now_ms: u64) -> Option<usize> {
        let count = self.standing;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let places = || (0..count).map(|step| (turn.wrapping_add(step)) % count).filter(open);
        let round = (turn / count % 100) as u64;
        let ready = |place: &usize| {
            round < self.members[*place].health.share_percent(self.slow_start_ms, now_ms)
        };
        places().find(ready).or_else(|| places().next())
    }

    /// The least loaded; of several, the next in turn, so that an idle pool is used evenly.
    fn least(&self, open: &dyn Fn(&usize) -> bool, now_ms: u64) -> Option<usize> {
        let count = self.standing;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let places = (0..count).map(|step| (turn.wrapping_add(step)) % count);
        places
            .filter(open)
            .min_by_key(|place| self.members[*place].load(self.slow_start_ms, now_ms))
    }
}

#[cfg(test)]
mod tests;

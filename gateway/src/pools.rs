//! The members of a pool, what each is doing, and which one takes the next request.
//!
//! Free of sockets and of Pingora's types: a choice is made from numbers. A member's counters live
//! as long as some table or some request still knows the member, so a reload that leaves a pool
//! alone changes nothing here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::config::{Balance, PoolConfig, WorkerAddr};
use crate::ring::Ring;

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
    working: AtomicU64,
    parked: AtomicU64,
    failures: AtomicU64,
    served: AtomicU64,
}

impl Member {
    fn new(address: WorkerAddr, weight: u32) -> Self {
        Self {
            name: address.to_string(),
            address,
            weight,
            working: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            served: AtomicU64::new(0),
        }
    }

    /// Requests it works on now, parked long polls not counted.
    pub fn working(&self) -> u64 {
        self.working.load(Ordering::Relaxed)
    }

    /// Long polls that wait at it now.
    pub fn parked(&self) -> u64 {
        self.parked.load(Ordering::Relaxed)
    }

    /// Attempts that failed at it since it is known.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Requests it answered since it is known.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Work relative to weight, comparable between members.
    fn load(&self) -> u64 {
        self.working() * 1_000 / u64::from(self.weight)
    }
}

/// A request on its way through a member. Dropping it ends the counting, whatever happened.
#[derive(Debug)]
pub struct InFlight {
    member: Arc<Member>,
    parked: bool,
}

impl InFlight {
    fn new(member: Arc<Member>, parked: bool) -> Self {
        let counter = if parked { &member.parked } else { &member.working };
        counter.fetch_add(1, Ordering::Relaxed);
        Self { member, parked }
    }

    /// Gives the member.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// The long poll has something to say: from here on it is work.
    pub fn unpark(&mut self) {
        if self.parked {
            self.parked = false;
            self.member.working.fetch_add(1, Ordering::Relaxed);
            self.member.parked.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Counts the attempt as failed.
    pub fn failed(&self) {
        self.member.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the attempt as answered.
    pub fn served(&self) {
        self.member.served.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let counter = if self.parked { &self.member.parked } else { &self.member.working };
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
    /// Its workers, in file order.
    pub members: Vec<Arc<Member>>,
    bounded_load: Option<f64>,
    ring: Ring,
    turn: AtomicUsize,
}

impl Pool {
    /// Builds a pool; members already known keep their counters.
    pub fn new(config: &PoolConfig, known: Option<&Pool>) -> Self {
        let members: Vec<Arc<Member>> = config
            .workers
            .iter()
            .map(|(address, weight)| {
                let same =
                    |member: &&Arc<Member>| member.address == *address && member.weight == *weight;
                let kept = known.and_then(|pool| pool.members.iter().find(same));
                kept.cloned().unwrap_or_else(|| Arc::new(Member::new(address.clone(), *weight)))
            })
            .collect();
        Self {
            name: config.name.clone(),
            balance: config.balance,
            ring: Ring::new(members.iter().map(|m| (m.name.as_str(), m.weight))),
            members,
            bounded_load: config.bounded_load,
            turn: AtomicUsize::new(0),
        }
    }

    /// Chooses the member for a request: by its key if it has one, else as the pool balances.
    /// Members in `tried` are not chosen again; `None` when no member is left.
    pub fn choose(&self, key: Option<&[u8]>, tried: &[usize]) -> Option<usize> {
        let open = |place: &usize| !tried.contains(place);
        match (self.members.len(), key, self.balance) {
            (0, _, _) => None,
            (1, _, _) => Some(0).filter(open),
            (_, Some(key), _) => self.by_key(key, &open),
            (_, None, Balance::Single) => (0..self.members.len()).find(open),
            (_, None, Balance::RoundRobin) => self.in_turn(&open),
            (_, None, Balance::LeastConn | Balance::Hash(_)) => self.least(&open),
        }
    }

    /// Takes the member for a request that was chosen by [`Pool::choose`].
    pub fn take(&self, place: usize, long_poll: bool) -> Option<InFlight> {
        self.members.get(place).map(|member| InFlight::new(Arc::clone(member), long_poll))
    }

    /// The first member on the ring that is open and not too loaded; if all are, the first open
    /// one.
    fn by_key(&self, key: &[u8], open: &dyn Fn(&usize) -> bool) -> Option<usize> {
        let mut first = None;
        let mut refused = 0;
        let mut last_refused = usize::MAX;
        for place in self.ring.walk(key).filter(open) {
            first = first.or(Some(place));
            if !self.too_loaded(place) {
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

    fn in_turn(&self, open: &dyn Fn(&usize) -> bool) -> Option<usize> {
        let count = self.members.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..count).map(|step| (turn.wrapping_add(step)) % count).find(open)
    }

    /// The least loaded; of several, the next in turn, so that an idle pool is used evenly.
    fn least(&self, open: &dyn Fn(&usize) -> bool) -> Option<usize> {
        let count = self.members.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let places = (0..count).map(|step| (turn.wrapping_add(step)) % count);
        places.filter(open).min_by_key(|place| self.members[*place].load())
    }
}

#[cfg(test)]
mod tests;

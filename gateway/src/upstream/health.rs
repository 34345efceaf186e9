//! Whether a worker may get new requests: what checks say, what failures say, what a person says.
//! Pure: time comes in as milliseconds, nothing is sent from here (`checker.rs` does the asking).
//!
//! Three things are kept apart, and any of them closes a worker: it is *draining* because somebody
//! wishes it; it is *down* because its health checks fail; it is *ejected* because requests failed
//! at it. An ejection ends by itself: when its time is up one request is let through as a probe,
//! and its outcome decides.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

/// The first ejection lasts this long, each further one twice as long, up to the last.
const EJECT_MS_MIN: u64 = 250;

/// No ejection is longer: requests are held 8 s for a worker to come back, and it must be noticed.
const EJECT_MS_MAX: u64 = 2_000;

/// A probe that has said nothing for so long is given up for lost.
const PROBE_MS_MAX: u64 = 10_000;

/// A worker that has just come back gets at least this share of its requests, in percent.
const RAMP_PERCENT_MIN: u64 = 10;

/// How an attempt at a worker ended, as far as its health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthSign {
    /// It answered.
    Good,
    /// It broke off.
    Bad,
    /// It could not even be reached: one such sign is enough.
    Dead,
}

/// The health of one worker.
#[derive(Debug, Default)]
pub struct Health {
    draining: AtomicBool,
    down: AtomicBool,
    /// Until when it is ejected; 0 when it is not.
    ejected_until_ms: AtomicU64,
    /// Since when it is open again; 0 when it always was.
    open_since_ms: AtomicU64,
    tally: Mutex<Tally>,
    checked_ms: AtomicU64,
    check_runs: AtomicBool,
    ejections: AtomicU32,
}

#[derive(Debug, Default)]
struct Tally {
    bad_signs: u32,
    ejections_in_row: u32,
    checks_failed: u32,
    checks_passed: u32,
}

impl Tally {
    /// Forgets the failures of requests. What checks say is none of their business.
    fn requests_go_well(&mut self) {
        self.bad_signs = 0;
        self.ejections_in_row = 0;
    }
}

/// Why a worker gets no new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It gets them.
    Open,
    /// Requests failed at it.
    Ejected,
    /// Its checks fail.
    Down,
    /// Somebody wants it emptied.
    Draining,
}

impl Health {
    /// Says whether the worker may get new requests.
    pub fn state(&self, now_ms: u64) -> State {
        if self.draining.load(Ordering::Relaxed) {
            State::Draining
        } else if self.down.load(Ordering::Relaxed) {
            State::Down
        } else if self.ejected_until_ms.load(Ordering::Relaxed) > now_ms {
            State::Ejected
        } else {
            State::Open
        }
    }

    /// Takes the worker for a request. A worker whose ejection is over lets one request through;
    /// whoever comes second while that one probes gets `false`.
    pub fn admit(&self, now_ms: u64) -> bool {
        let until = self.ejected_until_ms.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let probing = now_ms + PROBE_MS_MAX;
        let order = Ordering::Relaxed;
        until <= now_ms
            && self.ejected_until_ms.compare_exchange(until, probing, order, order).is_ok()
    }

    /// Learns from an attempt. `eject_after` bad signs in a row eject; 0 never ejects.
    /// Returns whether the worker opened or closed by it.
    pub fn learn(&self, sign: HealthSign, eject_after: u32, now_ms: u64) -> bool {
        let ejected = self.ejected_until_ms.load(Ordering::Relaxed) != 0;
        if sign == HealthSign::Good {
            if ejected {
                self.reopen(now_ms);
            } else {
                self.tally.lock().requests_go_well();
            }
            return ejected;
        }
        // Whatever else was under way when the worker fell tells nothing new; a probe does.
        let until = self.ejected_until_ms.load(Ordering::Relaxed);
        let already = until > now_ms && until <= now_ms + EJECT_MS_MAX;
        if eject_after == 0 || already {
            return false;
        }
        let mut tally = self.tally.lock();
        tally.bad_signs += 1;
        if sign == HealthSign::Bad && !ejected && tally.bad_signs < eject_after {
            return false;
        }
        let span = EJECT_MS_MIN << tally.ejections_in_row.min(8);
        tally.ejections_in_row += 1;
        self.ejections.fetch_add(1, Ordering::Relaxed);
        let until = now_ms + span.min(EJECT_MS_MAX);
        self.ejected_until_ms.store(until, Ordering::Relaxed);
        !ejected
    }

    /// Gives a probe back that ended without telling anything, like a client that went away.
    pub fn abandon_probe(&self, now_ms: u64) {
        if self.ejected_until_ms.load(Ordering::Relaxed) > now_ms + EJECT_MS_MAX {
            self.ejected_until_ms.store(now_ms.max(1), Ordering::Relaxed);
        }
    }

    fn reopen(&self, now_ms: u64) {
        self.tally.lock().requests_go_well();
        self.ejected_until_ms.store(0, Ordering::Relaxed);
        self.open_since_ms.store(now_ms.max(1), Ordering::Relaxed);
    }

    /// Learns from a health check. Returns whether the worker opened or closed by it.
    pub fn checked(&self, passed: bool, down_after: u32, up_after: u32, now_ms: u64) -> bool {
        let down = self.down.load(Ordering::Relaxed);
        let mut tally = self.tally.lock();
        if passed {
            tally.checks_failed = 0;
            tally.checks_passed += 1;
            if down && tally.checks_passed >= up_after {
                drop(tally);
                self.down.store(false, Ordering::Relaxed);
                self.reopen(now_ms);
                return true;
            }
            return false;
        }
        tally.checks_passed = 0;
        tally.checks_failed += 1;
        if !down && tally.checks_failed >= down_after {
            self.down.store(true, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// Begins a health check if one is due and none runs; [`Health::check_ends`] must follow.
    pub fn check_begins(&self, every_ms: u64, now_ms: u64) -> bool {
        let last = self.checked_ms.load(Ordering::Relaxed);
        if last != 0 && now_ms < last + every_ms || self.check_runs.swap(true, Ordering::Relaxed) {
            return false;
        }
        self.checked_ms.store(now_ms.max(1), Ordering::Relaxed);
        true
    }

    /// Ends a health check.
    pub fn check_ends(&self) {
        self.check_runs.store(false, Ordering::Relaxed);
    }

    /// No checks are wanted any more: what they said last counts no longer.
    pub fn forget_checks(&self) {
        self.down.store(false, Ordering::Relaxed);
    }

    /// Sets or ends draining.
    pub fn drain(&self, draining: bool, now_ms: u64) {
        if self.draining.swap(draining, Ordering::Relaxed) && !draining {
            self.open_since_ms.store(now_ms.max(1), Ordering::Relaxed);
        }
    }

    /// The worker is new in a pool that already runs.
    pub fn begin_slowly(&self, now_ms: u64) {
        self.open_since_ms.store(now_ms.max(1), Ordering::Relaxed);
    }

    /// The share of its requests the worker gets now, in percent: a worker that has just come back
    /// has cold caches, and is given more bit by bit over `slow_start_ms`.
    pub fn share_percent(&self, slow_start_ms: u64, now_ms: u64) -> u64 {
        let since = self.open_since_ms.load(Ordering::Relaxed);
        if since == 0 || slow_start_ms == 0 {
            return 100;
        }
        let grown = now_ms.saturating_sub(since) * 100 / slow_start_ms;
        if grown >= 100 {
            self.open_since_ms.store(0, Ordering::Relaxed);
        }
        grown.clamp(RAMP_PERCENT_MIN, 100)
    }

    /// How often it was ejected since it is known.
    pub fn ejections(&self) -> u32 {
        self.ejections.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;

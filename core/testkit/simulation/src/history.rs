//! What happened in a run, in order: its digest tells whether two runs were the same, its end is
//! shown when something was violated.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicI64, Ordering},
};

use parking_lot::Mutex;

/// Lines that are kept to be shown.
const KEPT_MAX: usize = 300;

/// What happened so far.
#[derive(Default)]
pub struct History {
    now_ms: AtomicI64,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    digest: blake3::Hasher,
    lines: u64,
    kept: VecDeque<String>,
    violations: Vec<String>,
}

impl History {
    /// Returns the time of the run, in milliseconds since it began.
    pub fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_now(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Notes that something happened.
    pub fn note(&self, what: impl std::fmt::Display) {
        let line = format!("{:>6} ms  {what}", self.now_ms());
        let mut log = self.log.lock();
        log.digest.update(line.as_bytes());
        log.digest.update(b"\n");
        log.lines += 1;
        if log.kept.len() == KEPT_MAX {
            log.kept.pop_front();
        }
        log.kept.push_back(line);
    }

    /// Notes that something happened which may not happen.
    pub fn violated(&self, what: impl std::fmt::Display) {
        let what = what.to_string();
        self.note(format!("VIOLATED: {what}"));
        self.log.lock().violations.push(what);
    }

    /// Returns what may not have happened.
    pub fn violations(&self) -> Vec<String> {
        self.log.lock().violations.clone()
    }

    /// Returns the digest of everything noted.
    pub fn digest(&self) -> String {
        let log = self.log.lock();
        format!("{} lines, {}", log.lines, log.digest.finalize().to_hex())
    }

    /// Returns what was noted last.
    pub fn end(&self) -> Vec<String> {
        self.log.lock().kept.iter().cloned().collect()
    }
}

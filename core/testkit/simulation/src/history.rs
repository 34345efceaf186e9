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
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
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
        let mut told = self.told.lock();
        told.digest.update(line.as_bytes());
        told.digest.update(b"\n");
        told.lines += 1;
        if told.kept.len() == KEPT_MAX {
            told.kept.pop_front();
        }
        told.kept.push_back(line);
    }

    /// Notes that something happened which may not happen.
    pub fn violated(&self, what: impl std::fmt::Display) {
        let what = what.to_string();
        self.note(format!("VIOLATED: {what}"));
        self.told.lock().violations.push(what);
    }

    /// Returns what may not have happened.
    pub fn violations(&self) -> Vec<String> {
        self.told.lock().violations.clone()
    }

    /// Returns the digest of everything noted.
    pub fn digest(&self) -> String {
        let told = self.told.lock();
        format!("{} lines, {}", told.lines, told.digest.finalize().to_hex())
    }

    /// Returns what was noted last.
    pub fn end(&self) -> Vec<String> {
        self.told.lock().kept.iter().cloned().collect()
    }
}

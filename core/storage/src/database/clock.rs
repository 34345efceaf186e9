//! The clock of the database's server: the one that all processes over one database share. A process
//! notes now and then what it shows, and in between counts on with a clock that nobody can set.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use colonnade_model::Clock;
use tokio::time::Instant;

use super::Database;
use crate::database::sql;
use crate::error::Result;

/// An answer that took longer says too little.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Differences up to this are left alone: clocks do not go alike.
const CLOSE_MS: i64 = 50;

/// The time by the database's clock, as this process noted it.
#[derive(Debug)]
pub struct DatabaseClock {
    born: Instant,
    /// What the database's clock showed when this was made, in milliseconds since 1970.
    began_ms: AtomicI64,
}

impl DatabaseClock {
    /// Makes one of what the database's clock shows now.
    pub fn new(now_ms: i64) -> Self {
        Self { born: Instant::now(), began_ms: AtomicI64::new(now_ms) }
    }

    /// Takes note of an answer of the database, which took so long to come, and returns by how many
    /// milliseconds its clock was set ahead since the last one, as far as that can be told.
    pub fn note(&self, shown_ms: i64, took: Duration) -> i64 {
        let ahead_ms = ahead_ms(self.now_ms(), shown_ms, took);
        self.began_ms.fetch_add(ahead_ms, Ordering::Relaxed);
        ahead_ms
    }
}

/// Returns by how much a clock was set ahead that should show `expected_ms`, and showed `shown_ms` at
/// some moment of the time `took` that ends now; 0 when nobody can tell.
fn ahead_ms(expected_ms: i64, shown_ms: i64, took: Duration) -> i64 {
    let ahead_ms = shown_ms.saturating_sub(expected_ms);
    let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    let is_close = ahead_ms <= CLOSE_MS && ahead_ms.saturating_add(took_ms) >= -CLOSE_MS;
    if is_close || took > ANSWER_MAX { 0 } else { ahead_ms }
}

impl Clock for DatabaseClock {
    fn now_ms(&self) -> i64 {
        let passed_ms = i64::try_from(self.born.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.began_ms.load(Ordering::Relaxed).saturating_add(passed_ms)
    }
}

impl Database {
    /// Returns the time by the clock of the server, in milliseconds since 1970; `None` on SQLite,
    /// which has no other than this machine's.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn server_now_ms(&self) -> Result<Option<i64>> {
        const NOW: &str = "SELECT {NOW_MS}";
        if !self.can_be_shared() {
            return Ok(None);
        }
        read_list!(self, NOW, |sql, c| sql::query_scalar(sql).fetch_one(c)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_database() {
        let clock = DatabaseClock::new(1_000_000);
        let near = |wanted: i64| (wanted..wanted + 600_000).contains(&clock.now_ms());
        assert!(near(1_000_000));
        for day in [86_400_000_000, 43_200_000_000, 1_000_000] {
            assert_ne!(clock.note(day, Duration::ZERO), 0);
            assert!(near(day), "{day}: {}", clock.now_ms());
        }
    }

    #[test]
    fn what_is_under_way_sets_no_clock() {
        let (at_once, half) = (Duration::ZERO, Duration::from_millis(500));
        assert_eq!(ahead_ms(10_000, 10_050, at_once), 0);
        assert_eq!(ahead_ms(10_000, 9_900, at_once), -100);
        assert_eq!(ahead_ms(10_000, 9_500, half), 0, "read when it was asked for");
        assert_eq!(ahead_ms(10_000, 9_400, half), -600);
        assert_eq!(ahead_ms(10_000, 10_100, half), 100);
        assert_eq!(ahead_ms(10_000, 90_000, Duration::from_secs(2)), 0, "nobody knows");
        assert_eq!(ahead_ms(0, i64::MIN, at_once), i64::MIN);
    }
}

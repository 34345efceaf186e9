//! One time for all processes over one PostgreSQL: its server's. Each process notes now and then what
//! the server's clock shows, and in between counts on with a clock that nobody can set. So what a
//! machine's own clock shows, and that it was set ahead or back, is in no token, no event and no limit.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use colonnade_model::Clock;
use colonnade_storage::{Database, error::Result};

/// How often the server is asked.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// An answer that took longer says too little.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Differences up to this are left alone: so long an answer is under way.
const CLOSE_MS: u64 = 50;
/// From what difference on somebody should be told.
const WRONG_MS: u64 = 60_000;

/// The server's time.
pub(crate) struct ServerTime {
    born: Instant,
    /// What the server's clock showed when this was made, in milliseconds since 1970.
    began_ms: AtomicI64,
}

impl ServerTime {
    fn new(began_ms: i64) -> Self {
        Self { born: Instant::now(), began_ms: AtomicI64::new(began_ms) }
    }

    fn passed_ms(&self) -> i64 {
        i64::try_from(self.born.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Takes over what the server's clock shows, and returns by how much that was set ahead.
    fn note(&self, server_ms: i64) -> i64 {
        let ahead_ms = server_ms.saturating_sub(self.now_ms());
        if ahead_ms.unsigned_abs() <= CLOSE_MS {
            return 0;
        }
        self.began_ms.fetch_add(ahead_ms, Ordering::Relaxed);
        ahead_ms
    }
}

impl Clock for ServerTime {
    fn now_ms(&self) -> i64 {
        self.began_ms.load(Ordering::Relaxed).saturating_add(self.passed_ms())
    }
}

/// Returns the time for a process over this database: the server's, or `own` on SQLite.
///
/// # Errors
/// When the database fails.
pub(crate) async fn of(db: &Database, own: Arc<dyn Clock>) -> Result<Arc<dyn Clock>> {
    let Some(server_ms) = db.server_now_ms().await? else { return Ok(own) };
    let ahead_ms = own.now_ms().saturating_sub(server_ms);
    if ahead_ms.unsigned_abs() > WRONG_MS {
        tracing::warn!(
            ahead_s = ahead_ms / 1_000,
            "the clock of this machine and that of the database's server differ; the server's counts: \
             let both follow one time (NTP)"
        );
    }
    let time = Arc::new(ServerTime::new(server_ms));
    tokio::spawn(follow(db.clone(), Arc::downgrade(&time)));
    Ok(time)
}

/// Asks the server again and again, as long as somebody wants to know the time.
async fn follow(db: Database, time: Weak<ServerTime>) {
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let asked = Instant::now();
        let answer = db.server_now_ms().await;
        let Some(time) = time.upgrade() else { return };
        // While the database is away we count on.
        let Ok(Some(server_ms)) = answer else { continue };
        if asked.elapsed() > ANSWER_MAX {
            continue;
        }
        let ahead_ms = time.note(server_ms);
        if ahead_ms.unsigned_abs() > WRONG_MS {
            tracing::warn!(
                ahead_s = ahead_ms / 1_000,
                "the clock of the database's server was set"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_server_and_not_what_is_under_way() {
        let time = ServerTime::new(1_000_000);
        let near = |wanted: i64| (wanted..wanted + 600_000).contains(&time.now_ms());
        assert!(near(1_000_000));
        assert_eq!(time.note(time.now_ms() + 20), 0);
        for day in [86_400_000_000, 43_200_000_000, 1_000_000] {
            assert_ne!(time.note(day), 0);
            assert!(near(day), "{day}: {}", time.now_ms());
        }
    }
}

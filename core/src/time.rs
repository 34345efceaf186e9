//! One time for all processes over one PostgreSQL: its server's. So what a machine's own clock shows, and
//! that it was set ahead or back, is in no token, no event and no limit. A process of a cluster keeps it
//! up with its signs of life, one that is alone asks for it.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use colonnade_model::Clock;
use colonnade_storage::{Database, DatabaseClock, error::Result};

/// How often the server is asked.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// From what difference on somebody should be told.
const WRONG_MS: u64 = 60_000;

/// Returns the clock of the database's server; `None` on SQLite, where `own` counts.
///
/// # Errors
/// When the database fails.
pub(crate) async fn of_server(
    db: &Database,
    own: &dyn Clock,
) -> Result<Option<Arc<DatabaseClock>>> {
    let Some(server_ms) = db.server_now_ms().await? else { return Ok(None) };
    let ahead_ms = own.now_ms().saturating_sub(server_ms);
    if ahead_ms.unsigned_abs() > WRONG_MS {
        tracing::warn!(
            ahead_s = ahead_ms / 1_000,
            "the clock of this machine and that of the database's server differ; the server's counts: \
             let both follow one time (NTP)"
        );
    }
    Ok(Some(Arc::new(DatabaseClock::new(server_ms))))
}

/// Asks the server again and again, as long as somebody wants to know the time.
pub(crate) async fn follow(db: Database, clock: Weak<DatabaseClock>) {
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let asked = Instant::now();
        let answer = db.server_now_ms().await;
        let Some(clock) = clock.upgrade() else { return };
        // While the database is away we count on.
        let Ok(Some(server_ms)) = answer else { continue };
        let ahead_ms = clock.note(server_ms, asked.elapsed());
        if ahead_ms.unsigned_abs() > WRONG_MS {
            tracing::warn!(
                ahead_s = ahead_ms / 1_000,
                "the clock of the database's server was set"
            );
        }
    }
}

//! The fence: the check inside an owner's transaction that the process still owns what it writes.
//!
//! Invariants, on PostgreSQL:
//! 1. [`fence`] shares the lock of its incarnation until COMMIT and looks only then. [`take_over`]
//!    takes the same lock alone: it waits for what is under way, and what begins later looks after
//!    it. So once a take-over is committed nothing of the old incarnation can commit any more,
//!    however long it slept, and all that it committed is visible to the new owner.
//! 2. No clock takes part.
//!
//! The only process of a deployment owns every slot: its [`Ownership`] is the default one.

mod balance;
pub mod coordinator;
mod member;
pub mod pools;

pub use crate::database::incarnation::{DRAINING, FENCED, LIVE};
use crate::{
    Database, Tx,
    database::{Lock, int_list, sql},
    error::{Result, StorageError},
};

/// Fenced incarnations whose rows are kept, for whoever wants to know what happened.
const FENCED_KEPT: i64 = 100;

/// The right to write to some slots, checked by [`fence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ownership {
    /// The pool whose slots are meant.
    pub pool: &'static str,
    /// The incarnation of this process; 0 when it is the only one.
    pub incarnation: i64,
}

/// Registers a new run of this process as the only one: every other incarnation is taken over, and
/// so none of them can commit any more. Returns the new one, and makes it that of all writes.
///
/// # Errors
/// When the transactions of another do not end in time, or the database fails.
pub async fn register_alone(db: &Database, name: String, now_ms: i64) -> Result<i64> {
    let known = db.schema_known;
    let incarnation = db.write(move |tx| {
        Box::pin(async move {
            const OTHERS: &str = "SELECT inc_id FROM incarnations WHERE state < $1 ORDER BY inc_id";
            const FORGET: &str = "DELETE FROM incarnations WHERE state = $1 AND inc_id < $2";
            let others: Vec<i64> =
                run!(tx, |c| sql::query_scalar(OTHERS).bind(FENCED).fetch_all(c))?;
            for other in others {
                take_over(tx, other).await?;
            }
            let new = insert(tx, (&name, "", ""), known, now_ms).await?;
            execute!(tx, sql::query(FORGET).bind(FENCED).bind(new - FENCED_KEPT))?;
            Ok(new)
        })
    });
    let incarnation = incarnation.await?;
    db.set_incarnation(incarnation);
    Ok(incarnation)
}

/// Tells whether an incarnation may write still.
///
/// # Errors
/// When the database fails.
pub async fn lives(db: &Database, incarnation: i64) -> Result<bool> {
    const STATE: &str = "SELECT state FROM incarnations WHERE inc_id = $1";
    let state: Option<i64> =
        read!(db, |c| sql::query_scalar(STATE).bind(incarnation).fetch_optional(c))?;
    Ok(state.is_some_and(|state| state < FENCED))
}

/// Writes down a new run of a process (its name, pools and address), and the newest migration it
/// knows: from here on nothing is taken away that it uses.
async fn insert(
    tx: &mut Tx,
    (name, pool, address): (&str, &str, &str),
    known: i64,
    now_ms: i64,
) -> Result<i64> {
    const NEEDED: &str = "SELECT value FROM cluster WHERE key = 'schema_known_min'";
    const NEW: &str = "INSERT INTO incarnations \
         (name, pool, address, state, started_ts, heartbeat_ts, schema_known) \
         VALUES ($1, $2, $3, $4, $5, $5, $6) RETURNING inc_id";
    // Whoever takes something away holds the same lock alone while he looks who lives.
    tx.share(Lock::Schema).await?;
    let needed: Option<i64> = run!(tx, |c| sql::query_scalar(NEEDED).fetch_optional(c))?;
    if needed.is_some_and(|needed| known < needed) {
        return Err(StorageError::Unusable(
            "a newer version of colonnade took away what this one uses while it started: start the \
             newer version"
                .to_owned(),
        ));
    }
    run!(tx, |c| sql::query_scalar(NEW)
        .bind(name.to_owned())
        .bind(pool.to_owned())
        .bind(address.to_owned())
        .bind(LIVE)
        .bind(now_ms)
        .bind(known)
        .fetch_one(c))
}

/// A slot, and the epoch at which its owner got it.
pub type OwnershipEpoch = (u16, i64);

/// Makes the transaction fail unless this incarnation owns `slots`, and did so ever since the epochs
/// named with them: nobody else wrote there meanwhile. The first statement of every owner's
/// transaction.
///
/// # Errors
/// [`StorageError::Fenced`] when it does not own one of them: nothing was written, and the process
/// has to look at the slots again. Never with one process.
pub async fn fence(tx: &mut Tx, ownership: Ownership, slots: &[OwnershipEpoch]) -> Result<()> {
    const LIVING: &str = "SELECT CAST(count(*) AS BIGINT) FROM incarnations \
         WHERE inc_id = $1 AND state < $2";
    const OWNED: &str = "SELECT slot, since FROM pool_slots \
         WHERE pool = $1 AND owner_inc = $2 AND slot IN {INTS 3}";
    let Ownership { pool, incarnation } = ownership;
    if incarnation == 0 {
        return Ok(());
    }
    tx.share(Lock::Incarnation(incarnation)).await?;
    // A statement of its own, so that it sees what was committed while we waited for the lock.
    let living: i64 =
        run!(tx, |c| sql::query_scalar(LIVING).bind(incarnation).bind(FENCED).fetch_one(c))?;
    if living == 0 {
        return Err(StorageError::Fenced(format!("incarnation {incarnation} was taken over")));
    }
    let mut slots = slots.to_vec();
    slots.sort_unstable();
    slots.dedup();
    let list = int_list(slots.iter().map(|(slot, _)| i64::from(*slot)));
    let owned: Vec<(i64, i64)> = run_list!(tx, OWNED, |sql, c| sql::query_as(sql)
        .bind(pool)
        .bind(incarnation)
        .bind(list)
        .fetch_all(c))?;
    for (slot, since) in slots {
        if !owned.contains(&(i64::from(slot), since)) {
            let why = format!("incarnation {incarnation} does not own slot {slot} since {since}");
            return Err(StorageError::Fenced(why));
        }
    }
    Ok(())
}

/// Ends an incarnation for good: waits for its transactions under way, then makes sure that none
/// can commit after this one. Its slots may be given away in the same transaction.
///
/// # Errors
/// When its transactions do not end in time, or the database fails.
pub async fn take_over(tx: &mut Tx, incarnation: i64) -> Result<()> {
    const FENCE: &str = "UPDATE incarnations SET state = $2 WHERE inc_id = $1";
    tx.lock(Lock::Incarnation(incarnation)).await?;
    execute!(tx, sql::query(FENCE).bind(incarnation).bind(FENCED))?;
    Ok(())
}

/// Gives slots of a live incarnation to another. Waits for the transactions under way of the one
/// that has them, so that the new owner sees all it wrote, and counts up the epoch.
///
/// # Errors
/// When those transactions do not end in time, or the database fails.
pub async fn hand_over(
    tx: &mut Tx,
    from: Ownership,
    slots: &[u16],
    to_incarnation: i64,
) -> Result<()> {
    const MOVE: &str = "UPDATE pool_slots SET owner_inc = $3, \
         since = 1 + (SELECT value FROM cluster WHERE key = 'epoch') WHERE pool = $1 AND owner_inc = $2 AND slot IN {INTS 4}";
    const EPOCH: &str = "UPDATE cluster SET value = value + 1 WHERE key = 'epoch'";
    tx.lock(Lock::Incarnation(from.incarnation)).await?;
    let list = int_list(slots.iter().map(|slot| i64::from(*slot)));
    run_list!(tx, MOVE, |sql, c| async {
        let moved = sql::query(sql).bind(from.pool).bind(from.incarnation);
        moved.bind(to_incarnation).bind(list).execute(c).await.map(|_| ())
    })?;
    execute!(tx, sql::query(EPOCH))?;
    Ok(())
}

#[cfg(test)]
mod tests;

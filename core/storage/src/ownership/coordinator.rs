//! Who is there and who owns what: the rows of `incarnations` and `pool_slots`, how they change, and
//! the map of them that workers and gateways follow.
//!
//! Invariants:
//! 1. One coordinator at a time: [`coordinate`] holds a lock of the transaction while it decides.
//! 2. A slot moves away from a live incarnation only after the transactions it has under way, and
//!    from a dead one only after its end is certain ([`take_over`]). Who is taken for dead by mistake
//!    loses its right to write, never a committed write.
//! 3. Every change counts up the epoch in the same transaction.
//!
//! Clocks only decide when to look for the dead, and it is the database's clock. When that is set
//! ahead all look silent, so whoever coordinates notes it beside its own ([`Patience::noted`]).

use std::{collections::BTreeMap, time::Duration};

use futures_util::TryFutureExt as _;
use tokio::time::Instant;

pub use super::member::Member;
use super::{
    DRAINING, FENCED,
    balance::{balance, is_balanced},
    insert,
    member::Row,
    pools::{serving, slots_of},
    take_over,
};
use crate::{
    Database, Held, Tx,
    database::{Lock, int_list, sql},
    error::Result,
};

/// How long an incarnation may be silent before it counts as dead, in milliseconds by the database's
/// clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Whatever else is known of it.
    pub silence_ms: i64,
    /// When nobody holds the lock that says it lives. Long enough to take the lock after registering,
    /// and again after its connection broke.
    pub without_lock_ms: i64,
    /// What the database's clock showed at some moment, as whoever asks noted it. When it shows
    /// something else than the time that has passed since, it was set, and nobody is taken for dead.
    pub noted: Option<(i64, Instant)>,
}

impl Patience {
    /// Nobody is dead, however silent.
    pub const ENDLESS: Self =
        Self { silence_ms: i64::MAX / 2, without_lock_ms: i64::MAX / 2, noted: None };

    /// From how far in the future on a sign of life is from before the clock was set back: who lives
    /// has given another one since the clock was noted.
    fn future_ms(&self) -> i64 {
        self.noted.map_or(Self::ENDLESS.silence_ms, |_| self.silence_ms)
    }

    /// Tells whether the database's clock was set since it was noted.
    fn is_clock_set(&self, now_ms: i64) -> bool {
        self.noted.is_some_and(|(noted_ms, at)| is_set(noted_ms, at.elapsed(), now_ms))
    }
}

/// Tells whether a clock that shows `now_ms` was set ahead or back since it showed `noted_ms`, that is
/// `passed` ago.
pub fn is_set(noted_ms: i64, passed: Duration, now_ms: i64) -> bool {
    let passed_ms = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
    now_ms.abs_diff(noted_ms.saturating_add(passed_ms)) > CLOCK_SET_MS
}

impl Default for Patience {
    fn default() -> Self {
        Self { silence_ms: 5_000, without_lock_ms: 1_500, noted: None }
    }
}

/// From what difference on a clock was set, and is not merely read late. Less than the silence that is
/// death by more than the time between two signs of life.
const CLOCK_SET_MS: u64 = 2_000;
/// How often the map is read again when it changed while it was read.
const TRIES_MAX: usize = 10;

const EPOCH_UP: &str = "UPDATE cluster SET value = value + 1 WHERE key = 'epoch'";
const MEMBERS: &str =
    "SELECT inc_id, name, pool, address, state FROM incarnations WHERE state < $1 ORDER BY inc_id";

/// Who owns a slot, and since which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// The incarnation; 0 is none.
    pub incarnation: i64,
    /// The epoch.
    pub since: i64,
}

/// Who is there, and who owns what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotMap {
    /// Counts the changes.
    pub epoch: i64,
    /// Those who are not fenced, by incarnation.
    pub members: Vec<Member>,
    /// The owners by pool and slot, each with the epoch at which it got the slot; 0 is none. Pools
    /// without slots are not here.
    pub owners: BTreeMap<String, Vec<Owner>>,
}

impl SlotMap {
    /// Returns who owns a slot; `None` when the map does not know it.
    pub fn owner(&self, pool: &str, slot: u16) -> Option<Owner> {
        self.owners.get(pool)?.get(usize::from(slot)).copied()
    }

    /// Returns the process of an incarnation; `None` when it is gone.
    pub fn member(&self, incarnation: i64) -> Option<&Member> {
        self.members.iter().find(|member| member.incarnation == incarnation)
    }
}

/// Makes a new incarnation of a process, which serves these pools, and makes every later write of
/// `db` one of its own.
///
/// # Errors
/// When the database fails.
pub async fn register(db: &Database, name: &str, pools: &[String], address: &str) -> Result<i64> {
    let (name, pools, address) = (name.to_owned(), pools.join(","), address.to_owned());
    let known = db.schema_known;
    let registered = db.write(move |tx| {
        Box::pin(async move {
            let now_ms = tx.now_ms().await?;
            let new = insert(tx, (&name, &pools, &address), known, now_ms).await?;
            execute!(tx, sql::query(EPOCH_UP))?;
            Ok(new)
        })
    });
    let incarnation = registered.await?;
    db.set_incarnation(incarnation);
    Ok(incarnation)
}

/// Says that an incarnation still lives, and returns when that was by the database's clock; `None`
/// when it was fenced: then its process has to begin anew. Said on the connection that holds its lock
/// where there is one, so that it waits for nobody.
///
/// # Errors
/// When the database fails.
pub async fn beat(db: &Database, held: Option<&Held>, incarnation: i64) -> Result<Option<i64>> {
    const BEAT: &str = "UPDATE incarnations SET heartbeat_ts = $2 WHERE inc_id = $1 AND state < $3";
    if let Some(held) = held
        && let Some(beaten) = held.beat(incarnation, FENCED).await?
    {
        return Ok(beaten);
    }
    let beaten = db.write_twice(move |tx| {
        Box::pin(async move {
            let now_ms = tx.now_ms().await?;
            let beaten =
                execute!(tx, sql::query(BEAT).bind(incarnation).bind(now_ms).bind(FENCED))?;
            Ok((beaten > 0).then_some(now_ms))
        })
    });
    beaten.await
}

/// Says that an incarnation wants to end: [`coordinate`] gives its slots to others.
///
/// # Errors
/// When the database fails.
pub async fn drain(db: &Database, incarnation: i64) -> Result<()> {
    const DRAIN: &str = "UPDATE incarnations SET state = $2 WHERE inc_id = $1 AND state < $2";
    db.write_twice(move |tx| {
        Box::pin(async move {
            if execute!(tx, sql::query(DRAIN).bind(incarnation).bind(DRAINING))? > 0 {
                execute!(tx, sql::query(EPOCH_UP))?;
            }
            Ok(())
        })
    })
    .await
}

/// Ends an incarnation of one's own: it writes nothing any more, and others see at once that it is
/// gone.
///
/// # Errors
/// When the database fails: others notice by its silence then.
pub async fn leave(db: &Database, incarnation: i64) -> Result<()> {
    db.write_twice(move |tx| {
        Box::pin(async move {
            take_over(tx, incarnation).await?;
            execute!(tx, sql::query(EPOCH_UP))?;
            Ok(())
        })
    })
    .await
}

/// Ends the dead and deals out the slots of `pools` evenly among those who live; true when anything
/// changed. Any process may call this at any time, and all do: one of them decides. `own` is the
/// incarnation of who asks, who lives.
///
/// # Errors
/// When a live owner's transactions do not end in time, or the database fails: nothing changed then.
pub async fn coordinate(
    db: &Database,
    own: i64,
    pools: &'static [&'static str],
    patience: Patience,
) -> Result<bool> {
    // Beside the lanes: whoever we wait for may itself be waiting for its turn in one.
    db.write_twice(move |tx| {
        Box::pin(async move {
            tx.lock(Lock::Coordinator).await?;
            let mut changed = end_the_dead(tx, own, patience).await?;
            let rows: Vec<Row> = run!(tx, |c| sql::query_as(MEMBERS).bind(FENCED).fetch_all(c))?;
            let members: Vec<Member> = rows.into_iter().map(Member::from).collect();
            for pool in pools {
                changed |= deal(tx, pool, &members).await?;
            }
            if changed {
                execute!(tx, sql::query(EPOCH_UP))?;
            }
            Ok(changed)
        })
    })
    .await
}

/// Tells whether [`coordinate`] may have something to do, in one small query: the map is not that of
/// `settled`, the epoch at which there was nothing to do, or somebody is silent. Always on SQLite,
/// where there is nobody to save it for.
///
/// # Errors
/// When the database fails.
pub async fn is_unsettled(
    db: &Database,
    own: i64,
    settled: i64,
    patience: Patience,
) -> Result<bool> {
    const UNSETTLED: &str = "SELECT c.value <> $1 OR EXISTS (SELECT 1 FROM incarnations i \
         WHERE i.state < $2 AND i.inc_id <> $3 AND (i.heartbeat_ts < {NOW_MS} - $4 \
         OR i.heartbeat_ts > {NOW_MS} + $5)) FROM cluster c WHERE c.key = 'epoch'";
    if !db.can_be_shared() {
        return Ok(true);
    }
    let silence_ms = patience.without_lock_ms.min(patience.silence_ms);
    read_list!(db, UNSETTLED, |sql, c| sql::query_scalar(sql)
        .bind(settled)
        .bind(FENCED)
        .bind(own)
        .bind(silence_ms)
        .bind(patience.future_ms())
        .fetch_one(c))
}

async fn end_the_dead(tx: &mut Tx, own: i64, patience: Patience) -> Result<bool> {
    const SILENT: &str = "SELECT inc_id, heartbeat_ts FROM incarnations \
         WHERE state < $1 AND (heartbeat_ts < $2 OR heartbeat_ts > $4) AND inc_id <> $3 \
         ORDER BY inc_id";
    let now_ms = tx.now_ms().await?;
    if patience.is_clock_set(now_ms) {
        return Ok(false);
    }
    let silent: Vec<(i64, i64)> = run!(tx, |c| sql::query_as(SILENT)
        .bind(FENCED)
        .bind(now_ms - patience.without_lock_ms.min(patience.silence_ms))
        .bind(own)
        .bind(now_ms + patience.future_ms())
        .fetch_all(c))?;
    let mut changed = false;
    for (incarnation, heartbeat_ts) in silent {
        let silent_ms = now_ms - heartbeat_ts;
        if silent_ms.saturating_abs() > patience.silence_ms
            || tx.is_abandoned(Lock::Alive(incarnation)).await?
        {
            take_over(tx, incarnation).await?;
            tracing::warn!(incarnation, silent_ms, "a process is gone; others take its slots");
            changed = true;
        }
    }
    Ok(changed)
}

/// Deals out the slots of a pool; `members` are those who are not fenced.
async fn deal(tx: &mut Tx, pool: &str, members: &[Member]) -> Result<bool> {
    const COUNTS: &str = "SELECT owner_inc, CAST(count(*) AS BIGINT) FROM pool_slots \
         WHERE pool = $1 GROUP BY owner_inc";
    const OWNERS: &str = "SELECT slot, owner_inc, since FROM pool_slots WHERE pool = $1";
    let serving = serving(members.iter(), pool);
    let counts: Vec<(i64, i64)> =
        run!(tx, |c| sql::query_as(COUNTS).bind(pool.to_owned()).fetch_all(c))?;
    if is_balanced(&counts, slots_of(pool), &serving) {
        return Ok(false);
    }
    let rows: Vec<(i64, i64, i64)> =
        run!(tx, |c| sql::query_as(OWNERS).bind(pool.to_owned()).fetch_all(c))?;
    let owners: Vec<i64> = by_slot(pool, rows).iter().map(|owner| owner.incarnation).collect();
    let wanted = balance(&owners, &serving);
    let mut moves: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (slot, (has, wanted)) in (0_i64..).zip(owners.iter().zip(&wanted)) {
        if has != wanted {
            moves.entry(*wanted).or_default().push(slot);
        }
    }
    if moves.is_empty() {
        return Ok(false);
    }
    // Each of those who lose slots and live: wait for what it has under way. In order, once each.
    let changes = owners.iter().zip(&wanted).filter(|(has, wanted)| has != wanted);
    let mut losers: Vec<i64> = changes.map(|(has, _)| *has).collect();
    losers.sort_unstable();
    losers.dedup();
    let lives = |loser: &i64| members.iter().any(|member| member.incarnation == *loser);
    for loser in losers.into_iter().filter(lives) {
        tx.lock(Lock::Incarnation(loser)).await?;
    }
    for (owner, slots) in moves {
        give(tx, pool, slots, owner).await?;
    }
    Ok(true)
}

/// Gives slots to an owner, in one statement: there may be a thousand of them.
async fn give(tx: &mut Tx, pool: &str, slots: Vec<i64>, owner: i64) -> Result<()> {
    const GIVE: &str = "INSERT INTO pool_slots (pool, slot, owner_inc, since) \
         SELECT CAST($1 AS TEXT), given.value, CAST($3 AS BIGINT), \
         1 + (SELECT c.value FROM cluster c WHERE c.key = 'epoch') \
         FROM {INTS 2} AS given WHERE 1 = 1 \
         ON CONFLICT (pool, slot) DO UPDATE SET owner_inc = excluded.owner_inc, \
         since = excluded.since";
    let slots = int_list(slots);
    run_list!(tx, GIVE, |sql, c| sql::query(sql)
        .bind(pool.to_owned())
        .bind(slots)
        .bind(owner)
        .execute(c)
        .map_ok(|_| ()))
}

fn by_slot(pool: &str, rows: Vec<(i64, i64, i64)>) -> Vec<Owner> {
    let mut owners = vec![Owner::default(); slots_of(pool)];
    for (slot, incarnation, since) in rows {
        if let Some(place) = usize::try_from(slot).ok().and_then(|slot| owners.get_mut(slot)) {
            *place = Owner { incarnation, since };
        }
    }
    owners
}

/// Returns the epoch: whether the map has to be read again.
///
/// # Errors
/// When the database fails.
pub async fn epoch(db: &Database) -> Result<i64> {
    const EPOCH: &str = "SELECT value FROM cluster WHERE key = 'epoch'";
    read!(db, |c| sql::query_scalar(EPOCH).fetch_one(c))
}

/// Returns the map as it stands.
///
/// # Errors
/// When the database fails.
pub async fn slot_map(db: &Database) -> Result<SlotMap> {
    let mut before = epoch(db).await?;
    for _ in 0..TRIES_MAX {
        let map = read_map(db, before).await?;
        let after = epoch(db).await?;
        if after == before {
            return Ok(map);
        }
        before = after;
    }
    Err(crate::StorageError::Unavailable("the slots do not come to rest".to_owned()))
}

async fn read_map(db: &Database, epoch: i64) -> Result<SlotMap> {
    const OWNERS: &str =
        "SELECT pool, slot, owner_inc, since FROM pool_slots WHERE owner_inc IN {INTS 1}";
    let rows: Vec<Row> = read!(db, |c| sql::query_as(MEMBERS).bind(FENCED).fetch_all(c))?;
    let members: Vec<Member> = rows.into_iter().map(Member::from).collect();
    let list = int_list(members.iter().map(|member| member.incarnation));
    let rows: Vec<(String, i64, i64, i64)> =
        read_list!(db, OWNERS, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
    let mut pools: BTreeMap<String, Vec<(i64, i64, i64)>> = BTreeMap::new();
    for (pool, slot, owner, since) in rows {
        pools.entry(pool).or_default().push((slot, owner, since));
    }
    let owners = pools.into_iter().map(|(pool, rows)| {
        let by_slot = by_slot(&pool, rows);
        (pool, by_slot)
    });
    let owners = owners.collect();
    Ok(SlotMap { epoch, members, owners })
}

#[cfg(test)]
mod tests;

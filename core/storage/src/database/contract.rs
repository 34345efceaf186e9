//! The contract of streams: whoever polls sees every committed row once, in order, and never one
//! that appears later below what was seen; with writers in many processes, transactions that dawdle,
//! fail, and lose their connection at any moment, during COMMIT too.
//!
//! A position taken from a sequence breaks it. That is the control: the same reader must lose rows.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use colonnade_model::{
    Random as _, SeededRandom,
    stream::{Stream, StreamAdvance},
};
use sqlx::Connection as _;

use super::{
    testing::{self, World},
    *,
};
use crate::database::sql;

/// Databases opened at once on PostgreSQL, each as a process of its own would.
const PROCESSES: usize = 5;
/// Tasks that write in each of them.
const TASKS: usize = 4;
/// Writes of each task.
const WRITES: i64 = 40;

#[derive(Default)]
struct CommitLog(Mutex<Vec<StreamAdvance>>);

impl CommitListener for CommitLog {
    fn committed(&self, advance: StreamAdvance) {
        self.0.lock().unwrap().push(advance);
    }
}

fn below(random: &SeededRandom, bound: u64) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_le_bytes(bytes) % bound
}

async fn dawdle(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// Writes one row, slowly or not at all; returns whether it was told that the row is there.
async fn put(db: &Database, lane: Lane, id: i64, random: &SeededRandom) -> bool {
    let (before, after, fails) = (below(random, 3), below(random, 2), below(random, 4) == 0);
    let written = db.write_in(lane, move |tx| {
        Box::pin(async move {
            const ROW: &str = "INSERT INTO contract (pos, id) VALUES ($1, $2)";
            dawdle(before).await;
            let pos = tx.seal(lane.streams()[0], 1).await?;
            execute!(tx, sql::query(ROW).bind(pos).bind(id))?;
            dawdle(after).await;
            if fails { Err(StorageError::Failed("on purpose".to_owned())) } else { Ok(()) }
        })
    });
    match written.await {
        Ok(()) => true,
        Err(StorageError::Failed(why)) if why == "on purpose" => false,
        Err(StorageError::Unavailable(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

/// Polls until told to stop and once more; returns the rows in the order in which they were seen.
async fn read(db: Database, stream: Stream, stop: Arc<AtomicBool>) -> Vec<(i64, i64)> {
    const ROWS: &str = "SELECT pos, id FROM contract WHERE pos > $1 AND pos <= $2 ORDER BY pos";
    let (mut seen, mut rows) = (0, Vec::new());
    loop {
        let last = stop.load(Ordering::Acquire);
        // A reader loses its connection, too, and looks again.
        let Ok(horizons) = crate::streams::horizons(&db).await else { continue };
        let upto = horizons.get(stream);
        let fresh: Result<Vec<(i64, i64)>> =
            read!(db, |c| sql::query_as(ROWS).bind(seen).bind(upto).fetch_all(c));
        let Ok(fresh) = fresh else { continue };
        rows.extend(fresh);
        seen = upto;
        if last {
            return rows;
        }
    }
}

/// Breaks connections of writers, again and again.
async fn sabotage(db: Database, stop: Arc<AtomicBool>) -> u64 {
    const KILL: &str = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid \
         FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
         ORDER BY (state = 'active') DESC, random() LIMIT 1) AS one";
    let mut killed = 0;
    while !stop.load(Ordering::Acquire) {
        let count: Result<i64> = read!(db, |c| sql::query_scalar(KILL).fetch_one(c));
        killed += count.unwrap_or(0).unsigned_abs();
        dawdle(15).await;
    }
    killed
}

async fn keeps_the_contract(world: World, lane: Lane, seed: u64) {
    println!("seed {seed}");
    let on_postgres = matches!(world.location, Location::Postgres { .. });
    let heard = Arc::new(CommitLog::default());
    let mut processes = Vec::new();
    for _ in 0..if on_postgres { PROCESSES } else { 1 } {
        // Opening meets accidents as well; it may be tried again.
        let opened = loop {
            match Database::open(&world.location, Arc::clone(&heard) as _).await {
                Ok(db) => break db,
                Err(StorageError::Unavailable(_) | StorageError::Unusable(_)) => {}
                Err(other) => panic!("{other}"),
            }
        };
        processes.push(opened);
    }
    let made = processes[0].write(|tx| {
        Box::pin(async move {
            const TABLE: &str = "CREATE TABLE contract (pos BIGINT PRIMARY KEY, id BIGINT UNIQUE)";
            execute!(tx, sql::query(TABLE))
        })
    });
    made.await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stream = lane.streams()[0];
    let reader = tokio::spawn(read(processes[0].clone(), stream, Arc::clone(&stop)));
    let saboteur =
        on_postgres.then(|| tokio::spawn(sabotage(processes[0].clone(), Arc::clone(&stop))));
    let mut writers = tokio::task::JoinSet::new();
    for task in 0..TASKS * processes.len() {
        let db = processes[task % processes.len()].clone();
        writers.spawn(async move {
            let random = SeededRandom::new(seed * 1_000 + task as u64);
            let mut acknowledged = Vec::new();
            for n in 0..WRITES {
                let id = task as i64 * WRITES + n;
                if put(&db, lane, id, &random).await {
                    acknowledged.push(id);
                }
            }
            acknowledged
        });
    }
    let acknowledged: BTreeSet<i64> = writers.join_all().await.into_iter().flatten().collect();
    stop.store(true, Ordering::Release);
    let seen = reader.await.unwrap();
    if let Some(saboteur) = saboteur {
        println!("{} connections broken", saboteur.await.unwrap());
    }
    let dense: Vec<i64> = (1..).take(seen.len()).collect();
    let positions: Vec<i64> = seen.iter().map(|(pos, _)| *pos).collect();
    assert_eq!(positions, dense, "every position once, in order, without a gap");
    let ids: BTreeSet<i64> = seen.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids, acknowledged, "what was acknowledged is there, and nothing else");
    // What listeners heard tells the same story: each position in one advance.
    let mut advances = heard.0.lock().unwrap().clone();
    advances.sort_by_key(|advance| advance.prev);
    let mut at = 0;
    for advance in advances.iter().filter(|advance| advance.stream == stream) {
        assert_eq!(advance.prev, at);
        at = advance.upto;
    }
    assert_eq!(at, seen.len() as i64);
    for db in processes {
        db.close().await;
    }
}

async fn lanes_whose_turn_comes_first_keep_the_contract(world: World) {
    keeps_the_contract(world, Lane::General, 1).await;
}

async fn a_lane_whose_turn_comes_with_the_seal_keeps_the_contract(world: World) {
    keeps_the_contract(world, Lane::Events, 2).await;
}

on_both!(
    lanes_whose_turn_comes_first_keep_the_contract,
    a_lane_whose_turn_comes_with_the_seal_keeps_the_contract,
);

#[tokio::test]
async fn commits_whose_answer_is_lost_keep_the_contract() {
    for (lane, seed) in [(Lane::General, 3), (Lane::Events, 4)] {
        keeps_the_contract(testing::postgres_behind_accidents(seed), lane, seed).await;
    }
}

/// The control: positions from a sequence, read by polling. If this loses nothing, the test above
/// proves nothing.
#[tokio::test]
async fn positions_from_a_sequence_are_skipped() {
    let World { location: Location::Postgres { url, .. }, .. } = testing::postgres() else {
        unreachable!("a place on PostgreSQL");
    };
    let connect = async || sqlx::PgConnection::connect(&url).await.unwrap();
    let mut reader = connect().await;
    sql::query("CREATE TABLE naive (pos BIGSERIAL PRIMARY KEY)")
        .execute(&mut reader)
        .await
        .unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for task in 0..8 {
        let mut connection = connect().await;
        writers.spawn(async move {
            let random = SeededRandom::new(task);
            for _ in 0..WRITES {
                let mut tx = connection.begin().await.unwrap();
                sql::query("INSERT INTO naive DEFAULT VALUES").execute(&mut *tx).await.unwrap();
                dawdle(below(&random, 4)).await;
                tx.commit().await.unwrap();
            }
        });
    }
    const FRESH: &str = "SELECT pos FROM naive WHERE pos > $1 ORDER BY pos";
    let (mut seen, mut at) = (0usize, 0i64);
    loop {
        let last = writers.is_empty();
        let fresh: Vec<i64> =
            sql::query_scalar(FRESH).bind(at).fetch_all(&mut reader).await.unwrap();
        seen += fresh.len();
        at = fresh.last().copied().unwrap_or(at);
        if last {
            break;
        }
        while writers.try_join_next().is_some() {}
    }
    let all: i64 =
        sql::query_scalar("SELECT count(*) FROM naive").fetch_one(&mut reader).await.unwrap();
    println!("naive polling saw {seen} of {all}");
    assert!((seen as i64) < all, "naive polling saw all {all} rows: the control controls nothing");
}

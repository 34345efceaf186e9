//! Whoever waits gets what is there first, in turn; with a server that has fewer connections than are wanted, too.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use colonnade_testkit_postgres::Cluster;
use futures_util::FutureExt as _;
use sqlx::ConnectOptions as _;

use super::*;
use crate::database::sql;

/// How long something that must happen may take on a very busy machine.
const LONG: Duration = Duration::from_secs(600);
/// Nothing ends by time.
const ENDLESS: Limits = Limits { max: 6, patience: LONG, idle: LONG, turn: LONG };

/// A user of its own who may have so many connections at once.
fn user(connections: usize) -> PgConnectOptions {
    static USERS: AtomicUsize = AtomicUsize::new(0);
    let cluster = Cluster::shared();
    let name = format!("guest{}", USERS.fetch_add(1, Ordering::Relaxed));
    cluster.sql("postgres", &format!("CREATE ROLE {name} LOGIN CONNECTION LIMIT {connections}"));
    let url = cluster.url("postgres").replacen("colonnade@", &format!("{name}@"), 1);
    let options: PgConnectOptions = url.parse().unwrap();
    options.disable_statement_logging()
}

async fn one(readers: &Readers) -> i64 {
    let mut reader = readers.lend().await.unwrap();
    let answer = sql::query_scalar("SELECT CAST(1 AS BIGINT)").fetch_one(&mut *reader).await;
    reader.done(answer).unwrap()
}

/// Lets everything else go on until somebody waits for a connection.
async fn until_waiting(readers: &Readers, count: usize) {
    while readers.0.state.lock().waiting < count {
        tokio::task::yield_now().await;
    }
}

/// The server has two connections for a process that may have six. Who wanted to open the third waited
/// for ten seconds and was refused, while those who came later read on what was given back.
#[tokio::test]
async fn a_connection_that_is_given_back_is_anybodys() {
    let readers = Readers::open(&user(2), ENDLESS).await.unwrap();
    let _lent_all_the_time = readers.lend().await.unwrap();
    let lent = readers.lend().await.unwrap();
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let readers = readers.clone();
            tokio::spawn(async move { one(&readers).await })
        })
        .collect();
    until_waiting(&readers, 20).await;
    while readers.0.state.lock().refused.is_none() {
        sleep(Duration::from_millis(5)).await;
    }
    lent.done(Ok(())).unwrap();
    for waiting in waiting {
        assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), 1);
    }
}

#[tokio::test]
async fn who_asked_first_is_first_and_a_writer_before_all() {
    let readers = Readers::open(&user(1), ENDLESS).await.unwrap();
    let lent = readers.lend().await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for n in 0..5 {
        let (all, order) = (readers.clone(), Arc::clone(&order));
        waiting.push(tokio::spawn(async move {
            let reader = all.lend().await.unwrap();
            order.lock().push(n);
            reader.done(Ok(())).unwrap();
        }));
        until_waiting(&readers, n + 1).await;
    }
    let (all, taken) = (readers.clone(), Arc::clone(&order));
    let taker = tokio::spawn(async move {
        let connection = all.take().await.unwrap();
        assert!(taken.lock().is_empty(), "a read came before a writer");
        connection.close().await.unwrap();
    });
    until_waiting(&readers, 6).await;
    lent.done(Ok(())).unwrap();
    taker.await.unwrap();
    for waiting in waiting {
        waiting.await.unwrap();
    }
    assert_eq!(*order.lock(), [0, 1, 2, 3, 4]);
}

/// Two processes, one of which reads without a pause on all connections there are.
#[tokio::test]
async fn who_has_none_gets_one_of_another_process() {
    let (options, limits) = (user(3), Limits { turn: Duration::from_millis(100), ..ENDLESS });
    let busy = Readers::open(&options, limits).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let reading: Vec<_> = (0..6)
        .map(|_| {
            let (busy, stop) = (busy.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    one(&busy).await;
                }
            })
        })
        .collect();
    while busy.0.state.lock().crowded_at.is_none() {
        sleep(Duration::from_millis(5)).await;
    }
    let none = Readers::empty(&options, limits);
    assert_eq!(timeout(LONG, one(&none)).await.unwrap(), 1);
    stop.store(true, Ordering::Release);
    for reading in reading {
        reading.await.unwrap();
    }
}

#[tokio::test]
async fn what_idles_is_given_back_but_for_one() {
    let limits = Limits { idle: Duration::from_millis(50), ..ENDLESS };
    let readers = Readers::open(&user(6), limits).await.unwrap();
    let mut lent = Vec::new();
    for _ in 0..6 {
        lent.push(readers.lend().await.unwrap());
    }
    for reader in lent {
        reader.done(Ok(())).unwrap();
    }
    while readers.0.state.lock().open > KEPT {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(limits.idle * 4).await;
    assert_eq!(readers.0.state.lock().open, KEPT);
    assert_eq!(one(&readers).await, 1);
}

/// A reader that gave up leaves its connection in the middle of an answer, or of a transaction.
#[tokio::test]
async fn who_gives_up_spoils_nothing() {
    let readers = Readers::open(&user(1), Limits { max: 1, ..ENDLESS }).await.unwrap();
    for _ in 0..3 {
        let mut reader = readers.lend().await.unwrap();
        let slow = sqlx::raw_sql("SELECT CAST(2 AS BIGINT) FROM pg_sleep(0.1)");
        let _given_up = slow.fetch_all(&mut *reader).now_or_never();
        drop(reader);
        assert_eq!(one(&readers).await, 1);
        let mut reader = readers.lend().await.unwrap();
        reader.begins();
        sqlx::raw_sql("BEGIN; CREATE TEMPORARY TABLE half (x BIGINT)")
            .execute(&mut *reader)
            .await
            .unwrap();
        drop(reader);
        let mut reader = readers.lend().await.unwrap();
        let there = "SELECT to_regclass('half') IS NOT NULL";
        let there = sql::query_scalar(there).fetch_one(&mut *reader).await;
        assert!(!reader.done::<bool>(there).unwrap());
    }
}

#[tokio::test]
async fn a_connection_that_broke_is_replaced() {
    let readers = Readers::open(&user(6), ENDLESS).await.unwrap();
    let (mut first, mut second) = (readers.lend().await.unwrap(), readers.lend().await.unwrap());
    let mut pids: Vec<i32> = Vec::new();
    for reader in [&mut first, &mut second] {
        let pid = sql::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut **reader);
        pids.push(pid.await.unwrap());
    }
    first.done(Ok(())).unwrap();
    for pid in pids {
        Cluster::shared().sql("postgres", &format!("SELECT pg_terminate_backend({pid}, 600000)"));
    }
    let answer = sql::query("SELECT 1").execute(&mut *second).await;
    assert!(second.done(answer).is_err(), "it was broken");
    sleep(IDLE_TRUSTED).await;
    for _ in 0..3 {
        assert_eq!(timeout(LONG, one(&readers)).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn nothing_is_lent_once_closed() {
    let readers = Readers::open(&user(2), ENDLESS).await.unwrap();
    let lent = readers.lend().await.unwrap();
    let closing = tokio::spawn({
        let readers = readers.clone();
        async move { readers.close(LONG).await }
    });
    while !readers.0.state.lock().is_closed {
        tokio::task::yield_now().await;
    }
    assert!(readers.lend().await.is_err());
    assert!(readers.take().await.is_err());
    assert!(!closing.is_finished(), "one is lent still");
    lent.done(Ok(())).unwrap();
    timeout(LONG, closing).await.unwrap().unwrap();
    assert_eq!(readers.0.state.lock().open, 0);
}

#[tokio::test]
async fn why_there_was_none_is_said() {
    let options = user(1);
    let _taken = options.connect().await.unwrap();
    let readers =
        Readers::empty(&options, Limits { patience: Duration::from_millis(300), ..ENDLESS });
    let mut why = String::new();
    while readers.0.state.lock().refused.is_none() {
        why = readers.lend().await.err().unwrap().to_string();
    }
    assert!(why.contains("no connection became free in time"), "{why}");
    assert!(why.contains("raise max_connections"), "{why}");
    assert!(matches!(Readers::open(&options, ENDLESS).await, Err(StorageError::Unusable(_))));
}

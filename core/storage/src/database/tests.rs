//! Group commit: values come back after the commit, failures spoil nobody, positions are dense and
//! told in order, and what was answered is there after reopening.

use std::sync::{Arc, Mutex};

use colonnade_model::{
    nid::UserNid,
    stream::{Stream, StreamAdvance, Touch},
};

use super::{testing::World, *};
use crate::database::sql;

#[derive(Default)]
struct CommitLog(Mutex<Vec<StreamAdvance>>);

impl CommitListener for CommitLog {
    fn committed(&self, advance: StreamAdvance) {
        self.0.lock().unwrap().push(advance);
    }
}

async fn put(db: &Database, key: String, fail: bool) -> Result<i64> {
    db.write_in(Lane::Receipts, move |tx| {
        Box::pin(async move {
            const PUT: &str = "INSERT INTO settings (key, value) VALUES ($1, $2)";
            execute!(tx, sql::query(PUT).bind(key).bind(vec![1u8]))?;
            let pos = tx.seal(Stream::Receipts, 1).await?;
            tx.touch(Stream::Receipts, Touch::User(UserNid(1)), pos);
            if fail { Err(StorageError::Failed("on purpose".to_owned())) } else { Ok(pos) }
        })
    })
    .await
}

async fn failures_spoil_nobody_and_positions_stay_dense(world: World) {
    let heard = Arc::new(CommitLog::default());
    let db = world.open_with(heard.clone()).await;
    let writes = (0..100).map(|n| put(&db, format!("k{n}"), n % 3 == 0));
    let results = futures_util::future::join_all(writes).await;
    let mut positions: Vec<i64> = results.iter().filter_map(|r| r.as_ref().ok().copied()).collect();
    positions.sort_unstable();
    assert_eq!(positions, (1..=66).collect::<Vec<_>>());
    assert!(matches!(put(&db, "k1".into(), false).await, Err(StorageError::Conflict(_))));
    let mut at = 0;
    for advance in heard.0.lock().unwrap().iter() {
        assert_eq!(advance.prev, at);
        assert_eq!(advance.touched.len() as i64, advance.upto - advance.prev);
        at = advance.upto;
    }
    assert_eq!(at, 66);
    if matches!(world.location, Location::Sqlite(_)) {
        let second = Database::open(&world.location, heard.clone()).await;
        assert!(second.is_err(), "a file is of one process");
    }
    db.close().await;
    assert!(matches!(put(&db, "late".into(), false).await, Err(StorageError::Unavailable(_))));
    drop(db);
    let db = world.open_with(heard.clone()).await;
    assert_eq!(put(&db, "again".into(), false).await.unwrap(), 67);
    let count: i64 =
        read!(db, |c| sql::query_scalar("SELECT count(*) FROM settings").fetch_one(c)).unwrap();
    assert_eq!(count, 67);
    db.close().await;
}

on_both!(failures_spoil_nobody_and_positions_stay_dense);

//! What the tables say of a gap, beside what the commits said.

use std::sync::{Arc, Mutex};

use colonnade_model::stream::StreamAdvance;
use serde_json::value::RawValue;

use super::*;
use crate::{
    CommitListener,
    database::testing::World,
    keys::device_lists,
    rooms::receipts,
    users::account_data::{self, AccountData},
};

/// Remembers what was told after each commit.
#[derive(Default)]
struct CommitLog(Mutex<Vec<StreamAdvance>>);

impl CommitListener for CommitLog {
    fn committed(&self, advance: StreamAdvance) {
        self.0.lock().unwrap().push(advance);
    }
}

impl CommitLog {
    /// Returns whom the commits of a stream concerned, sorted.
    fn touched(&self, stream: Stream) -> Touched {
        let heard = self.0.lock().unwrap();
        let of = heard.iter().filter(|advance| advance.stream == stream);
        let mut touched: Touched = of.flat_map(|advance| advance.touched.clone()).collect();
        touched.sort();
        touched
    }
}

async fn read_back(db: &Database, stream: Stream, limit: i64) -> Option<Touched> {
    let touched = between(db, stream, 0, 1_000, limit).await.unwrap();
    touched.map(|mut touched| {
        touched.sort();
        touched
    })
}

/// What is read back is what was told, as far as it was not written anew since.
async fn rows_say_what_the_commits_announced(world: World) {
    let heard = Arc::new(CommitLog::default());
    let db = world.open_with(Arc::clone(&heard) as _).await;
    for user in 1..=3 {
        let body = RawValue::from_string("{}".to_owned()).unwrap();
        let data = AccountData { room: None, event_type: "a".to_owned(), body };
        db.write(move |tx| {
            Box::pin(async move {
                account_data::put(tx, UserNid(user), data, &crate::quota::Quota::NONE).await
            })
        })
        .await
        .unwrap();
        let receipt = receipts::Receipt {
            room: RoomNid(10),
            user: UserNid(user),
            kind: receipts::Kind::Public,
            thread: String::new(),
            event_id: "$e".to_owned(),
            event_pos: 5,
            ts: 1,
        };
        receipts::put(&db, receipt, 100).await.unwrap();
        db.write(move |tx| {
            Box::pin(async move { device_lists::changed(tx, UserNid(user), &[]).await })
        })
        .await
        .unwrap();
    }
    db.write(|tx| {
        Box::pin(async move { device_lists::changed_for(tx, UserNid(1), UserNid(2)).await })
    })
    .await
    .unwrap();
    for stream in [Stream::AccountData, Stream::Receipts, Stream::DeviceLists] {
        let committed = heard.touched(stream);
        assert!(committed.len() >= 3);
        assert_eq!(read_back(&db, stream, 100).await, Some(committed), "{stream:?}");
        assert_eq!(read_back(&db, stream, 2).await, None, "{stream:?}: too many");
    }
    db.write(|tx| {
        Box::pin(async move { crate::delivery::to_device::wake(tx, &[DeviceNid(4)]).await })
    })
    .await
    .unwrap();
    let after = between(&db, Stream::ToDevice, 0, 1, 100).await.unwrap();
    assert_eq!(after, None, "a changed count of keys has no row");
    db.close().await;
}

on_both!(rows_say_what_the_commits_announced);

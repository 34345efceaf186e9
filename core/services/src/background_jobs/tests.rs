//! When chores are done, and that their end is noted for whoever comes next.

use std::sync::Arc;

use colonnade_delivery::jobs::EVERY;
use colonnade_replication::Streams;
use colonnade_storage::{Database, Location, delivery::jobs as table};

use super::*;
use crate::caches::alone;

#[tokio::test]
async fn a_chore_is_done_when_it_is_due_and_not_again() {
    let folder = tempfile::tempdir().unwrap();
    let streams = Arc::new(Streams::new());
    let location = Location::Sqlite(folder.path().join("colonnade.db"));
    let db = Database::open(&location, Arc::clone(&streams) as _).await.unwrap();
    let services = alone(streams, &db, folder.path()).await;
    for chore in BackgroundJob::ALL {
        assert_eq!(table::done_ts(&db, chore.name()).await.unwrap(), 0);
        assert_eq!(services.attend(chore).await.unwrap(), EVERY);
        let done_ts = table::done_ts(&db, chore.name()).await.unwrap();
        assert!(done_ts > 0);
        let pause = services.attend(chore).await.unwrap();
        assert!(!pause.is_zero() && pause <= EVERY);
        assert_eq!(table::done_ts(&db, chore.name()).await.unwrap(), done_ts, "not again");
        // Long ago, or in a future a clock went back from.
        for noted in [1, i64::MAX / 2] {
            let name = chore.name();
            db.write(move |tx| Box::pin(table::done(tx, name, noted))).await.unwrap();
            services.attend(chore).await.unwrap();
            assert_ne!(table::done_ts(&db, name).await.unwrap(), noted);
        }
    }
    db.close().await;
}

//! What a database needs after it was put back to an earlier copy: clients were told things, and
//! handed out keys, that this copy knows nothing of.

use std::sync::Arc;

use crate::database::commit_listener::NoListener;
use crate::{Database, Location, Lock, Result, StorageError, database::sql};

/// How far every stream jumps: beyond any position the lost part can have handed out, and so little
/// that a database may be restored two thousand times before positions run out.
const LEAP: i64 = 1 << 31;

/// Makes a restored copy fit to be served, and returns how many one-time keys that dropped.
///
/// Every stream goes on above all positions that clients may hold, so that nobody takes a new event
/// for one he has been told of. One-time keys go: some of them were claimed after the copy was made,
/// and none may be handed out twice. Clients see that none are left and upload others.
///
/// # Errors
/// [`StorageError::Unusable`] with the mend when a server runs on the database or it cannot be used.
pub async fn restored(location: &Location) -> Result<u64> {
    let db = Database::open(location, Arc::new(NoListener)).await?;
    let Some(_held) = db.hold(Lock::Database, false).await? else {
        let why = "a server runs on this database: stop it, and say the same again";
        return Err(StorageError::Unusable(why.to_owned()));
    };
    let write = db.write(|tx| {
        Box::pin(async move {
            const STREAMS: &str = "UPDATE stream_positions SET pos = pos + $1";
            const KEYS: &str = "DELETE FROM one_time_keys";
            execute!(tx, sql::query(STREAMS).bind(LEAP))?;
            execute!(tx, sql::query(KEYS))
        })
    });
    let done = write.await;
    db.close().await;
    done
}

//! Pushers: where a user's notifications are to be sent. Stored as the client gave them.

use colonnade_model::{
    nid::{DeviceNid, UserNid},
    stream::{Stream, Touch},
};
use futures_util::TryFutureExt as _;

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::{Result, StorageError},
    quota::Quota,
};

/// A pusher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PusherRow {
    /// Whose notifications it sends.
    pub user: UserNid,
    /// The application.
    pub app_id: String,
    /// Where the application is reached.
    pub pushkey: String,
    /// The device that set it; the pusher goes with it.
    pub device: DeviceNid,
    /// All of it, as JSON.
    pub body: String,
}

/// Stores a pusher in place of one with the same application and key. Unless it is to be `shared`,
/// other users lose theirs with this key: a telephone that changed hands. A new one is told of what comes from
/// now on. Takes a position: call it last in the transaction.
///
/// # Errors
/// [`StorageError::Full`] when the user would have more than `quota`; when the database fails.
pub async fn put(
    tx: &mut Tx,
    pusher: PusherRow,
    shared: bool,
    now_ms: i64,
    quota: Quota,
) -> Result<()> {
    const OTHERS: &str =
        "SELECT user_nid FROM pushers WHERE app_id = $1 AND pushkey = $2 AND user_nid <> $3";
    const TAKE_OVER: &str =
        "DELETE FROM pushers WHERE app_id = $1 AND pushkey = $2 AND user_nid <> $3";
    const COUNT: &str = "SELECT count(*) FROM pushers \
         WHERE user_nid = $1 AND NOT (app_id = $2 AND pushkey = $3)";
    const PUT: &str = "INSERT INTO pushers \
         (user_nid, app_id, pushkey, device_nid, body, created_ts, told_pos) \
         SELECT CAST($1 AS BIGINT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT), \
         CAST($5 AS TEXT), CAST($6 AS BIGINT), pos FROM stream_positions WHERE stream = 1 \
         ON CONFLICT (user_nid, app_id, pushkey) \
         DO UPDATE SET device_nid = excluded.device_nid, body = excluded.body";
    let (app_id, pushkey) = (pusher.app_id, pusher.pushkey);
    let others: i64 = run!(tx, |c| sql::query_scalar(COUNT)
        .bind(pusher.user.0)
        .bind(app_id.clone())
        .bind(pushkey.clone())
        .fetch_one(c))?;
    quota.require(others + 1, 0)?;
    let mut changed = vec![pusher.user.0];
    if !shared {
        changed.extend::<Vec<i64>>(run!(tx, |c| sql::query_scalar(OTHERS)
            .bind(app_id.clone())
            .bind(pushkey.clone())
            .bind(pusher.user.0)
            .fetch_all(c))?);
        execute!(
            tx,
            sql::query(TAKE_OVER).bind(app_id.clone()).bind(pushkey.clone()).bind(pusher.user.0)
        )?;
    }
    execute!(
        tx,
        sql::query(PUT)
            .bind(pusher.user.0)
            .bind(app_id)
            .bind(pushkey)
            .bind(pusher.device.0)
            .bind(pusher.body)
            .bind(now_ms)
    )?;
    say(tx, changed.into_iter().map(UserNid)).await
}

/// Says that the pushers of some users changed, whichever process sends for them. Takes a position.
async fn say(tx: &mut Tx, users: impl Iterator<Item = UserNid>) -> Result<()> {
    let pos = tx.seal(Stream::AccountData, 1).await?;
    for user in users {
        tx.touch(Stream::AccountData, Touch::User(user), pos);
    }
    Ok(())
}

/// Deletes a pusher; one that is not there is passed over. Takes a position: call it last in the transaction.
///
/// # Errors
/// When the database fails.
pub async fn delete(tx: &mut Tx, user: UserNid, app_id: String, pushkey: String) -> Result<()> {
    const DELETE: &str = "DELETE FROM pushers WHERE user_nid = $1 AND app_id = $2 AND pushkey = $3";
    execute!(tx, sql::query(DELETE).bind(user.0).bind(app_id).bind(pushkey))?;
    say(tx, std::iter::once(user)).await
}

/// Deletes the pushers that these devices set. Part of deleting the devices, which says so.
///
/// # Errors
/// When the database fails.
pub async fn forget_devices(tx: &mut Tx, devices: &[DeviceNid]) -> Result<()> {
    const DELETE: &str = "DELETE FROM pushers WHERE device_nid IN {INTS 1}";
    let list = int_list(devices.iter().map(|device| device.0));
    run_list!(tx, DELETE, |sql, c| sql::query(sql).bind(list).execute(c).map_ok(drop))
}

/// Returns the pushers of a user as JSON, oldest first.
///
/// # Errors
/// When the database fails or holds what is not JSON.
pub async fn list(db: &Database, user: UserNid) -> Result<Vec<serde_json::Value>> {
    const LIST: &str =
        "SELECT body FROM pushers WHERE user_nid = $1 ORDER BY created_ts, app_id, pushkey";
    let rows: Vec<String> = read!(db, |c| sql::query_scalar(LIST).bind(user.0).fetch_all(c))?;
    let parse = |text: &String| {
        serde_json::from_str(text)
            .map_err(|error| StorageError::corrupt("pushers", "body", user, error))
    };
    rows.iter().map(parse).collect()
}

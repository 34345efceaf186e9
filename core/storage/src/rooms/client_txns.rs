//! Transaction ids of clients: a request that is repeated is answered as before, also after a
//! restart. Rows are written by [`crate::rooms::persist`] with the event they stand for.

use colonnade_model::nid::{DeviceNid, EventNid};

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::Result,
};

/// A client's name for a request.
///
/// Source: Matrix v1.19, client-server, "Transaction identifiers".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientTxn {
    /// The device.
    pub device: DeviceNid,
    /// The endpoint with its other path arguments.
    pub scope: String,
    /// The client's id.
    pub txn_id: String,
}

/// Returns the event a transaction id stands for.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &Database, txn: &ClientTxn) -> Result<Option<EventNid>> {
    const FIND: &str = "SELECT event_nid FROM client_txns \
         WHERE device_nid = $1 AND scope = $2 AND txn_id = $3";
    let (scope, txn_id) = (txn.scope.clone(), txn.txn_id.clone());
    let found: Option<i64> = read!(db, |c| sql::query_scalar(FIND)
        .bind(txn.device.0)
        .bind(scope)
        .bind(txn_id)
        .fetch_optional(c))?;
    Ok(found.map(EventNid))
}

/// Returns the transaction ids under which a device sent some of these events.
///
/// # Errors
/// When the database fails.
pub async fn of_events(
    db: &Database,
    device: DeviceNid,
    events: &[EventNid],
) -> Result<Vec<(EventNid, String)>> {
    const OF: &str = "SELECT event_nid, txn_id FROM client_txns \
         WHERE event_nid IN {INTS 1} AND device_nid = $2";
    let list = int_list(events.iter().map(|event| event.0));
    let rows: Vec<(i64, String)> =
        read_list!(db, OF, |sql, c| sql::query_as(sql).bind(list).bind(device.0).fetch_all(c))?;
    Ok(rows.into_iter().map(|(event, txn_id)| (EventNid(event), txn_id)).collect())
}

/// Returns the transaction ids under which any devices sent some of these events.
///
/// # Errors
/// When the database fails.
pub async fn of_all(
    db: &Database,
    events: &[EventNid],
) -> Result<Vec<(EventNid, DeviceNid, String)>> {
    const OF: &str =
        "SELECT event_nid, device_nid, txn_id FROM client_txns WHERE event_nid IN {INTS 1}";
    let list = int_list(events.iter().map(|event| event.0));
    let rows: Vec<(i64, i64, String)> =
        read_list!(db, OF, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
    let txn = |(event, device, txn_id)| (EventNid(event), DeviceNid(device), txn_id);
    Ok(rows.into_iter().map(txn).collect())
}

/// Forgets at most `limit` transaction ids from before `before_ts`, in milliseconds since 1970; of messages
/// to devices, too. Fewer are the last.
///
/// # Errors
/// When the database fails.
pub async fn prune(tx: &mut Tx, before_ts: i64, limit: i64) -> Result<u64> {
    const EVENTS: &str = "DELETE FROM client_txns WHERE (device_nid, scope, txn_id) IN \
         (SELECT device_nid, scope, txn_id FROM client_txns WHERE ts < $1 LIMIT $2)";
    const TO_DEVICE: &str = "DELETE FROM to_device_txns WHERE (device_nid, event_type, txn_id) IN \
         (SELECT device_nid, event_type, txn_id FROM to_device_txns WHERE ts < $1 LIMIT $2)";
    let of_events = execute!(tx, sql::query(EVENTS).bind(before_ts).bind(limit))?;
    let rest = limit.saturating_sub(i64::try_from(of_events).unwrap_or(i64::MAX));
    Ok(of_events + execute!(tx, sql::query(TO_DEVICE).bind(before_ts).bind(rest))?)
}

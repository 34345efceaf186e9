//! Relations between events and the redactions of events: the reads the write path needs. Rows are
//! written by [`crate::rooms::persist`].

use colonnade_model::nid::{EventNid, TypeNid, UserNid};

use crate::{Database, database::sql, error::Result};

/// Returns the redactions of an event that are stored, whether or not they take effect.
///
/// # Errors
/// When the database fails.
pub async fn redactions_of(db: &Database, event_id: &str) -> Result<Vec<EventNid>> {
    const FIND: &str = "SELECT redaction_nid FROM redactions WHERE target_event_id = $1 \
         ORDER BY redaction_nid LIMIT 20";
    let rows: Vec<i64> = read!(db, |c| sql::query_scalar(FIND).bind(event_id).fetch_all(c))?;
    Ok(rows.into_iter().map(EventNid).collect())
}

/// Tells whether a user has annotated an event with this key and type already.
///
/// # Errors
/// When the database fails.
pub async fn has_annotation(
    db: &Database,
    parent: EventNid,
    sender: UserNid,
    event_type: TypeNid,
    key: &str,
) -> Result<bool> {
    const HAS: &str = "SELECT count(*) FROM relations WHERE parent_nid = $1 \
         AND rel_type = 'm.annotation' AND sender_nid = $2 AND type_nid = $3 AND key = $4";
    let key = key.to_owned();
    let count: i64 = read!(db, |c| sql::query_scalar(HAS)
        .bind(parent.0)
        .bind(sender.0)
        .bind(event_type.0)
        .bind(key)
        .fetch_one(c))?;
    Ok(count > 0)
}

//! Relations between events and the redactions of events: the reads the write path needs. Rows are
//! written by [`crate::rooms::persist`].

use colonnade_model::nid::{EventNid, TypeNid, UserNid};

use crate::{Database, database::sql, error::Result};

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

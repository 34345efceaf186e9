//! Whom the rows of a stream concern, read back from its tables: what a process that missed a
//! message on the bus would have been told by it.

use colonnade_model::{
    nid::{DeviceNid, EventNid, RoomNid, UserNid},
    stream::{Position, Stream, Touch},
};

use crate::{Database, database::sql, error::Result};

/// `room_members.membership` of a member.
const JOIN: i64 = crate::rooms::members::Membership::Join as i64;

/// Touches with their positions.
type Touched = Vec<(Touch, Position)>;

/// Returns whom the rows of a stream above `after` and up to `upto` concern, each with the position
/// of the last of them at least; `None` when there are more than `rows_max`, or when no rows tell.
/// Rows that were written anew since are told with their new position, which is above `upto`.
///
/// # Errors
/// When the database fails.
pub async fn between(
    db: &Database,
    stream: Stream,
    after: Position,
    upto: Position,
    rows_max: i64,
) -> Result<Option<Touched>> {
    let range = Range { after, upto, limit: rows_max.saturating_add(1) };
    let touched = match stream {
        Stream::Events => events(db, range).await?,
        Stream::Receipts => receipts(db, range).await?,
        Stream::AccountData => account_data(db, range).await?,
        Stream::ToDevice => return to_device(db, range).await,
        Stream::DeviceLists => device_lists(db, range).await?,
        // They have no rows.
        Stream::Presence | Stream::Typing => return Ok(None),
    };
    let few = i64::try_from(touched.len()).is_ok_and(|rows| rows <= rows_max);
    Ok(few.then_some(touched))
}

#[derive(Clone, Copy)]
struct Range {
    after: Position,
    upto: Position,
    limit: i64,
}

async fn events(db: &Database, range: Range) -> Result<Touched> {
    const ROOMS: &str = "SELECT room_nid, pos FROM event_stream \
         WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3";
    const MEMBERS: &str = "SELECT user_nid, pos FROM member_log \
         WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3";
    const REDACTED: &str = "SELECT e.event_nid, s.pos FROM event_stream s \
         JOIN redactions r ON r.redaction_nid = s.event_nid \
         JOIN events e ON e.event_id = r.target_event_id \
         WHERE s.pos > $1 AND s.pos <= $2 ORDER BY s.pos LIMIT $3";
    let mut touched = pairs(db, ROOMS, range, |id| Touch::Room(RoomNid(id))).await?;
    touched.extend(pairs(db, REDACTED, range, |id| Touch::Redacted(EventNid(id))).await?);
    touched.extend(pairs(db, MEMBERS, range, |id| Touch::User(UserNid(id))).await?);
    Ok(touched)
}

async fn receipts(db: &Database, range: Range) -> Result<Touched> {
    const ROOMS: &str = "SELECT room_nid, pos FROM receipts \
         WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3";
    const USERS: &str = "SELECT user_nid, pos FROM receipts \
         WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3";
    let mut touched = pairs(db, ROOMS, range, |id| Touch::Room(RoomNid(id))).await?;
    touched.extend(pairs(db, USERS, range, |id| Touch::User(UserNid(id))).await?);
    Ok(touched)
}

async fn account_data(db: &Database, range: Range) -> Result<Touched> {
    const USERS: &str = "SELECT user_nid, pos FROM account_data \
         WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3";
    pairs(db, USERS, range, |id| Touch::User(UserNid(id))).await
}

/// Messages are deleted once they are delivered, and a changed count of keys has no row: then
/// nobody can tell whom a position concerned.
async fn to_device(db: &Database, range: Range) -> Result<Option<Touched>> {
    const DEVICES: &str = "SELECT device_nid, pos FROM to_device \
         WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3";
    let touched = pairs(db, DEVICES, range, |id| Touch::Device(DeviceNid(id))).await?;
    let all = i64::try_from(touched.len()) == Ok(range.upto - range.after);
    Ok((all && range.upto - range.after < range.limit).then_some(touched))
}

async fn device_lists(db: &Database, range: Range) -> Result<Touched> {
    const USERS: &str = "SELECT COALESCE(viewer_nid, user_nid), pos FROM device_changes \
         WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3";
    const ROOMS: &str = "SELECT m.room_nid, d.pos FROM device_changes d \
         JOIN room_members m ON m.user_nid = d.user_nid AND m.membership = $4 \
         WHERE d.pos > $1 AND d.pos <= $2 AND d.viewer_nid IS NULL ORDER BY d.pos LIMIT $3";
    let mut touched = pairs(db, USERS, range, |id| Touch::User(UserNid(id))).await?;
    let Range { after, upto, limit } = range;
    let rooms: Vec<(i64, i64)> = read!(db, |c| sql::query_as(ROOMS)
        .bind(after)
        .bind(upto)
        .bind(limit)
        .bind(JOIN)
        .fetch_all(c))?;
    touched.extend(rooms.into_iter().map(|(id, pos)| (Touch::Room(RoomNid(id)), pos)));
    Ok(touched)
}

async fn pairs(
    db: &Database,
    sql: &'static str,
    range: Range,
    touch: impl Fn(i64) -> Touch,
) -> Result<Touched> {
    let Range { after, upto, limit } = range;
    let rows: Vec<(i64, i64)> =
        read!(db, |c| sql::query_as(sql).bind(after).bind(upto).bind(limit).fetch_all(c))?;
    Ok(rows.into_iter().map(|(id, pos)| (touch(id), pos)).collect())
}

#[cfg(test)]
mod tests;

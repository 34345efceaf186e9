//! Guests: accounts without a password. Which of them are in rooms that let none in (any more), and what makes
//! an ordinary account of one.

use colonnade_model::nid::{RoomNid, UserNid};

use crate::{Database, Tx, database::sql, delivery::to_device, error::Result, users::devices};

/// A guest in a room.
pub type GuestInRoom = (RoomNid, UserNid);

/// Returns at most `limit` guests, beyond `after`, who are in rooms that let no guests in.
///
/// # Errors
/// When the database fails.
pub async fn in_closed_rooms(
    db: &Database,
    after: GuestInRoom,
    limit: i64,
) -> Result<Vec<GuestInRoom>> {
    const CLOSED: &str = "SELECT m.room_nid, m.user_nid FROM accounts a \
         JOIN room_members m ON m.user_nid = a.user_nid AND m.membership = 1 \
         JOIN room_summary s ON s.room_nid = m.room_nid AND s.guest_access = 0 \
         WHERE a.guest = 1 AND (m.room_nid > $1 OR (m.room_nid = $1 AND m.user_nid > $2)) \
         ORDER BY m.room_nid, m.user_nid LIMIT $3";
    let (room, user) = after;
    let rows: Vec<(i64, i64)> =
        read!(db, |c| sql::query_as(CLOSED).bind(room.0).bind(user.0).bind(limit).fetch_all(c))?;
    Ok(rows.into_iter().map(|(room, user)| (RoomNid(room), UserNid(user))).collect())
}

/// Makes an ordinary account with a password of a guest's; false when it is none (any more). What is kept in
/// memory of his sessions becomes stale.
///
/// # Errors
/// When the database fails.
pub async fn upgrade(tx: &mut Tx, user: UserNid, password: String) -> Result<bool> {
    const UPGRADE: &str = "UPDATE accounts SET guest = 0, password = $2 \
         WHERE user_nid = $1 AND guest = 1 AND deactivated = 0";
    if execute!(tx, sql::query(UPGRADE).bind(user.0).bind(password))? == 0 {
        return Ok(false);
    }
    for device in devices::all_of(tx, user).await? {
        to_device::forget(tx, device).await?;
    }
    Ok(true)
}

//! What another server shows a user of a room that is not known here: with an invitation, or in answer to
//! a knock.

use colonnade_model::nid::{RoomNid, UserNid};

use crate::{Database, Tx, database::sql, error::Result};

/// Returns what a user was shown of a room last, a JSON array of stripped state events.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, room: RoomNid, user: UserNid) -> Result<Option<Vec<u8>>> {
    const GET: &str = "SELECT body FROM invite_states WHERE room_nid = $1 AND user_nid = $2";
    read!(db, |c| sql::query_scalar(GET).bind(room.0).bind(user.0).fetch_optional(c))
}

/// Notes what a user is shown of a room.
pub(crate) async fn put(tx: &mut Tx, room: RoomNid, user: UserNid, shown: &str) -> Result<()> {
    const PUT: &str = "INSERT INTO invite_states (room_nid, user_nid, body) VALUES ($1, $2, $3) \
         ON CONFLICT (room_nid, user_nid) DO UPDATE SET body = excluded.body";
    execute!(tx, sql::query(PUT).bind(room.0).bind(user.0).bind(shown.as_bytes())).map(drop)
}

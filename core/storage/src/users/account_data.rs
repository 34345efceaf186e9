//! Account data: JSON that clients keep here, for the user as a whole or for a room, with tags and
//! push rules among it. A stream: every change has a position.

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::{Position, Stream, Touch},
};
use serde_json::value::RawValue;

use crate::{
    Database, Tx,
    database::{sql, stored_json::readable},
    error::Result,
    quota::Quota,
};

/// What is kept of a piece of account data that was deleted, so that other devices hear of it. It is none any
/// more.
///
/// Source: MSC3391.
pub const DELETED: &str = "{}";

/// A piece of account data.
#[derive(Debug, Clone)]
pub struct AccountData {
    /// The room it is about; `None` when it is about the user as a whole.
    pub room: Option<RoomNid>,
    /// Its type, `m.direct` say.
    pub event_type: String,
    /// The content.
    pub body: Box<RawValue>,
}

/// Stores a piece of account data and wakes the user's devices. Takes a position: call it last in
/// the transaction.
///
/// # Errors
/// [`StorageError::Full`] when the user would keep more than `quota`; when the database fails.
pub async fn put(tx: &mut Tx, user: UserNid, data: AccountData, quota: &Quota) -> Result<Position> {
    const PUT: &str = "INSERT INTO account_data (user_nid, room_nid, type, pos, body) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_nid, room_nid, type) \
         DO UPDATE SET pos = excluded.pos, body = excluded.body";
    require_room(tx, user, &data, quota).await?;
    let pos = tx.seal(Stream::AccountData, 1).await?;
    execute!(
        tx,
        sql::query(PUT)
            .bind(user.0)
            .bind(number_of(data.room))
            .bind(data.event_type)
            .bind(pos)
            .bind(data.body.get().to_owned())
    )?;
    tx.touch(Stream::AccountData, Touch::User(user), pos);
    Ok(pos)
}

/// Deletes those of some pieces of a user's account data that there are, and wakes the user's devices. Takes a
/// position for each: call it last in the transaction.
///
/// # Errors
/// When the database fails.
pub async fn delete(
    tx: &mut Tx,
    user: UserNid,
    room: Option<RoomNid>,
    types: &[String],
) -> Result<()> {
    const THERE: &str = "SELECT count(*) FROM account_data \
         WHERE user_nid = $1 AND room_nid = $2 AND type = $3 AND body <> $4";
    const DELETE: &str = "UPDATE account_data SET pos = $4, body = $5 \
         WHERE user_nid = $1 AND room_nid = $2 AND type = $3";
    let room = number_of(room);
    let mut there = Vec::new();
    for event_type in types {
        let found: i64 = run!(tx, |c| sql::query_scalar(THERE)
            .bind(user.0)
            .bind(room)
            .bind(event_type.clone())
            .bind(DELETED)
            .fetch_one(c))?;
        if found > 0 {
            there.push(event_type.clone());
        }
    }
    for event_type in there {
        let pos = tx.seal(Stream::AccountData, 1).await?;
        execute!(
            tx,
            sql::query(DELETE).bind(user.0).bind(room).bind(event_type).bind(pos).bind(DELETED)
        )?;
        tx.touch(Stream::AccountData, Touch::User(user), pos);
    }
    Ok(())
}

/// Tells whether data has a bound of its own: push rules by their number and size, the one list of ignored
/// users by the size of an item, read markers by the rooms a user is in. A full quota keeps nobody from reading
/// on, from being silent or from ignoring somebody.
fn is_bounded_by_itself(data: &AccountData) -> bool {
    match data.room {
        None => ["m.push_rules", "m.ignored_user_list"].contains(&data.event_type.as_str()),
        Some(_) => data.event_type == "m.fully_read",
    }
}

/// Refuses what makes a user's account data too much. What does not make it more is not counted.
async fn require_room(tx: &mut Tx, user: UserNid, data: &AccountData, quota: &Quota) -> Result<()> {
    if is_bounded_by_itself(data) {
        return Ok(());
    }
    const STANDS: &str = "SELECT CAST(octet_length(body) AS BIGINT) FROM account_data \
         WHERE user_nid = $1 AND room_nid = $2 AND type = $3";
    const ALL: &str = "SELECT count(*), CAST(COALESCE(SUM(octet_length(body)), 0) AS BIGINT) \
         FROM account_data WHERE user_nid = $1";
    let stands: Option<i64> = run!(tx, |c| sql::query_scalar(STANDS)
        .bind(user.0)
        .bind(number_of(data.room))
        .bind(data.event_type.clone())
        .fetch_optional(c))?;
    let new = i64::try_from(data.body.get().len()).unwrap_or(i64::MAX);
    if stands.is_some_and(|stands| stands >= new) {
        return Ok(());
    }
    let (items, bytes): (i64, i64) = run!(tx, |c| sql::query_as(ALL).bind(user.0).fetch_one(c))?;
    let added = i64::from(stands.is_none());
    quota.require(items + added, bytes - stands.unwrap_or(0) + new)
}

/// Returns the push rules that users stored above a position and up to another, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn push_rules_between(
    db: &Database,
    after: Position,
    upto: Position,
) -> Result<Vec<(UserNid, Box<RawValue>)>> {
    const RULES: &str = "SELECT user_nid, body FROM account_data \
         WHERE type = 'm.push_rules' AND room_nid = 0 AND pos > $1 AND pos <= $2 ORDER BY pos";
    let rows: Vec<(i64, String)> =
        read!(db, |c| sql::query_as(RULES).bind(after).bind(upto).fetch_all(c))?;
    bodies(rows)
}

/// Returns the lists of ignored users that changed above `after` and up to `upto`, in that order.
///
/// # Errors
/// When the database fails.
pub async fn ignored_between(
    db: &Database,
    after: Position,
    upto: Position,
) -> Result<Vec<(UserNid, Box<RawValue>)>> {
    const LISTS: &str = "SELECT user_nid, body FROM account_data \
         WHERE type = 'm.ignored_user_list' AND room_nid = 0 AND pos > $1 AND pos <= $2 \
         ORDER BY pos";
    let rows: Vec<(i64, String)> =
        read!(db, |c| sql::query_as(LISTS).bind(after).bind(upto).fetch_all(c))?;
    bodies(rows)
}

fn bodies(rows: Vec<(i64, String)>) -> Result<Vec<(UserNid, Box<RawValue>)>> {
    let read = |(user, text)| (UserNid(user), readable(text, "account_data"));
    Ok(rows.into_iter().map(read).collect())
}

/// Returns the content of a piece of account data.
///
/// # Errors
/// When the database fails.
pub async fn get(
    db: &Database,
    user: UserNid,
    room: Option<RoomNid>,
    event_type: &str,
) -> Result<Option<Box<RawValue>>> {
    let text: Option<String> = read!(db, |c| sql::query_scalar(GET)
        .bind(user.0)
        .bind(number_of(room))
        .bind(event_type.to_owned())
        .fetch_optional(c))?;
    Ok(text.filter(|text| text != DELETED).map(|text| readable(text, "account_data")))
}

/// [`get`] inside a transaction, for what is changed in the same one.
///
/// # Errors
/// As [`get`].
pub async fn get_in(
    tx: &mut Tx,
    user: UserNid,
    room: Option<RoomNid>,
    event_type: &str,
) -> Result<Option<Box<RawValue>>> {
    let text: Option<String> = run!(tx, |c| sql::query_scalar(GET)
        .bind(user.0)
        .bind(number_of(room))
        .bind(event_type.to_owned())
        .fetch_optional(c))?;
    Ok(text.filter(|text| text != DELETED).map(|text| readable(text, "account_data")))
}

const GET: &str =
    "SELECT body FROM account_data WHERE user_nid = $1 AND room_nid = $2 AND type = $3";

/// What of a user's account data is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    All,
    /// What is about the user as a whole.
    Global,
    /// What is about a room.
    Room(RoomNid),
}

/// Some of a user's account data, in the order in which it changed.
#[derive(Debug, Default)]
pub struct AccountDataPage {
    /// The data, with its last content.
    pub data: Vec<AccountData>,
    /// After which position the next page begins; `None` if this is the last.
    pub next: Option<Position>,
}

/// Returns what of a user's account data changed above `after` and up to `upto`, in that order, with
/// its last content: as much as has about `bytes_max` bytes, and one piece at least if there is any.
///
/// # Errors
/// When the database fails.
pub async fn changes_page(
    db: &Database,
    user: UserNid,
    scope: Scope,
    (after, upto): (Position, Position),
    bytes_max: i64,
) -> Result<AccountDataPage> {
    // The sizes are summed before any content is read. Position 0 is no row's.
    const OF_ALL: &str = "SELECT room_nid, type, pos, body FROM account_data \
         WHERE user_nid = $1 AND pos > $2 AND pos <= (SELECT COALESCE(MAX(pos), 0) FROM \
             (SELECT pos, SUM(octet_length(body)) OVER (ORDER BY pos) - octet_length(body) AS bytes \
              FROM account_data WHERE user_nid = $1 AND pos > $2 AND pos <= $3) AS summed \
             WHERE bytes < $4) ORDER BY pos";
    const OF_ROOM: &str = "SELECT room_nid, type, pos, body FROM account_data \
         WHERE user_nid = $1 AND room_nid = $5 AND pos > $2 AND pos <= (SELECT COALESCE(MAX(pos), 0) FROM \
             (SELECT pos, SUM(octet_length(body)) OVER (ORDER BY pos) - octet_length(body) AS bytes \
              FROM account_data WHERE user_nid = $1 AND room_nid = $5 AND pos > $2 AND pos <= $3) AS summed \
             WHERE bytes < $4) ORDER BY pos";
    let statement = if scope == Scope::All { OF_ALL } else { OF_ROOM };
    let room = match scope {
        Scope::Room(room) => Some(room),
        Scope::All | Scope::Global => None,
    };
    let rows: Vec<(i64, String, i64, String)> = read!(db, |c| {
        let query = sql::query_as(statement).bind(user.0).bind(after).bind(upto).bind(bytes_max);
        let query = if scope == Scope::All { query } else { query.bind(number_of(room)) };
        query.fetch_all(c)
    })?;
    let bytes: i64 = rows.iter().map(|(_, _, _, text)| text.len() as i64).sum();
    let last = rows.last().map(|(_, _, pos, _)| *pos);
    let next = last.filter(|last| bytes >= bytes_max && *last < upto);
    let data = rows.into_iter().map(|(room, event_type, _, text)| AccountData {
        room: (room != 0).then_some(RoomNid(room)),
        event_type,
        body: readable(text, "account_data"),
    });
    Ok(AccountDataPage { data: data.collect(), next })
}

/// Returns a user's account data of a type: about which room it is, and its content.
///
/// # Errors
/// When the database fails.
pub async fn of_type(
    db: &Database,
    user: UserNid,
    event_type: &'static str,
) -> Result<Vec<(Option<RoomNid>, Box<RawValue>)>> {
    const OF_TYPE: &str =
        "SELECT room_nid, body FROM account_data WHERE user_nid = $1 AND type = $2";
    let rows: Vec<(i64, String)> =
        read!(db, |c| sql::query_as(OF_TYPE).bind(user.0).bind(event_type).fetch_all(c))?;
    let there = rows.into_iter().filter(|(_, text)| text != DELETED);
    let read =
        |(room, text)| ((room != 0).then_some(RoomNid(room)), readable(text, "account_data"));
    Ok(there.map(read).collect())
}

/// Returns the rooms about which a user's account data changed above `after` and up to `upto`.
///
/// # Errors
/// When the database fails.
pub async fn changed_rooms(
    db: &Database,
    user: UserNid,
    after: Position,
    upto: Position,
) -> Result<Vec<RoomNid>> {
    const ROOMS: &str = "SELECT DISTINCT room_nid FROM account_data \
         WHERE user_nid = $1 AND pos > $2 AND pos <= $3 AND room_nid <> 0";
    let rows: Vec<i64> =
        read!(db, |c| sql::query_scalar(ROOMS).bind(user.0).bind(after).bind(upto).fetch_all(c))?;
    Ok(rows.into_iter().map(RoomNid).collect())
}

fn number_of(room: Option<RoomNid>) -> i64 {
    room.map_or(0, |room| room.0)
}

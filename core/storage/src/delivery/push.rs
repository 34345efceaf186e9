//! Telling push gateways: what of the events stream means something to whom, and how far each pusher was told.

use colonnade_model::{
    nid::{EventNid, RoomNid, UserNid},
    stream::Position,
};
use colonnade_rules::push::PushOutcome;

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::{Result, StorageError},
    rooms::members::Membership,
};

/// Users named in one statement.
const LIST_MAX: usize = 1_000;

/// Which pusher.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PusherKey {
    /// Whose it is.
    pub user: UserNid,
    /// The application.
    pub app_id: String,
    /// Where the application is reached.
    pub pushkey: String,
}

/// A pusher, and how far it was told.
#[derive(Debug, Clone)]
pub struct StoredPusher {
    /// Which.
    pub key: PusherKey,
    /// All of it, as the client gave it.
    pub body: serde_json::Value,
    /// When it was made, in milliseconds since 1970.
    pub created_ts: i64,
    /// Up to where it was told; 0: it is older than that is noted.
    pub told_pos: Position,
    /// Since when its gateway does not take what it is sent, in milliseconds since 1970; 0: it does.
    pub failing_since_ms: i64,
    /// How many unread notifications its gateway was told of.
    pub told_unread: i64,
}

type Row = (i64, String, String, String, i64, i64, i64, i64);

fn pusher(row: Row) -> Result<StoredPusher> {
    let (user, app_id, pushkey, body, created_ts, told_pos, failing_since_ms, told_unread) = row;
    let user = UserNid(user);
    let body = serde_json::from_str(&body)
        .map_err(|error| StorageError::corrupt("pushers", "body", user, error))?;
    let key = PusherKey { user, app_id, pushkey };
    Ok(StoredPusher { key, body, created_ts, told_pos, failing_since_ms, told_unread })
}

/// Returns the users above one who have pushers, `limit` at most.
///
/// # Errors
/// When the database fails.
pub async fn users(db: &Database, after: UserNid, limit: i64) -> Result<Vec<UserNid>> {
    const USERS: &str = "SELECT DISTINCT user_nid FROM pushers WHERE user_nid > $1 \
         ORDER BY user_nid LIMIT $2";
    let rows: Vec<i64> =
        read!(db, |c| sql::query_scalar(USERS).bind(after.0).bind(limit).fetch_all(c))?;
    Ok(rows.into_iter().map(UserNid).collect())
}

/// Returns the pushers of some users.
///
/// # Errors
/// When the database fails.
pub async fn of_users(db: &Database, users: &[UserNid]) -> Result<Vec<StoredPusher>> {
    const FIND: &str = "SELECT user_nid, app_id, pushkey, body, created_ts, told_pos, \
         failing_since, told_unread FROM pushers WHERE user_nid IN {INTS 1}";
    let mut found = Vec::new();
    for part in users.chunks(LIST_MAX) {
        let list = int_list(part.iter().map(|user| user.0));
        let rows: Vec<Row> =
            read_list!(db, FIND, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
        for row in rows {
            found.push(pusher(row)?);
        }
    }
    Ok(found)
}

/// A room that a user is in, or invited to.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The user.
    pub user: UserNid,
    /// The room.
    pub room: RoomNid,
    /// Whether the user is only invited.
    pub is_invite: bool,
    /// The event by which it is so.
    pub event: EventNid,
    /// Since when.
    pub pos: Position,
}

/// Returns the rooms that some users are in or invited to.
///
/// # Errors
/// When the database fails.
pub async fn places(db: &Database, users: &[UserNid]) -> Result<Vec<Place>> {
    const PLACES: &str = "SELECT user_nid, room_nid, membership, event_nid, pos FROM room_members \
         WHERE user_nid IN {INTS 1} AND membership IN (1, 2)";
    let mut found = Vec::new();
    for part in users.chunks(LIST_MAX) {
        let list = int_list(part.iter().map(|user| user.0));
        let rows: Vec<(i64, i64, i64, i64, i64)> =
            read_list!(db, PLACES, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
        found.extend(rows.into_iter().map(|(user, room, membership, event, pos)| Place {
            user: UserNid(user),
            room: RoomNid(room),
            is_invite: membership == Membership::Invite as i64,
            event: EventNid(event),
            pos,
        }));
    }
    Ok(found)
}

/// An event of the stream.
#[derive(Debug, Clone, Copy)]
pub struct StreamedEvent {
    /// Its position.
    pub pos: Position,
    /// Its room.
    pub room: RoomNid,
    /// The event.
    pub event: EventNid,
    /// Who sent it.
    pub sender: UserNid,
    /// What it means to whom it means nothing else.
    pub outcome: PushOutcome,
}

/// Returns up to `limit` events above `after` and up to `upto`, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn events(
    db: &Database,
    (after, upto): (Position, Position),
    limit: i64,
) -> Result<Vec<StreamedEvent>> {
    const EVENTS: &str = "SELECT pos, room_nid, event_nid, sender_nid, action FROM event_stream \
         WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3";
    let rows: Vec<(i64, i64, i64, i64, i64)> =
        read!(db, |c| sql::query_as(EVENTS).bind(after).bind(upto).bind(limit).fetch_all(c))?;
    Ok(rows
        .into_iter()
        .map(|(pos, room, event, sender, action)| StreamedEvent {
            pos,
            room: RoomNid(room),
            event: EventNid(event),
            sender: UserNid(sender),
            outcome: PushOutcome::from(action),
        })
        .collect())
}

/// Returns to whom events above `after` and up to `upto` mean something of their own.
///
/// # Errors
/// When the database fails.
pub async fn own_outcomes(
    db: &Database,
    (after, upto): (Position, Position),
) -> Result<Vec<(Position, UserNid, PushOutcome)>> {
    const OUTCOMES: &str =
        "SELECT pos, user_nid, action FROM push_exceptions WHERE pos > $1 AND pos <= $2";
    let rows: Vec<(i64, i64, i64)> =
        read!(db, |c| sql::query_as(OUTCOMES).bind(after).bind(upto).fetch_all(c))?;
    let own = |(pos, user, action)| (pos, UserNid(user), PushOutcome::from(action));
    Ok(rows.into_iter().map(own).collect())
}

/// Returns who read in which room above `after` and up to `upto` of the receipts stream, `limit` at most, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn readers(
    db: &Database,
    (after, upto): (Position, Position),
    limit: i64,
) -> Result<Vec<(Position, UserNid, RoomNid)>> {
    const READERS: &str = "SELECT pos, user_nid, room_nid FROM receipts \
         WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3";
    let rows: Vec<(i64, i64, i64)> =
        read!(db, |c| sql::query_as(READERS).bind(after).bind(upto).bind(limit).fetch_all(c))?;
    Ok(rows.into_iter().map(|(pos, user, room)| (pos, UserNid(user), RoomNid(room))).collect())
}

/// An event that notified a user.
#[derive(Debug, Clone, Copy)]
pub struct Notified {
    /// Its position.
    pub pos: Position,
    /// The event.
    pub event: EventNid,
}

/// Returns the newest events below a position, and not below another, that notified a user in rooms the user is in;
/// `least` is what they mean at least. At most `limit`.
///
/// # Errors
/// When the database fails.
pub async fn notified(
    db: &Database,
    user: UserNid,
    (from, below): (Position, Position),
    least: PushOutcome,
    limit: i64,
) -> Result<Vec<Notified>> {
    const NOTIFIED: &str = "SELECT s.pos, s.event_nid FROM event_stream s \
         JOIN room_members m ON m.room_nid = s.room_nid AND m.user_nid = $1 AND m.membership = 1 \
         LEFT JOIN push_exceptions x \
            ON x.user_nid = $1 AND x.room_nid = s.room_nid AND x.pos = s.pos \
         WHERE s.pos >= $2 AND s.pos < $3 AND s.sender_nid <> $1 \
            AND COALESCE(x.action, s.action) >= $4 ORDER BY s.pos DESC LIMIT $5";
    let rows: Vec<(i64, i64)> = read!(db, |c| sql::query_as(NOTIFIED)
        .bind(user.0)
        .bind(from)
        .bind(below)
        .bind(i64::from(least))
        .bind(limit)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(|(pos, event)| Notified { pos, event: EventNid(event) }).collect())
}

/// Returns the rooms a user is in where something notified after what was read of all of a room: in no other is
/// anything unread.
///
/// # Errors
/// When the database fails.
pub async fn rooms_with_news(db: &Database, user: UserNid) -> Result<Vec<RoomNid>> {
    const ROOMS: &str = "SELECT m.room_nid FROM room_members m \
         WHERE m.user_nid = $1 AND m.membership = 1 AND (EXISTS (SELECT 1 FROM event_stream s \
            WHERE s.room_nid = m.room_nid AND s.action > 0 AND s.sender_nid <> m.user_nid \
            AND s.pos > COALESCE((SELECT MAX(r.event_pos) FROM receipts r WHERE \
                r.room_nid = m.room_nid AND r.user_nid = m.user_nid AND r.thread = ''), 0)) \
         OR EXISTS (SELECT 1 FROM push_exceptions x WHERE x.user_nid = m.user_nid \
            AND x.room_nid = m.room_nid AND x.action > 0))";
    let rows: Vec<i64> = read!(db, |c| sql::query_scalar(ROOMS).bind(user.0).fetch_all(c))?;
    Ok(rows.into_iter().map(RoomNid).collect())
}

/// Notes what a gateway took: up to where the pusher was told, if it was told of an event, and how much is unread.
///
/// # Errors
/// When the database fails.
pub async fn told(
    tx: &mut Tx,
    key: PusherKey,
    pos: Option<Position>,
    told_unread: i64,
) -> Result<()> {
    const TOLD: &str = "UPDATE pushers SET told_pos = COALESCE(CAST($4 AS BIGINT), told_pos), \
         failing_since = 0, told_unread = $5 \
         WHERE user_nid = $1 AND app_id = $2 AND pushkey = $3";
    let PusherKey { user, app_id, pushkey } = key;
    execute!(
        tx,
        sql::query(TOLD).bind(user.0).bind(app_id).bind(pushkey).bind(pos).bind(told_unread)
    )
    .map(drop)
}

/// Notes that a gateway does not take what a pusher is to be told after a position.
///
/// # Errors
/// When the database fails.
pub async fn failing(tx: &mut Tx, key: PusherKey, pos: Position, since_ms: i64) -> Result<()> {
    const FAILING: &str = "UPDATE pushers SET told_pos = $4, failing_since = $5 \
         WHERE user_nid = $1 AND app_id = $2 AND pushkey = $3";
    let PusherKey { user, app_id, pushkey } = key;
    execute!(
        tx,
        sql::query(FAILING).bind(user.0).bind(app_id).bind(pushkey).bind(pos).bind(since_ms)
    )
    .map(drop)
}

/// Returns up to where the pushers of each shard were told.
///
/// # Errors
/// When the database fails.
pub async fn positions(db: &Database) -> Result<Vec<(i64, Position)>> {
    const POSITIONS: &str = "SELECT shard, pos FROM push_positions";
    read!(db, |c| sql::query_as(POSITIONS).fetch_all(c))
}

/// Notes up to where the pushers of a shard were told.
///
/// # Errors
/// When the database fails.
pub async fn put_position(tx: &mut Tx, shard: i64, pos: Position) -> Result<()> {
    const PUT: &str = "INSERT INTO push_positions (shard, pos) VALUES ($1, $2) \
         ON CONFLICT (shard) DO UPDATE SET pos = excluded.pos";
    execute!(tx, sql::query(PUT).bind(shard).bind(pos)).map(drop)
}

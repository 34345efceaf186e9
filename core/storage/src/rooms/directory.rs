//! The directory: which room an alias points to, and which rooms are published. Whether somebody may
//! change either is decided in the services.

use colonnade_model::{
    nid::{RoomNid, UserNid},
    ruma::{OwnedRoomAliasId, OwnedRoomId, RoomAliasId, RoomId},
};

use crate::{
    Database, Tx,
    database::{int_list, sql, text_list},
    error::{Result, StorageError},
    quota::Quota,
};

/// Aliases of one room that are listed: many more than a room needs, few enough for one answer.
const ALIASES_LISTED_MAX: i64 = 1_000;

const MADE: &str = "SELECT count(*) FROM room_aliases WHERE creator_nid = $1";

/// What an alias points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliasTarget {
    /// The room.
    pub room: RoomNid,
    /// Who made the alias.
    pub creator: UserNid,
}

/// Returns what a local alias points to.
///
/// # Errors
/// When the database fails.
pub async fn resolve(db: &Database, alias: &RoomAliasId) -> Result<Option<AliasTarget>> {
    const FIND: &str = "SELECT room_nid, creator_nid FROM room_aliases WHERE alias = $1";
    let found: Option<(i64, i64)> =
        read!(db, |c| sql::query_as(FIND).bind(alias.to_string()).fetch_optional(c))?;
    Ok(found.map(|(room, creator)| AliasTarget { room: RoomNid(room), creator: UserNid(creator) }))
}

/// Returns those of some aliases that point to a room.
///
/// # Errors
/// When the database fails.
pub async fn pointing_to(db: &Database, room: RoomNid, aliases: &[String]) -> Result<Vec<String>> {
    const POINTING: &str =
        "SELECT alias FROM room_aliases WHERE room_nid = $1 AND alias IN {TEXTS 2}";
    let list = text_list(aliases);
    read_list!(db, POINTING, |text, c| sql::query_scalar(text).bind(room.0).bind(list).fetch_all(c))
}

/// Points an alias to a room. Returns false, and changes nothing, when the alias is taken. Those of one
/// creator take turns, though rooms are made with an alias in another lane than aliases of old rooms.
///
/// # Errors
/// [`StorageError::Full`] when its creator would have made more than `quota`; when the database fails.
pub async fn insert_alias(
    tx: &mut Tx,
    alias: &RoomAliasId,
    room: RoomNid,
    creator: UserNid,
    quota: Quota,
) -> Result<bool> {
    const TURN: &str = "UPDATE accounts SET deactivated = deactivated WHERE user_nid = $1";
    const INSERT: &str = "INSERT INTO room_aliases (alias, room_nid, creator_nid) \
         VALUES ($1, $2, $3) ON CONFLICT (alias) DO NOTHING";
    execute!(tx, sql::query(TURN).bind(creator.0))?;
    let alias = alias.to_string();
    let rows = execute!(tx, sql::query(INSERT).bind(alias).bind(room.0).bind(creator.0))?;
    let made: i64 = run!(tx, |c| sql::query_scalar(MADE).bind(creator.0).fetch_one(c))?;
    quota.require(made, 0)?;
    Ok(rows > 0)
}

/// Tells whether a user may make one more alias.
///
/// # Errors
/// [`StorageError::Full`] when not; when the database fails.
pub async fn require_room(db: &Database, creator: UserNid, quota: Quota) -> Result<()> {
    let made: i64 = read!(db, |c| sql::query_scalar(MADE).bind(creator.0).fetch_one(c))?;
    quota.require(made + 1, 0)
}

/// Removes an alias. Returns false when there was none.
///
/// # Errors
/// When the database fails.
pub async fn delete_alias(tx: &mut Tx, alias: &RoomAliasId) -> Result<bool> {
    const DELETE: &str = "DELETE FROM room_aliases WHERE alias = $1";
    Ok(execute!(tx, sql::query(DELETE).bind(alias.to_string()))? > 0)
}

/// Points every alias of one room to another, as a room upgrade does.
///
/// # Errors
/// When the database fails.
pub async fn move_aliases(tx: &mut Tx, source: RoomNid, target: RoomNid) -> Result<()> {
    const MOVE: &str = "UPDATE room_aliases SET room_nid = $2 WHERE room_nid = $1";
    execute!(tx, sql::query(MOVE).bind(source.0).bind(target.0)).map(|_| ())
}

/// Returns the local aliases of a room, sorted, at most a thousand.
///
/// # Errors
/// When the database fails or a row is damaged.
pub async fn aliases_of(db: &Database, room: RoomNid) -> Result<Vec<OwnedRoomAliasId>> {
    const LIST: &str = "SELECT alias FROM room_aliases WHERE room_nid = $1 ORDER BY alias LIMIT $2";
    let aliases: Vec<String> =
        read!(db, |c| sql::query_scalar(LIST).bind(room.0).bind(ALIASES_LISTED_MAX).fetch_all(c))?;
    let parsed = aliases.into_iter().map(|alias| {
        RoomAliasId::parse(alias.as_str())
            .map_err(|error| StorageError::corrupt("room_aliases", "alias", &alias, error))
    });
    parsed.collect()
}

/// Tells whether a room is published in the directory; `None` when there is no such room.
///
/// # Errors
/// When the database fails.
pub async fn published(db: &Database, room: RoomNid) -> Result<Option<bool>> {
    const FIND: &str = "SELECT published FROM room_summary WHERE room_nid = $1";
    let found: Option<i64> = read!(db, |c| sql::query_scalar(FIND).bind(room.0).fetch_optional(c))?;
    Ok(found.map(|published| published != 0))
}

/// Returns those of some rooms that are published in the directory.
///
/// # Errors
/// When the database fails.
pub async fn published_among(db: &Database, rooms: &[RoomNid]) -> Result<Vec<RoomNid>> {
    const FIND: &str = "SELECT room_nid FROM room_summary \
         WHERE published <> 0 AND room_nid IN {INTS 1}";
    let rooms = int_list(rooms.iter().map(|room| room.0));
    let found: Vec<i64> =
        read_list!(db, FIND, |sql, c| sql::query_scalar(sql).bind(rooms).fetch_all(c))?;
    Ok(found.into_iter().map(RoomNid).collect())
}

/// Publishes a room in the directory or takes it out.
///
/// # Errors
/// When the database fails.
pub async fn set_published(tx: &mut Tx, room: RoomNid, published: bool) -> Result<()> {
    const SET: &str = "UPDATE room_summary SET published = $2 WHERE room_nid = $1";
    execute!(tx, sql::query(SET).bind(room.0).bind(i64::from(published))).map(|_| ())
}

/// A place in the list of published rooms, which is sorted by members, then by room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Joined members.
    pub joined: i64,
    /// The room.
    pub room: RoomNid,
}

/// Which published rooms are wanted.
#[derive(Debug, Clone, Default)]
pub struct PublishedQuery {
    /// Starts behind (or, going backward, before) this place.
    pub from: Option<Place>,
    /// Goes toward rooms with more members; the page is still sorted with the largest first.
    pub backward: bool,
    /// Rooms wanted.
    pub limit: i64,
    /// Text that name, topic or canonical alias contain.
    pub search: Option<String>,
    /// Room types wanted, the empty string for rooms without one; `None`: all.
    pub types: Option<Vec<String>>,
}

/// A published room as the directory shows it.
#[derive(Debug, Clone)]
pub struct PublishedRoom {
    /// Where it stands in the list.
    pub place: Place,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Its name.
    pub name: Option<String>,
    /// Its topic as plain text.
    pub topic: Option<String>,
    /// Its picture.
    pub avatar_url: Option<String>,
    /// Its main alias.
    pub canonical_alias: Option<String>,
    /// Its type, `m.space` say.
    pub room_type: Option<String>,
    /// Its join rule.
    pub join_rule: String,
    /// Who may read its past.
    pub history_visibility: String,
    /// Guests may join.
    pub guest_access: bool,
}

/// A row as it stands in the table.
#[derive(sqlx::FromRow)]
struct Row {
    joined: i64,
    room_nid: i64,
    room_id: String,
    name: Option<String>,
    topic: Option<String>,
    avatar_url: Option<String>,
    canonical_alias: Option<String>,
    room_type: Option<String>,
    join_rule: String,
    history_visibility: String,
    guest_access: i64,
}

/// Selects published rooms; the two directions differ in the comparison and the order only.
macro_rules! published_sql {
    ($compare:literal, $order:literal) => {
        concat!(
            "SELECT s.joined, s.room_nid, r.room_id, s.name, s.topic, s.avatar_url, \
                s.canonical_alias, s.room_type, s.join_rule, s.history_visibility, s.guest_access \
             FROM room_summary s JOIN rooms r ON r.room_nid = s.room_nid \
             WHERE s.published = 1 AND (s.joined, s.room_nid) ",
            $compare,
            " ($1, $2) \
               AND ($3 = '' OR lower(COALESCE(s.name, '')) LIKE $4 ESCAPE '!' \
                 OR lower(COALESCE(s.topic, '')) LIKE $4 ESCAPE '!' \
                 OR lower(COALESCE(s.canonical_alias, '')) LIKE $4 ESCAPE '!' \
                 OR COALESCE(s.name, '') LIKE $3 ESCAPE '!' \
                 OR COALESCE(s.topic, '') LIKE $3 ESCAPE '!') \
               AND ($5 = 0 OR COALESCE(s.room_type, '') IN {TEXTS 6}) \
             ORDER BY s.joined ",
            $order,
            ", s.room_nid ",
            $order,
            " LIMIT $7"
        )
    };
}

/// Returns a page of published rooms, those with most members first. The search ignores the case of
/// ASCII letters; of other letters only as far as the engine does.
///
/// # Errors
/// When the database fails or a row is damaged.
pub async fn published_rooms(db: &Database, query: PublishedQuery) -> Result<Vec<PublishedRoom>> {
    const FORWARD: &str = published_sql!("<", "DESC");
    const BACKWARD: &str = published_sql!(">", "ASC");
    let (sql, open_end) = if query.backward { (BACKWARD, -1) } else { (FORWARD, i64::MAX) };
    let from = query.from.unwrap_or(Place { joined: open_end, room: RoomNid(open_end) });
    let (exact, lower) = match query.search.as_deref() {
        Some(term) if !term.is_empty() => (like(term), like(&term.to_lowercase())),
        _ => (String::new(), String::new()),
    };
    let by_type = i64::from(query.types.is_some());
    let types = text_list(query.types.unwrap_or_default());
    let rows: Vec<Row> = read_list!(db, sql, |text, c| sql::query_as(text)
        .bind(from.joined)
        .bind(from.room.0)
        .bind(exact)
        .bind(lower)
        .bind(by_type)
        .bind(types)
        .bind(query.limit)
        .fetch_all(c))?;
    let mut rooms = rows.into_iter().map(published_room).collect::<Result<Vec<_>>>()?;
    if query.backward {
        rooms.reverse();
    }
    Ok(rooms)
}

/// Returns how many rooms are published.
///
/// # Errors
/// When the database fails.
pub async fn published_count(db: &Database) -> Result<i64> {
    const COUNT: &str = "SELECT count(*) FROM room_summary WHERE published = 1";
    read!(db, |c| sql::query_scalar(COUNT).fetch_one(c))
}

/// Renders a LIKE pattern for "contains this text".
fn like(term: &str) -> String {
    let mut pattern = String::with_capacity(term.len() + 2);
    pattern.push('%');
    for letter in term.chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

fn published_room(row: Row) -> Result<PublishedRoom> {
    let room_id = RoomId::parse(row.room_id.as_str())
        .map_err(|error| StorageError::corrupt("rooms", "room_id", row.room_nid, error))?;
    Ok(PublishedRoom {
        place: Place { joined: row.joined, room: RoomNid(row.room_nid) },
        room_id,
        name: row.name,
        topic: row.topic,
        avatar_url: row.avatar_url,
        canonical_alias: row.canonical_alias,
        room_type: row.room_type,
        join_rule: row.join_rule,
        history_visibility: row.history_visibility,
        guest_access: row.guest_access != 0,
    })
}

#[cfg(test)]
mod tests;

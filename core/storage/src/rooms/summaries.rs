//! Room summaries: what directories, invitations and lists show of a room, kept beside its state so
//! that showing a thousand rooms reads no state. Written by [`crate::rooms::persist`].

use colonnade_model::nid::RoomNid;

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::Result,
};

/// What a room shows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// `m.room.name`.
    pub name: Option<String>,
    /// `m.room.topic`.
    pub topic: Option<String>,
    /// `m.room.avatar`.
    pub avatar_url: Option<String>,
    /// `m.room.canonical_alias`.
    pub canonical_alias: Option<String>,
    /// `type` of `m.room.create`.
    pub room_type: Option<String>,
    /// `m.room.join_rules`; `invite` if there is none.
    pub join_rule: String,
    /// `m.room.history_visibility`; `shared` if there is none.
    pub history_visibility: String,
    /// Whether guests may join.
    pub guest_access: bool,
    /// `algorithm` of `m.room.encryption`.
    pub encryption: Option<String>,
    /// `replacement_room` of `m.room.tombstone`.
    pub successor: Option<String>,
    /// Joined members.
    pub joined: i64,
    /// Whether it stands in the public directory.
    pub published: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    room_nid: i64,
    name: Option<String>,
    topic: Option<String>,
    avatar_url: Option<String>,
    canonical_alias: Option<String>,
    room_type: Option<String>,
    join_rule: String,
    history_visibility: String,
    guest_access: i64,
    encryption: Option<String>,
    successor: Option<String>,
    joined: i64,
    published: i64,
}

impl Row {
    fn summary(self) -> (RoomNid, Summary) {
        let summary = Summary {
            name: self.name,
            topic: self.topic,
            avatar_url: self.avatar_url,
            canonical_alias: self.canonical_alias,
            room_type: self.room_type,
            join_rule: self.join_rule,
            history_visibility: self.history_visibility,
            guest_access: self.guest_access != 0,
            encryption: self.encryption,
            successor: self.successor,
            joined: self.joined,
            published: self.published != 0,
        };
        (RoomNid(self.room_nid), summary)
    }
}

/// Expands to a read of summaries with this condition.
macro_rules! summaries {
    ($condition:literal) => {
        concat!(
            "SELECT room_nid, name, topic, avatar_url, canonical_alias, room_type, join_rule, ",
            "history_visibility, guest_access, encryption, successor, joined, published ",
            "FROM room_summary WHERE ",
            $condition
        )
    };
}

/// Returns the summary of a room.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, room: RoomNid) -> Result<Option<Summary>> {
    const GET: &str = summaries!("room_nid = $1");
    let row: Option<Row> = read!(db, |c| sql::query_as(GET).bind(room.0).fetch_optional(c))?;
    Ok(row.map(|row| row.summary().1))
}

/// Returns the summaries of those of the rooms that have one, in no particular order.
///
/// # Errors
/// When the database fails.
pub async fn many(db: &Database, rooms: &[RoomNid]) -> Result<Vec<(RoomNid, Summary)>> {
    const MANY: &str = summaries!("room_nid IN {INTS 1}");
    let list = int_list(rooms.iter().map(|room| room.0));
    let rows: Vec<Row> = read_list!(db, MANY, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
    Ok(rows.into_iter().map(Row::summary).collect())
}

/// Stores what a room shows; whether it is published stays as it was.
pub(crate) async fn put(tx: &mut Tx, room: RoomNid, summary: &Summary) -> Result<()> {
    const PUT: &str = "INSERT INTO room_summary (room_nid, name, topic, avatar_url, \
         canonical_alias, room_type, join_rule, history_visibility, guest_access, encryption, \
         successor, joined, published) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
         ON CONFLICT (room_nid) DO UPDATE SET name = $2, topic = $3, avatar_url = $4, \
         canonical_alias = $5, room_type = $6, join_rule = $7, history_visibility = $8, \
         guest_access = $9, encryption = $10, successor = $11, joined = $12";
    execute!(
        tx,
        sql::query(PUT)
            .bind(room.0)
            .bind(summary.name.clone())
            .bind(summary.topic.clone())
            .bind(summary.avatar_url.clone())
            .bind(summary.canonical_alias.clone())
            .bind(summary.room_type.clone())
            .bind(summary.join_rule.clone())
            .bind(summary.history_visibility.clone())
            .bind(i64::from(summary.guest_access))
            .bind(summary.encryption.clone())
            .bind(summary.successor.clone())
            .bind(summary.joined)
            .bind(i64::from(summary.published))
    )?;
    Ok(())
}

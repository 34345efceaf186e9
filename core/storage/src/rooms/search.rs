//! The index that finds events by the words in them. A follower of the events stream fills it a
//! moment after the commit; a redaction empties it in its own commit. An index of our own instead of
//! the engines' (docs/decisions/0010-search-by-words.md): one table, the same statements on both.

use colonnade_model::{
    nid::{EventNid, RoomNid},
    stream::Position,
};

use crate::{
    Database, Tx,
    database::{
        int_list,
        sql::{self, TextList},
        text_list,
    },
    error::Result,
    rooms::events::EventFlags,
};

/// A word of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word, in the form that is searched for.
    pub word: String,
    /// The room.
    pub room: RoomNid,
    /// The event's position.
    pub pos: Position,
    /// Which part of the event it is in.
    pub field: i64,
    /// The event.
    pub event: EventNid,
}

/// What is searched for.
#[derive(Debug, Clone)]
pub struct SearchTerms {
    /// All of these words, each once.
    pub words: Vec<String>,
    /// In these rooms.
    pub rooms: Vec<RoomNid>,
    /// In these parts.
    pub fields: Vec<i64>,
}

/// Returns how far the index is filled.
///
/// # Errors
/// When the database fails.
pub async fn filled_upto(db: &Database) -> Result<Position> {
    const UPTO: &str = "SELECT COALESCE(MAX(pos), 0) FROM followers WHERE follower = 'search'";
    read!(db, |c| sql::query_scalar(UPTO).fetch_one(c))
}

/// Adds words, and notes that everything up to a position is in the index. May be repeated.
///
/// # Errors
/// When the database fails.
pub async fn fill(tx: &mut Tx, words: Vec<Word>, upto: Position) -> Result<()> {
    // What was redacted since it was read stays out.
    const ADD: &str = "INSERT INTO event_words (word, room_nid, pos, field, event_nid) \
         SELECT CAST($1 AS TEXT), CAST($2 AS BIGINT), CAST($3 AS BIGINT), CAST($4 AS BIGINT), \
           event_nid FROM events WHERE event_nid = $5 AND flags % (2 * $6) < $6 \
         ON CONFLICT (word, room_nid, pos, field) DO NOTHING";
    const UPTO: &str = "INSERT INTO followers (follower, pos) VALUES ('search', $1) \
         ON CONFLICT (follower) DO UPDATE SET pos = $1 WHERE followers.pos < $1";
    for word in words {
        execute!(
            tx,
            sql::query(ADD)
                .bind(word.word)
                .bind(word.room.0)
                .bind(word.pos)
                .bind(word.field)
                .bind(word.event.0)
                .bind(EventFlags::REDACTED.0)
        )?;
    }
    execute!(tx, sql::query(UPTO).bind(upto))?;
    Ok(())
}

/// Takes an event out.
///
/// # Errors
/// When the database fails.
pub(crate) async fn forget(tx: &mut Tx, event: EventNid) -> Result<()> {
    const FORGET: &str = "DELETE FROM event_words WHERE event_nid = $1";
    execute!(tx, sql::query(FORGET).bind(event.0))?;
    Ok(())
}

/// Returns events with all the words below a position, newest first, with their positions.
///
/// # Errors
/// When the database fails.
pub async fn find(
    db: &Database,
    wanted: &SearchTerms,
    below: Position,
    limit: i64,
) -> Result<Vec<(EventNid, Position)>> {
    const FIND: &str = "SELECT event_nid, pos FROM event_words \
         WHERE word IN {TEXTS 1} AND room_nid IN {INTS 2} AND field IN {INTS 3} AND pos < $4 \
         GROUP BY event_nid, pos HAVING count(DISTINCT word) = $5 ORDER BY pos DESC LIMIT $6";
    let (words, rooms, fields, count) = lists(wanted);
    let rows: Vec<(i64, i64)> = read_list!(db, FIND, |sql, c| sql::query_as(sql)
        .bind(words)
        .bind(rooms)
        .bind(fields)
        .bind(below)
        .bind(count)
        .bind(limit)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(|(event, pos)| (EventNid(event), pos)).collect())
}

fn lists(wanted: &SearchTerms) -> (TextList, String, String, i64) {
    let count = i64::try_from(wanted.words.len()).unwrap_or(i64::MAX);
    let rooms = int_list(wanted.rooms.iter().map(|room| room.0));
    let fields = int_list(wanted.fields.iter().copied());
    (text_list(&wanted.words), rooms, fields, count)
}

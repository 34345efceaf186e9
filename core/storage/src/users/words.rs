//! The index that finds users by the beginnings of the words of their names. Who may find whom is
//! decided here too, beside the index, because only the database sees all memberships.

use colonnade_model::nid::UserNid;

use crate::{Database, Tx, database::sql, error::Result};

/// Whom a search may find.
#[derive(Debug, Clone, Copy)]
pub enum Reach {
    /// Everybody on this server.
    Everybody,
    /// Who shares a room with this user, or is in a room that anybody may join or read.
    SharedOrPublic(UserNid),
}

/// Replaces the words a user is found by.
///
/// # Errors
/// When the database fails.
pub async fn replace(tx: &mut Tx, user: UserNid, words: Vec<Vec<u8>>) -> Result<()> {
    const FORGET: &str = "DELETE FROM user_words WHERE user_nid = $1";
    const INSERT: &str = "INSERT INTO user_words (word, user_nid) VALUES ($1, $2) \
         ON CONFLICT (word, user_nid) DO NOTHING";
    execute!(tx, sql::query(FORGET).bind(user.0))?;
    for word in words {
        execute!(tx, sql::query(INSERT).bind(word).bind(user.0))?;
    }
    Ok(())
}

/// Returns up to `limit` users with a word that is at least `from` and below `upto`: `searcher`, too, where he is in a
/// public room, but for [`Reach::Everybody`].
///
/// # Errors
/// When the database fails.
pub async fn search(
    db: &Database,
    from: Vec<u8>,
    upto: Vec<u8>,
    searcher: UserNid,
    reach: Reach,
    limit: i64,
) -> Result<Vec<UserNid>> {
    const EVERYBODY: &str = "SELECT DISTINCT user_nid FROM user_words \
         WHERE word >= $1 AND word < $2 AND user_nid <> $3 ORDER BY user_nid LIMIT $4";
    const SHARED_OR_PUBLIC: &str = "SELECT f.user_nid FROM (SELECT DISTINCT user_nid \
         FROM user_words WHERE word >= $1 AND word < $2) f \
         WHERE f.user_nid <> $3 AND EXISTS (SELECT 1 FROM room_members t \
           JOIN room_members m ON m.room_nid = t.room_nid \
           WHERE t.user_nid = f.user_nid AND t.membership = 1 \
             AND m.user_nid = $5 AND m.membership = 1) \
         OR EXISTS (SELECT 1 FROM room_members t JOIN room_summary s ON s.room_nid = t.room_nid \
           WHERE t.user_nid = f.user_nid AND t.membership = 1 \
             AND (s.join_rule = 'public' OR s.history_visibility = 'world_readable')) \
         ORDER BY f.user_nid LIMIT $4";
    let rows: Vec<i64> = match reach {
        Reach::Everybody => read!(db, |c| sql::query_scalar(EVERYBODY)
            .bind(from)
            .bind(upto)
            .bind(searcher.0)
            .bind(limit)
            .fetch_all(c))?,
        Reach::SharedOrPublic(user) => read!(db, |c| sql::query_scalar(SHARED_OR_PUBLIC)
            .bind(from)
            .bind(upto)
            .bind(searcher.0)
            .bind(limit)
            .bind(user.0)
            .fetch_all(c))?,
    };
    Ok(rows.into_iter().map(UserNid).collect())
}

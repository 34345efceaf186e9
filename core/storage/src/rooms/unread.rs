//! Counts of unread events, from cumulative counters and the rows of exceptions: nothing is stored
//! per member and message, and nothing is counted row by row but what was meant for that user alone.
//!
//! unread = counter now − counter at the read position + exceptions. The read position is that of
//! the receipt or of the user's own last message, whichever is later.

use colonnade_model::{
    nid::{EventNid, RoomNid, UserNid},
    stream::Position,
};
use colonnade_rules::push::PushOutcome;

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::Result,
};

/// What is unread for a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that notify.
    pub notify: i64,
    /// Events that highlight.
    pub highlight: i64,
}

/// Which events are counted.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// In this room.
    pub room: RoomNid,
    /// For this user.
    pub user: UserNid,
    /// In this thread; outside threads if `None`.
    pub thread: Option<EventNid>,
    /// Above this position: how far the user has read.
    pub after: Position,
    /// Up to this position.
    pub upto: Position,
}

/// Counts what is unread.
///
/// # Errors
/// When the database fails.
pub async fn count(db: &Database, span: Span) -> Result<Counts> {
    let span = after_own(db, span).await?;
    let now = counters(db, span, span.upto).await?;
    let then = counters(db, span, span.after).await?;
    let mut sum = exceptions(db, span).await?;
    if now.0 > then.0 {
        let redacted = redacted(db, span).await?;
        sum.notify += now.0 - then.0 - redacted.notify;
        sum.highlight -= redacted.highlight;
    }
    // The counter of highlights does not tell threads apart; it is only asked whether there are any.
    if now.1 > then.1 {
        sum.highlight += highlights(db, span).await?;
    }
    Ok(Counts { notify: sum.notify.max(0), highlight: sum.highlight.max(0) })
}

/// The counters of notifying and highlighting events at a position.
async fn counters(db: &Database, span: Span, at: Position) -> Result<(i64, i64)> {
    const MAIN: &str = "SELECT main_seq, hl_seq FROM event_stream \
         WHERE room_nid = $1 AND pos <= $2 ORDER BY pos DESC LIMIT 1";
    const THREAD: &str = "SELECT thread_seq, hl_seq FROM event_stream \
         WHERE room_nid = $1 AND thread_nid = $3 AND pos <= $2 ORDER BY pos DESC LIMIT 1";
    let row: Option<(i64, i64)> = match span.thread {
        None => read!(db, |c| sql::query_as(MAIN).bind(span.room.0).bind(at).fetch_optional(c))?,
        Some(thread) => read!(db, |c| sql::query_as(THREAD)
            .bind(span.room.0)
            .bind(at)
            .bind(thread.0)
            .fetch_optional(c))?,
    };
    Ok(row.unwrap_or_default())
}

/// Moves a span up to the user's last own message in it: who speaks has read.
///
/// Source: Matrix v1.19, client-server, "Receiving notifications".
async fn after_own(db: &Database, span: Span) -> Result<Span> {
    const OWN: &str = "SELECT pos FROM event_stream WHERE room_nid = $1 AND sender_nid = $2 \
         AND action > 0 AND pos > $3 AND pos <= $4 AND COALESCE(thread_nid, 0) = $5 \
         ORDER BY pos DESC LIMIT 1";
    let own: Option<i64> = read!(db, |c| sql::query_scalar(OWN)
        .bind(span.room.0)
        .bind(span.user.0)
        .bind(span.after)
        .bind(span.upto)
        .bind(thread_number(span))
        .fetch_optional(c))?;
    Ok(Span { after: own.unwrap_or(span.after), ..span })
}

/// Events that were counted, and are redacted now.
async fn redacted(db: &Database, span: Span) -> Result<Counts> {
    const REDACTED: &str = "SELECT count(*), \
            CAST(COALESCE(SUM(CASE WHEN action = 2 THEN 1 ELSE 0 END), 0) AS BIGINT) \
         FROM redacted_notifications WHERE room_nid = $1 AND pos > $2 AND pos <= $3 \
           AND COALESCE(thread_nid, 0) = $4";
    let (notify, highlight): (i64, i64) = read!(db, |c| sql::query_as(REDACTED)
        .bind(span.room.0)
        .bind(span.after)
        .bind(span.upto)
        .bind(thread_number(span))
        .fetch_one(c))?;
    Ok(Counts { notify, highlight })
}

/// Counts what a user has not read of some senders, who he ignores: it was counted when they said it, before he
/// did.
///
/// # Errors
/// When the database fails.
pub async fn count_of(db: &Database, span: Span, senders: &[UserNid]) -> Result<Counts> {
    const OF: &str = "SELECT \
            CAST(COALESCE(SUM(CASE WHEN COALESCE(x.action, s.action) > 0 THEN 1 ELSE 0 END), 0) AS BIGINT), \
            CAST(COALESCE(SUM(CASE WHEN COALESCE(x.action, s.action) = 2 THEN 1 ELSE 0 END), 0) AS BIGINT) \
         FROM event_stream s LEFT JOIN push_exceptions x \
           ON x.user_nid = $2 AND x.room_nid = s.room_nid AND x.pos = s.pos \
         WHERE s.sender_nid IN {INTS 6} AND s.room_nid = $1 AND s.action > 0 \
           AND s.pos > $3 AND s.pos <= $4 AND COALESCE(s.thread_nid, 0) = $5 \
           AND NOT EXISTS (SELECT 1 FROM redacted_notifications r \
               WHERE r.room_nid = s.room_nid AND r.pos = s.pos)";
    let span = after_own(db, span).await?;
    let senders = int_list(senders.iter().map(|sender| sender.0));
    let (notify, highlight): (i64, i64) = read_list!(db, OF, |sql, c| sql::query_as(sql)
        .bind(span.room.0)
        .bind(span.user.0)
        .bind(span.after)
        .bind(span.upto)
        .bind(thread_number(span))
        .bind(senders)
        .fetch_one(c))?;
    Ok(Counts { notify, highlight })
}

/// Takes a redacted event out of what is unread.
///
/// # Errors
/// When the database fails.
pub(crate) async fn uncount(tx: &mut Tx, event: EventNid) -> Result<()> {
    const NOTE: &str = "INSERT INTO redacted_notifications (room_nid, pos, thread_nid, action) \
         SELECT room_nid, pos, thread_nid, action FROM event_stream \
         WHERE event_nid = $1 AND action > 0 ON CONFLICT (room_nid, pos) DO NOTHING";
    const FORGET: &str = "UPDATE push_exceptions SET action = 0, base = 0 \
         WHERE pos = (SELECT pos FROM event_stream WHERE event_nid = $1)";
    execute!(tx, sql::query(NOTE).bind(event.0))?;
    execute!(tx, sql::query(FORGET).bind(event.0)).map(drop)
}

/// Events of others that highlight for everybody.
async fn highlights(db: &Database, span: Span) -> Result<i64> {
    const HIGHLIGHTS: &str = "SELECT count(*) FROM event_stream WHERE room_nid = $1 \
         AND sender_nid <> $2 AND action = 2 AND pos > $3 AND pos <= $4 \
         AND COALESCE(thread_nid, 0) = $5";
    read!(db, |c| sql::query_scalar(HIGHLIGHTS)
        .bind(span.room.0)
        .bind(span.user.0)
        .bind(span.after)
        .bind(span.upto)
        .bind(thread_number(span))
        .fetch_one(c))
}

/// What differs for this user from what the default rules say.
async fn exceptions(db: &Database, span: Span) -> Result<Counts> {
    const EXCEPTIONS: &str = "SELECT \
            CAST(COALESCE(SUM(CASE WHEN action > 0 THEN 1 ELSE 0 END \
                - CASE WHEN base > 0 THEN 1 ELSE 0 END), 0) AS BIGINT), \
            CAST(COALESCE(SUM(CASE WHEN action = 2 THEN 1 ELSE 0 END \
                - CASE WHEN base = 2 THEN 1 ELSE 0 END), 0) AS BIGINT) \
         FROM push_exceptions WHERE room_nid = $1 AND user_nid = $2 AND pos > $3 AND pos <= $4 \
           AND COALESCE(thread_nid, 0) = $5";
    let (notify, highlight): (i64, i64) = read!(db, |c| sql::query_as(EXCEPTIONS)
        .bind(span.room.0)
        .bind(span.user.0)
        .bind(span.after)
        .bind(span.upto)
        .bind(thread_number(span))
        .fetch_one(c))?;
    Ok(Counts { notify, highlight })
}

/// What an event means to a user to whom it means something else than by the default rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnOutcome {
    /// The event's position.
    pub pos: Position,
    /// The user.
    pub user: UserNid,
    /// What it means to him.
    pub outcome: PushOutcome,
    /// What it means by the default rules.
    pub base: PushOutcome,
}

/// Returns to whom the events at these positions mean something of their own: at most `limit` of them.
///
/// # Errors
/// When the database fails.
pub async fn own_outcomes(
    db: &Database,
    positions: &[Position],
    limit: i64,
) -> Result<Vec<OwnOutcome>> {
    const OWN: &str = "SELECT pos, user_nid, action, base FROM push_exceptions \
         WHERE pos IN {INTS 1} LIMIT $2";
    let list = int_list(positions.iter().copied());
    let rows: Vec<(i64, i64, i64, i64)> =
        read_list!(db, OWN, |sql, c| sql::query_as(sql).bind(list).bind(limit).fetch_all(c))?;
    let own = |(pos, user, action, base): (i64, i64, i64, i64)| OwnOutcome {
        pos,
        user: UserNid(user),
        outcome: action.into(),
        base: base.into(),
    };
    Ok(rows.into_iter().map(own).collect())
}

/// Returns the threads of a room with anything after a position, for counting each.
///
/// # Errors
/// When the database fails.
pub async fn threads_after(
    db: &Database,
    room: RoomNid,
    after: Position,
    limit: i64,
) -> Result<Vec<EventNid>> {
    const THREADS: &str = "SELECT root_nid FROM threads WHERE room_nid = $1 AND latest_pos > $2 \
         ORDER BY latest_pos DESC LIMIT $3";
    let rows: Vec<i64> = read!(db, |c| sql::query_scalar(THREADS)
        .bind(room.0)
        .bind(after)
        .bind(limit)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(EventNid).collect())
}

/// Returns since when a user has been in a room: the position of the latest join from outside.
///
/// # Errors
/// When the database fails.
pub async fn member_since(db: &Database, room: RoomNid, user: UserNid) -> Result<Position> {
    const SINCE: &str = "SELECT COALESCE(MIN(pos), 0) FROM member_log \
         WHERE user_nid = $1 AND room_nid = $2 AND membership = 1 AND pos > COALESCE(\
            (SELECT MAX(pos) FROM member_log \
             WHERE user_nid = $1 AND room_nid = $2 AND membership <> 1), 0)";
    read!(db, |c| sql::query_scalar(SINCE).bind(user.0).bind(room.0).fetch_one(c))
}

/// Where an exception stands: user, room, position.
pub type Exception = (i64, i64, Position);

/// Finds exceptions that are never counted again, since their user has read the whole room further, or is
/// not in it any more. Looks at `limit` exceptions behind one and returns the last of them, too; nothing
/// behind the last of all.
///
/// # Errors
/// When the database fails.
pub async fn spent(
    db: &Database,
    after: Exception,
    limit: i64,
) -> Result<Option<(Exception, Vec<Exception>)>> {
    const LOOK: &str = "SELECT x.user_nid, x.room_nid, x.pos, CAST(CASE \
            WHEN EXISTS (SELECT 1 FROM receipts r WHERE r.room_nid = x.room_nid \
                AND r.user_nid = x.user_nid AND r.thread = '' AND r.event_pos >= x.pos) THEN 1 \
            WHEN NOT EXISTS (SELECT 1 FROM room_members m WHERE m.room_nid = x.room_nid \
                AND m.user_nid = x.user_nid AND m.membership = 1) THEN 1 ELSE 0 END AS BIGINT) \
         FROM (SELECT user_nid, room_nid, pos FROM push_exceptions \
            WHERE (user_nid, room_nid, pos) > ($1, $2, $3) \
            ORDER BY user_nid, room_nid, pos LIMIT $4) AS x ORDER BY x.user_nid, x.room_nid, x.pos";
    let rows: Vec<(i64, i64, i64, i64)> = read!(db, |c| sql::query_as(LOOK)
        .bind(after.0)
        .bind(after.1)
        .bind(after.2)
        .bind(limit)
        .fetch_all(c))?;
    let Some(last) = rows.last().map(|row| (row.0, row.1, row.2)) else { return Ok(None) };
    let spent = rows.into_iter().filter(|row| row.3 == 1).map(|row| (row.0, row.1, row.2));
    Ok(Some((last, spent.collect())))
}

/// Forgets exceptions.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, exceptions: &[Exception]) -> Result<()> {
    const FORGET: &str =
        "DELETE FROM push_exceptions WHERE user_nid = $1 AND room_nid = $2 AND pos = $3";
    for (user, room, pos) in exceptions {
        execute!(tx, sql::query(FORGET).bind(*user).bind(*room).bind(*pos))?;
    }
    Ok(())
}

fn thread_number(span: Span) -> i64 {
    span.thread.map_or(0, |thread| thread.0)
}

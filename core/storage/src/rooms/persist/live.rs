//! The rows of a live event that carry its position: its place in the stream, in its thread, in the
//! log of the current state, and the memberships that became current with it.

use colonnade_model::{
    nid::{EventNid, RoomNid},
    stream::{Position, Stream, Touch},
};

use super::batch::{Live, NewEvent, NewMember};
use crate::{
    Tx,
    database::{Bulk, sql},
    error::Result,
};

/// Rows that carry positions and need nothing read first; written together, once they are known.
pub(crate) struct LiveRows {
    stream: Bulk<10>,
    states: Bulk<3>,
    exceptions: Bulk<7>,
}

impl LiveRows {
    pub(crate) fn new() -> Self {
        const STREAM: &str = "INSERT INTO event_stream (pos, room_nid, event_nid, sender_nid, \
             action, notif_seq, main_seq, hl_seq, thread_nid, thread_seq) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        const STATE: &str =
            "INSERT INTO room_state_log (room_nid, pos, state_nid) VALUES ($1, $2, $3)";
        const EXCEPTION: &str = "INSERT INTO push_exceptions \
             (user_nid, room_nid, pos, event_nid, thread_nid, action, base) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)";
        Self {
            stream: Bulk::new(STREAM),
            states: Bulk::new(STATE),
            exceptions: Bulk::new(EXCEPTION),
        }
    }

    pub(crate) async fn insert(self, tx: &mut Tx) -> Result<()> {
        self.stream.insert(tx).await?;
        self.states.insert(tx).await?;
        self.exceptions.insert(tx).await
    }
}

/// Writes what of a live event carries its position; what can wait goes to `rows`.
pub(crate) async fn write_live(
    tx: &mut Tx,
    rows: &mut LiveRows,
    room: RoomNid,
    event: &NewEvent,
    live: &Live,
    pos: Position,
) -> Result<()> {
    let thread_seq = match live.thread {
        Some(root) => write_thread(tx, room, root, event, live, pos).await?,
        None => 0,
    };
    let thread = live.thread.map(|root| root.0);
    rows.stream.row([
        pos.into(),
        room.0.into(),
        event.nid.0.into(),
        event.sender.0.into(),
        i64::from(live.outcome).into(),
        live.notif_seq.into(),
        live.unthreaded_seq.into(),
        live.highlight_seq.into(),
        thread.into(),
        thread_seq.into(),
    ]);
    tx.touch(Stream::Events, Touch::Room(room), pos);
    if let Some(state) = live.state {
        rows.states.row([room.0.into(), pos.into(), state.0.into()]);
    }
    for member in &live.members {
        write_member(tx, room, member, pos).await?;
        tx.touch(Stream::Events, Touch::User(member.user), pos);
    }
    for (user, outcome) in &live.user_outcomes {
        rows.exceptions.row([
            user.0.into(),
            room.0.into(),
            pos.into(),
            event.nid.0.into(),
            thread.into(),
            i64::from(*outcome).into(),
            i64::from(live.outcome).into(),
        ]);
    }
    Ok(())
}

/// Counts an event in its thread and returns the thread's notifying events so far.
async fn write_thread(
    tx: &mut Tx,
    room: RoomNid,
    root: EventNid,
    event: &NewEvent,
    live: &Live,
    pos: Position,
) -> Result<i64> {
    // A reply counts and becomes the latest; a reaction or an edit in the thread does neither.
    const REPLY: &str = "INSERT INTO threads \
         (room_nid, root_nid, latest_nid, latest_pos, count, notif_seq) \
         VALUES ($1, $2, $3, $4, 1, $5) ON CONFLICT (room_nid, root_nid) DO UPDATE SET \
         latest_nid = $3, latest_pos = $4, count = threads.count + 1, \
         notif_seq = threads.notif_seq + $5 RETURNING notif_seq";
    const OTHER: &str = "UPDATE threads SET notif_seq = notif_seq + $3 \
         WHERE room_nid = $1 AND root_nid = $2 RETURNING notif_seq";
    const PARTICIPANT: &str = "INSERT INTO thread_participants (root_nid, user_nid) \
         VALUES ($1, $2) ON CONFLICT (root_nid, user_nid) DO NOTHING";
    let notifies = i64::from(live.outcome.notifies());
    let is_reply = event.relation.as_ref().is_some_and(|relation| relation.rel_type == "m.thread");
    if !is_reply {
        let seq: Option<i64> = run!(tx, |c| sql::query_scalar(OTHER)
            .bind(room.0)
            .bind(root.0)
            .bind(notifies)
            .fetch_optional(c))?;
        return Ok(seq.unwrap_or(0));
    }
    execute!(tx, sql::query(PARTICIPANT).bind(root.0).bind(event.sender.0))?;
    run!(tx, |c| sql::query_scalar(REPLY)
        .bind(room.0)
        .bind(root.0)
        .bind(event.nid.0)
        .bind(pos)
        .bind(notifies)
        .fetch_one(c))
}

async fn write_member(tx: &mut Tx, room: RoomNid, member: &NewMember, pos: Position) -> Result<()> {
    const MEMBER: &str = "INSERT INTO room_members (room_nid, user_nid, membership, event_nid, \
         sender_nid, pos, forgotten, display_name, avatar_url) \
         VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8) \
         ON CONFLICT (room_nid, user_nid) DO UPDATE SET membership = $3, event_nid = $4, \
         sender_nid = $5, forgotten = 0, display_name = $7, avatar_url = $8, \
         pos = CASE WHEN room_members.membership = $3 THEN room_members.pos ELSE $6 END";
    const LOG: &str = "INSERT INTO member_log (user_nid, pos, room_nid, membership, event_nid) \
         VALUES ($1, $2, $3, $4, $5)";
    execute!(
        tx,
        sql::query(MEMBER)
            .bind(room.0)
            .bind(member.user.0)
            .bind(member.membership as i64)
            .bind(member.event.0)
            .bind(member.sender.0)
            .bind(pos)
            .bind(member.display_name.clone())
            .bind(member.avatar_url.clone())
    )?;
    execute!(
        tx,
        sql::query(LOG)
            .bind(member.user.0)
            .bind(pos)
            .bind(room.0)
            .bind(member.membership as i64)
            .bind(member.event.0)
    )?;
    Ok(())
}

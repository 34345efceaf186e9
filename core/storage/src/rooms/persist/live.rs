//! The rows of a live event that carry its position: its place in the stream, in its thread, in the
//! log of the current state, and the memberships that became current with it.

use colonnade_model::{
    nid::{EventNid, RoomNid, UserNid},
    ruma::OwnedServerName,
    stream::{Position, Stream, Touch},
};

use super::batch::{Live, NewEvent, NewMember};
use crate::{
    Tx,
    database::{Bulk, Cell, sql},
    error::Result,
    federation::positions,
    keys::remote_devices,
    rooms::stripped,
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
    write_members(tx, room, &live.members, pos).await?;
    // Whether his server told everything meanwhile depends on where he and we were.
    let moved: Vec<UserNid> = live.members.iter().map(|member| member.user).collect();
    remote_devices::doubt(tx, &moved).await?;
    for member in &live.members {
        tx.touch(Stream::Events, Touch::User(member.user), pos);
    }
    write_servers(tx, room, &live.servers, pos).await?;
    if let Some(server) = &live.ends_at {
        positions::note_end(tx, server.as_str(), pos).await?;
    }
    if let Some((user, shown)) = &live.stripped {
        stripped::put(tx, room, *user, shown).await?;
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

/// Writes the memberships that became current with one event; a user is named once.
async fn write_members(
    tx: &mut Tx,
    room: RoomNid,
    members: &[NewMember],
    pos: Position,
) -> Result<()> {
    const MEMBER: &str = "INSERT INTO room_members (room_nid, user_nid, membership, event_nid, \
         sender_nid, pos, forgotten, display_name, avatar_url) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (room_nid, user_nid) DO UPDATE SET membership = excluded.membership, \
         event_nid = excluded.event_nid, sender_nid = excluded.sender_nid, forgotten = 0, \
         display_name = excluded.display_name, avatar_url = excluded.avatar_url, \
         pos = CASE WHEN room_members.membership = excluded.membership \
             THEN room_members.pos ELSE excluded.pos END";
    const LOG: &str = "INSERT INTO member_log (user_nid, pos, room_nid, membership, event_nid) \
         VALUES ($1, $2, $3, $4, $5)";
    let (mut rows, mut log) = (Bulk::new(MEMBER), Bulk::new(LOG));
    for member in members {
        let membership = member.membership as i64;
        rows.row([
            room.0.into(),
            member.user.0.into(),
            membership.into(),
            member.event.0.into(),
            member.sender.0.into(),
            pos.into(),
            0.into(),
            Cell::Text(member.display_name.clone()),
            Cell::Text(member.avatar_url.clone()),
        ]);
        let event = member.event.0.into();
        log.row([member.user.0.into(), pos.into(), room.0.into(), membership.into(), event]);
    }
    rows.insert(tx).await?;
    log.insert(tx).await
}

/// Counts the joined members of other servers.
async fn write_servers(
    tx: &mut Tx,
    room: RoomNid,
    servers: &[(OwnedServerName, i64)],
    pos: Position,
) -> Result<()> {
    const SERVER: &str = "INSERT INTO room_servers (room_nid, server, joined, left_pos) \
         VALUES ($1, $2, $3, NULL) ON CONFLICT (room_nid, server) DO UPDATE SET \
         joined = room_servers.joined + $3, \
         left_pos = CASE WHEN room_servers.joined + $3 > 0 THEN NULL ELSE CAST($4 AS BIGINT) END";
    for (server, by) in servers {
        let server = server.to_string();
        execute!(tx, sql::query(SERVER).bind(room.0).bind(server.clone()).bind(*by).bind(pos))?;
        if *by > 0 {
            // It knows what is before: by the state that it gave, or was given.
            positions::begin(tx, &server, Stream::Events, pos).await?;
            positions::begin_now(tx, &server, Stream::Receipts).await?;
            positions::begin_now(tx, &server, Stream::DeviceLists).await?;
        }
    }
    Ok(())
}

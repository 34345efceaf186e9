//! Writing events: everything that must be true together when a room moves on, in one transaction.
//!
//! Order inside the transaction:
//! 1. The fence: this process still owns the rooms.
//! 2. Rows that carry no position: rooms, states, events, relations, redactions, transaction ids.
//! 3. The seal, then the rows that carry a position. From here to COMMIT other writers wait.
//! 4. What the batches demand of all rooms together (`persist/demands.rs`).
//!
//! Nothing is decided here; whoever makes a [`Batch`] has decided.

use std::sync::Arc;

use colonnade_model::{
    nid::{EventNid, RoomNid},
    stream::{Position, Stream, Touch},
};

mod batch;
mod demands;
mod live;

pub use self::batch::{
    Batch, Demand, Live, NewAlias, NewEvent, NewMember, NewRoom, Redaction, Relation,
};
use self::live::{LiveRows, write_live};
use crate::{
    Tx,
    database::{Bulk, Cell, sql},
    error::{Result, StorageError},
    keys::remote_devices,
    ownership::{Ownership, OwnershipEpoch, fence},
    rooms::{
        client_txns::ClientTxn,
        directory,
        events::EventFlags,
        heads::{self, Head},
        members::Membership,
        search, state,
        summaries::{self},
        unread, varints,
    },
};

/// Where the live events of a batch went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persisted {
    /// The room.
    pub room: RoomNid,
    /// The positions of the live events, in their order.
    pub positions: Vec<(EventNid, Position)>,
}

/// Writes what many rooms want written: all of it, or nothing.
///
/// # Errors
/// [`Conflict`](crate::StorageError::Conflict) when an event, transaction id, room or alias exists
/// already; [`Full`](crate::StorageError::Full) and [`Dangling`](crate::StorageError::Dangling) when a
/// demand is not met; anything else when the database fails.
pub async fn write(
    tx: &mut Tx,
    ownership: Ownership,
    batches: &[Arc<Batch>],
) -> Result<Vec<Persisted>> {
    let known = batches.iter().filter(|batch| batch.create.is_none());
    let slots: Vec<OwnershipEpoch> =
        known.map(|batch| (batch.slot, batch.ownership_epoch)).collect();
    fence(tx, ownership, &slots).await?;
    for batch in batches {
        write_ground(tx, batch).await?;
    }
    write_events(tx, batches).await?;
    for batch in batches {
        write_consequences(tx, batch).await?;
        demands::hold_aliases(tx, batch).await?;
    }
    let live = batches.iter().flat_map(|batch| &batch.events).filter(|event| event.live.is_some());
    let count = live.count();
    let mut pos = if count > 0 { tx.seal(Stream::Events, count).await? } else { 0 };
    let mut persisted = Vec::with_capacity(batches.len());
    let (mut rows, mut heads) = (LiveRows::new(), Bulk::new(HEAD));
    for batch in batches {
        let mut positions = Vec::with_capacity(batch.events.len());
        for event in &batch.events {
            if let Some(live) = &event.live {
                write_live(tx, &mut rows, batch.room, event, live, pos).await?;
                if let Some(redaction) = &event.redaction {
                    tx.touch(Stream::Events, Touch::Redacted(redaction.target), pos);
                }
                positions.push((event.nid, pos));
                pos += 1;
            }
        }
        if let Some(head) = &batch.head {
            heads.row(head_row(head, positions.last().map(|(_, pos)| *pos)));
        }
        if let Some(summary) = &batch.summary {
            summaries::put(tx, batch.room, summary).await?;
        }
        persisted.push(Persisted { room: batch.room, positions });
    }
    rows.insert(tx).await?;
    heads.insert(tx).await?;
    for batch in batches.iter().filter(|batch| somebody_left(batch)) {
        remote_devices::doubt_if_left(tx, batch.room).await?;
    }
    demands::require(tx, batches).await?;
    Ok(persisted)
}

/// Tells whether somebody of this server left: of other servers' users it is noted that their server has fewer.
fn somebody_left(batch: &Batch) -> bool {
    let live = batch.events.iter().filter_map(|event| event.live.as_ref());
    let live = live.filter(|live| live.servers.is_empty());
    let mut members = live.flat_map(|live| &live.members);
    members.any(|member| member.membership != Membership::Join)
}

/// Writes what events stand on: the room, the states.
async fn write_ground(tx: &mut Tx, batch: &Batch) -> Result<()> {
    if let Some(create) = &batch.create {
        write_room(tx, batch.room, batch.slot, create).await?;
    }
    for new in &batch.states {
        state::insert(tx, batch.room, new).await?;
    }
    Ok(())
}

/// Writes what follows from events and carries no position, in the order of the events.
async fn write_consequences(tx: &mut Tx, batch: &Batch) -> Result<()> {
    for event in &batch.events {
        if let Some(relation) = &event.relation {
            write_relation(tx, event, relation).await?;
        }
        if let Some(redacts) = &event.redacts {
            const REDACTS: &str =
                "INSERT INTO redactions (target_event_id, redaction_nid) VALUES ($1, $2)";
            execute!(tx, sql::query(REDACTS).bind(redacts.clone()).bind(event.nid.0))?;
        }
        if let Some(redaction) = &event.redaction {
            write_redaction(tx, redaction).await?;
            unread::uncount(tx, redaction.target).await?;
        }
    }
    Ok(())
}

async fn write_room(tx: &mut Tx, room: RoomNid, slot: u16, create: &NewRoom) -> Result<()> {
    const ROOM: &str = "INSERT INTO rooms (room_nid, room_id, version, slot, created_ts) \
         VALUES ($1, $2, $3, $4, $5)";
    execute!(
        tx,
        sql::query(ROOM)
            .bind(room.0)
            .bind(create.room_id.clone())
            .bind(create.version.clone())
            .bind(i64::from(slot))
            .bind(create.created_ts)
    )?;
    if let Some(NewAlias { alias, creator, quota }) = &create.alias
        && !directory::insert_alias(tx, alias, room, *creator, *quota).await?
    {
        return Err(StorageError::Conflict(alias.to_string()));
    }
    if let Some((old, tombstone)) = create.replaces {
        heads::insert_successor(tx, old, tombstone, room).await?;
    }
    Ok(())
}

/// Writes the events of all batches, with the transaction ids that name them.
async fn write_events(tx: &mut Tx, batches: &[Arc<Batch>]) -> Result<()> {
    const EVENT: &str = "INSERT INTO events (event_nid, room_nid, event_id, type_nid, sender_nid, \
         skey_nid, depth, origin_ts, received_ts, flags, state_before, state_after, tl, prevs, \
         auths) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    const JSON: &str = "INSERT INTO event_json (event_nid, codec, body) VALUES ($1, $2, $3)";
    const TXN: &str = "INSERT INTO client_txns (device_nid, scope, txn_id, event_nid, ts) \
         VALUES ($1, $2, $3, $4, $5)";
    const MISSING: &str = "INSERT INTO missing_prevs (room_nid, prev_event_id, child_nid) \
         VALUES ($1, $2, $3)";
    let (mut rows, mut bodies, mut txns) = (Bulk::new(EVENT), Bulk::new(JSON), Bulk::new(TXN));
    let mut missing = Bulk::new(MISSING);
    for batch in batches {
        for event in &batch.events {
            for prev in &event.missing_prevs {
                missing.row([batch.room.0.into(), prev.to_string().into(), event.nid.0.into()]);
            }
            if event.history_key.is_some() {
                fill_gap(tx, batch.room, event).await?;
            }
            if event.was_outlier {
                admit_outlier(tx, event).await?;
                continue;
            }
            let newest = event.prevs.iter().chain(&event.auths).max();
            let grows = newest.is_none_or(|newest| *newest < event.nid);
            debug_assert!(grows, "ids grow along the graph");
            rows.row(event_row(batch.room, event));
            bodies.row([event.nid.0.into(), 0.into(), Arc::clone(&event.json).into()]);
            if let Some(ClientTxn { device, scope, txn_id }) = &event.txn {
                txns.row([
                    device.0.into(),
                    scope.clone().into(),
                    txn_id.clone().into(),
                    event.nid.0.into(),
                    event.received_ts.into(),
                ]);
            }
        }
    }
    rows.insert(tx).await?;
    bodies.insert(tx).await?;
    txns.insert(tx).await?;
    missing.insert(tx).await
}

fn timeline_key(event: &NewEvent) -> Option<i64> {
    event.live.as_ref().and_then(|live| live.timeline_key).or(event.history_key)
}

/// Notes that an event of the past is missing no more.
async fn fill_gap(tx: &mut Tx, room: RoomNid, event: &NewEvent) -> Result<()> {
    const FILL: &str = "DELETE FROM missing_prevs WHERE room_nid = $1 AND prev_event_id = $2";
    execute!(tx, sql::query(FILL).bind(room.0).bind(event.event_id.clone())).map(drop)
}

/// Makes an outlier part of its room: its text and what allows it are stored already.
async fn admit_outlier(tx: &mut Tx, event: &NewEvent) -> Result<()> {
    const ADMIT: &str = "UPDATE events SET flags = $2, state_before = $3, state_after = $4, tl = $5, \
         prevs = $6, received_ts = $7 WHERE event_nid = $1";
    execute!(
        tx,
        sql::query(ADMIT)
            .bind(event.nid.0)
            .bind(event.flags.0)
            .bind(event.state_before.map(|state| state.0))
            .bind(event.state_after.map(|state| state.0))
            .bind(timeline_key(event))
            .bind(varints::encode(event.prevs.iter().map(|nid| nid.0)))
            .bind(event.received_ts)
    )
    .map(drop)
}

/// The row of an event, in the order of its columns.
fn event_row(room: RoomNid, event: &NewEvent) -> [Cell; 15] {
    [
        event.nid.0.into(),
        room.0.into(),
        event.event_id.clone().into(),
        event.event_type.0.into(),
        event.sender.0.into(),
        event.state_key_nid.map(|state_key_nid| state_key_nid.0).into(),
        event.depth.into(),
        event.origin_ts.into(),
        event.received_ts.into(),
        event.flags.0.into(),
        event.state_before.map(|state| state.0).into(),
        event.state_after.map(|state| state.0).into(),
        timeline_key(event).into(),
        varints::encode(event.prevs.iter().map(|nid| nid.0)).into(),
        varints::encode(event.auths.iter().map(|nid| nid.0)).into(),
    ]
}

async fn write_relation(tx: &mut Tx, event: &NewEvent, relation: &Relation) -> Result<()> {
    const RELATION: &str = "INSERT INTO relations \
         (parent_nid, rel_type, child_nid, type_nid, sender_nid, key, tl) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)";
    execute!(
        tx,
        sql::query(RELATION)
            .bind(relation.parent.0)
            .bind(relation.rel_type.clone())
            .bind(event.nid.0)
            .bind(event.event_type.0)
            .bind(event.sender.0)
            .bind(relation.key.clone())
            .bind(timeline_key(event))
    )?;
    Ok(())
}

/// Takes out of the redacted event, and of what was counted for it, what redaction removes.
async fn write_redaction(tx: &mut Tx, redaction: &Redaction) -> Result<()> {
    const BODY: &str = "UPDATE event_json SET body = $2, codec = 0 WHERE event_nid = $1";
    const FLAG: &str = "UPDATE events SET flags = flags + $2 WHERE event_nid = $1 \
         AND flags % (2 * $2) < $2";
    const THREAD: &str = "SELECT parent_nid FROM relations \
         WHERE child_nid = $1 AND rel_type = 'm.thread'";
    const RELATIONS: &str = "DELETE FROM relations WHERE child_nid = $1";
    const RECOUNT: &str = "UPDATE threads SET \
         count = (SELECT count(*) FROM relations WHERE parent_nid = $1 AND rel_type = 'm.thread'), \
         latest_nid = COALESCE((SELECT max(child_nid) FROM relations \
             WHERE parent_nid = $1 AND rel_type = 'm.thread'), latest_nid) \
         WHERE root_nid = $1";
    let target = redaction.target.0;
    execute!(tx, sql::query(BODY).bind(target).bind(redaction.json.as_bytes()))?;
    execute!(tx, sql::query(FLAG).bind(target).bind(EventFlags::REDACTED.0))?;
    let thread: Option<i64> =
        run!(tx, |c| sql::query_scalar(THREAD).bind(target).fetch_optional(c))?;
    execute!(tx, sql::query(RELATIONS).bind(target))?;
    search::forget(tx, redaction.target).await?;
    if let Some(root) = thread {
        execute!(tx, sql::query(RECOUNT).bind(root))?;
    }
    Ok(())
}

const HEAD: &str = "INSERT INTO room_heads (room_nid, last_pos, last_tl, state_nid, fwd, \
     depth, joined, invited, notif_seq, main_seq, hl_seq) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
     ON CONFLICT (room_nid) DO UPDATE SET last_pos = excluded.last_pos, \
     last_tl = excluded.last_tl, state_nid = excluded.state_nid, fwd = excluded.fwd, \
     depth = excluded.depth, joined = excluded.joined, invited = excluded.invited, \
     notif_seq = excluded.notif_seq, main_seq = excluded.main_seq, hl_seq = excluded.hl_seq";

/// The row of a room's head, in the order of its columns.
fn head_row(head: &Head, last_pos: Option<Position>) -> [Cell; 11] {
    [
        head.room.0.into(),
        last_pos.unwrap_or(head.last_pos).into(),
        head.last_timeline_key.into(),
        head.state.0.into(),
        varints::encode(head.extremities.iter().map(|nid| nid.0)).into(),
        head.depth.into(),
        head.joined.into(),
        head.invited.into(),
        head.notif_seq.into(),
        head.unthreaded_seq.into(),
        head.highlight_seq.into(),
    ]
}

#[cfg(test)]
mod tests;

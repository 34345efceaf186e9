//! The task that sends to a destination, one transaction after the other.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use colonnade_federation::transport::{Request, TransportError};
use colonnade_model::{
    nid::EventNid,
    ruma::ServerName,
    stream::{Position, Stream},
};
use colonnade_replication::slots::Right;
use colonnade_rooms::Result;
use colonnade_storage::{federation::positions, rooms::events::EventFlags};
use serde_json::Value;
use tokio::time::Instant;

use super::{body, destination::Destination, sender::FederationSender};

/// PDUs in a transaction (Matrix v1.19, server-server, "Transactions").
const PDUS_MAX: usize = 50;
/// Events of a destination that is behind, read together: about as many as may wait in memory.
const READ_TOGETHER: i64 = 200;
/// How long a destination without anything to send is kept.
const IDLE: Duration = Duration::from_secs(300);
/// How long a position may be behind in the database: what is sent again after a crash.
const NOTE_EVERY: Duration = Duration::from_secs(5);
/// How long a destination may take for a transaction.
const TRANSACTION: Duration = Duration::from_secs(60);
/// The first pause after an answer that is no success, and the longest: a server that is not reached is left
/// alone for longer by the transport.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Refusals of the same transaction as malformed after which it is given up: it will not get better.
const REFUSALS_MAX: u32 = 3;

/// Returns a destination of this process, with a task that sends to it.
pub(super) fn destination(sender: &Arc<FederationSender>, server: &ServerName) -> Arc<Destination> {
    let mut destinations = sender.destinations.lock();
    if let Some(destination) = destinations.get(server) {
        return Arc::clone(destination);
    }
    let destination = Arc::new(Destination::new(server.to_owned()));
    destinations.insert(server.to_owned(), Arc::clone(&destination));
    tokio::spawn(run(Arc::downgrade(sender), Arc::clone(&destination)));
    destination
}

/// What a task knows of its destination.
struct SendingProgress {
    /// Up to where the destination has everything.
    sent: Position,
    /// What the database says of that, and since when.
    noted: Position,
    noted_at: Instant,
    pause: Duration,
    refusals: u32,
}

/// Sends to a destination as long as this process does, and there is something.
async fn run(sender: Weak<FederationSender>, destination: Arc<Destination>) {
    let mut progress: Option<SendingProgress> = None;
    loop {
        let Some(alive) = sender.upgrade() else { return };
        let Some(right) = alive.right(&destination.server) else {
            return leave(&alive, &destination);
        };
        let sent = send_next(&alive, &destination, &mut progress).await;
        match sent {
            Ok(Attempt::Something) => {}
            Ok(Attempt::Nothing) => {
                let noted = note(&alive, &destination, right, &mut progress, true).await;
                if let Err(error) = noted {
                    tracing::debug!(server = %destination.server, %error, "a position is not noted");
                }
                drop(alive);
                if tokio::time::timeout(IDLE, destination.look.notified()).await.is_err()
                    && let Some(alive) = sender.upgrade()
                    && retire(&alive, &destination)
                {
                    return;
                }
            }
            Ok(Attempt::Later(pause)) => {
                drop(alive);
                let _or_returned =
                    tokio::time::timeout(pause, destination.returned.notified()).await;
            }
            Err(error) => {
                tracing::warn!(server = %destination.server, %error, "cannot send to another server");
                progress = None;
                destination.waiting.lock().is_behind = true;
                drop(alive);
                tokio::time::sleep(PAUSES.0 * 2).await;
            }
        }
        if let Some(alive) = sender.upgrade() {
            let _unless_fenced = note(&alive, &destination, right, &mut progress, false).await;
        }
    }
}

enum Attempt {
    Something,
    Nothing,
    Later(Duration),
}

/// Makes the next transaction and sends it.
async fn send_next(
    sender: &Arc<FederationSender>,
    destination: &Destination,
    progress: &mut Option<SendingProgress>,
) -> Result<Attempt> {
    if progress.is_none() {
        let db = &sender.context.db;
        let stored = positions::get(db, destination.server.as_str(), Stream::Events).await?;
        let first = destination.waiting.lock().events.front().map(|(pos, _)| pos - 1);
        let sent = stored.or(first).unwrap_or_else(|| *sender.fanned_out.lock());
        *progress = Some(SendingProgress {
            sent,
            noted: stored.unwrap_or(0),
            noted_at: Instant::now(),
            pause: PAUSES.0,
            refusals: 0,
        });
    }
    let Some(progress) = progress else { return Ok(Attempt::Nothing) };
    let (upto, events) = next_events(sender, destination, progress.sent).await?;
    if events.is_empty() {
        progress.sent = progress.sent.max(upto);
        let waiting = destination.waiting.lock();
        let more = waiting.is_behind || !waiting.events.is_empty();
        return Ok(if more { Attempt::Something } else { Attempt::Nothing });
    }
    let mut pdus: Vec<Value> = Vec::with_capacity(events.len());
    for event in sender.rooms.events(&events).await? {
        // What the room did not take from its own user is nobody else's.
        let refused = EventFlags::REJECTED.0 | EventFlags::SOFT_FAILED.0 | EventFlags::OUTLIER.0;
        if event.flags.0 & refused == 0 {
            pdus.extend(serde_json::from_str::<Value>(event.event.json()).ok());
        }
    }
    let context = &sender.context;
    let body = body::transaction(&context.server_name, context.now_ms(), pdus, Vec::new());
    let address = format!("/_matrix/federation/v1/send/{}", body.txn_id);
    let request = match Request::put(address, &body.json) {
        Ok(request) => request.within(TRANSACTION),
        Err(error) => {
            tracing::error!(server = %destination.server, %error, "a transaction cannot be written");
            return Ok(Attempt::Later(PAUSES.1));
        }
    };
    match sender.transport.send(&destination.server, request).await {
        Ok(_) => {
            taken(destination, progress, upto);
            Ok(Attempt::Something)
        }
        Err(error) => Ok(refused(sender, destination, progress, upto, &error)),
    }
}

/// Takes note that the destination has everything up to a position.
fn taken(destination: &Destination, progress: &mut SendingProgress, upto: Position) {
    (progress.sent, progress.pause, progress.refusals) = (upto, PAUSES.0, 0);
    let mut waiting = destination.waiting.lock();
    while waiting.events.front().is_some_and(|(pos, _)| *pos <= upto) {
        waiting.events.pop_front();
    }
}

/// Says when to try again after a transaction was not taken.
fn refused(
    sender: &FederationSender,
    destination: &Destination,
    progress: &mut SendingProgress,
    upto: Position,
    error: &TransportError,
) -> Attempt {
    let server = &destination.server;
    tracing::debug!(%server, %error, "a transaction is not taken");
    let pause = progress.pause;
    progress.pause = (pause * 2).min(PAUSES.1);
    match error {
        TransportError::NotReached { until_ms: Some(until_ms), .. } => {
            let left = until_ms.saturating_sub(sender.context.now_ms());
            Attempt::Later(Duration::from_millis(u64::try_from(left).unwrap_or(0)).max(PAUSES.0))
        }
        TransportError::Status { status: 400 | 413, .. } => {
            progress.refusals += 1;
            if progress.refusals >= REFUSALS_MAX {
                tracing::warn!(%server, %error, "a transaction is given up: it is refused as malformed");
                taken(destination, progress, upto);
                return Attempt::Something;
            }
            Attempt::Later(pause)
        }
        TransportError::Status { retry_after_ms: Some(after), .. } => {
            Attempt::Later(Duration::from_millis(*after).clamp(PAUSES.0, PAUSES.1))
        }
        _ => Attempt::Later(pause),
    }
}

/// Returns the next events for a destination, and up to where it has everything once it has them. They wait until
/// they are taken.
async fn next_events(
    sender: &Arc<FederationSender>,
    destination: &Destination,
    after: Position,
) -> Result<(Position, Vec<EventNid>)> {
    let left_out = {
        let mut waiting = destination.waiting.lock();
        waiting.events.retain(|(pos, _)| *pos > after);
        // From here on what is added is kept.
        std::mem::take(&mut waiting.is_behind).then_some(waiting.left_out)
    };
    let complete_upto = match left_out {
        Some(left_out) => {
            let read = read_waiting(sender, destination, after, left_out).await;
            Some(read.inspect_err(|_| destination.waiting.lock().is_behind = true)?)
        }
        None => None,
    };
    let waiting = destination.waiting.lock();
    let ready =
        waiting.events.iter().take_while(|(pos, _)| complete_upto.is_none_or(|upto| *pos <= upto));
    let ready: Vec<(Position, EventNid)> = ready.take(PDUS_MAX).copied().collect();
    let last = ready.last().map_or(after, |(pos, _)| *pos);
    let upto = complete_upto.filter(|_| ready.len() < PDUS_MAX).unwrap_or(last);
    Ok((upto, ready.into_iter().map(|(_, event)| event).collect()))
}

/// Reads what waits for a destination that is behind, and returns up to where that is all. What is in memory
/// stays: it may be of a room that the destination is not in, about a user of it.
async fn read_waiting(
    sender: &FederationSender,
    destination: &Destination,
    after: Position,
    left_out: Position,
) -> Result<Position> {
    let _turn = sender.catching_up.acquire().await;
    let upto = left_out.max(*sender.fanned_out.lock());
    let (db, server) = (&sender.context.db, destination.server.as_str());
    let found = positions::events_for(db, server, after, upto, READ_TOGETHER).await?;
    let is_all = i64::try_from(found.len()).is_ok_and(|count| count < READ_TOGETHER);
    let upto = if is_all { upto } else { found.last().map_or(upto, |event| event.pos) };
    let ours = sender.local(found).await?;
    let mut waiting = destination.waiting.lock();
    let mut all: BTreeMap<Position, EventNid> = waiting.events.drain(..).collect();
    all.extend(ours.into_iter().map(|event| (event.pos, event.event)));
    waiting.events = all.into_iter().collect();
    waiting.is_behind |= !is_all;
    Ok(upto)
}

/// Notes how far the destination is, if that is due.
async fn note(
    sender: &FederationSender,
    destination: &Destination,
    right: Right,
    progress: &mut Option<SendingProgress>,
    is_idle: bool,
) -> Result<()> {
    let Some(progress) = progress else { return Ok(()) };
    let is_due = is_idle || progress.noted_at.elapsed() >= NOTE_EVERY;
    if progress.sent <= progress.noted || !is_due {
        return Ok(());
    }
    let (server, sent) = (destination.server.to_string(), progress.sent);
    let noted = sender.context.db.write(move |tx| {
        Box::pin(async move {
            right.fence(tx).await?;
            positions::put(tx, &server, Stream::Events, sent).await
        })
    });
    noted.await?;
    (progress.noted, progress.noted_at) = (sent, Instant::now());
    Ok(())
}

/// Gives a destination up: another process sends to it.
fn leave(sender: &FederationSender, destination: &Destination) {
    sender.destinations.lock().remove(&destination.server);
}

/// Ends an idle destination, unless something was added meanwhile.
fn retire(sender: &FederationSender, destination: &Destination) -> bool {
    let mut destinations = sender.destinations.lock();
    let waiting = destination.waiting.lock();
    let idle = waiting.events.is_empty() && !waiting.is_behind;
    if idle {
        destinations.remove(&destination.server);
    }
    idle
}

//! The task that sends to a destination, one transaction after the other.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use colonnade_federation::transport::{Request, TransportError};
use colonnade_model::{
    ruma::ServerName,
    stream::{Position, Stream},
};
use colonnade_replication::slots::Right;
use colonnade_rooms::Result;
use colonnade_storage::federation::{outbox, positions};
use tokio::time::Instant;

use super::{
    body,
    destination::{Destination, STREAMS},
    parcel::Parcel,
    sender::FederationSender,
};

/// How long a destination without anything to send is kept.
const IDLE: Duration = Duration::from_secs(300);
/// How long a position may be behind in the database: what is sent again after a crash. Noting it is a row for each
/// destination, so a message to a thousand servers must not bring it about.
const NOTE_EVERY: Duration = Duration::from_secs(10);
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
    /// Up to where the destination has everything, in the order of [`STREAMS`].
    sent: [Position; STREAMS.len()],
    /// What the database says of that, and since when.
    noted: [Position; STREAMS.len()],
    /// Since when it is behind.
    behind_since: Option<Instant>,
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
                drop(alive);
                let behind = progress.as_ref().and_then(|progress| progress.behind_since);
                let idle = behind.map_or(IDLE, |since| NOTE_EVERY.saturating_sub(since.elapsed()));
                if tokio::time::timeout(idle, destination.look.notified()).await.is_err()
                    && behind.is_none()
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
                destination.waiting.lock().all_behind();
                drop(alive);
                tokio::time::sleep(PAUSES.0 * 2).await;
            }
        }
        if let Some(alive) = sender.upgrade() {
            let noted = note(&alive, &destination, right, &mut progress).await;
            if let Err(error) = noted {
                tracing::debug!(server = %destination.server, %error, "a position is not noted");
            }
        }
    }
}

enum Attempt {
    Something,
    Nothing,
    Later(Duration),
}

/// Finds out how far a destination is.
async fn begin(sender: &FederationSender, destination: &Destination) -> Result<SendingProgress> {
    let (mut sent, mut noted) = ([0; STREAMS.len()], [0; STREAMS.len()]);
    for (place, stream) in STREAMS.into_iter().enumerate() {
        let db = &sender.context.db;
        let stored = positions::get(db, destination.server.as_str(), stream).await?;
        let waiting = destination.waiting.lock();
        let first = waiting.queues[place].items.front().map(|(pos, _)| pos - 1);
        sent[place] = stored.or(first).unwrap_or_else(|| sender.fanned_out.lock().get(stream));
        noted[place] = stored.unwrap_or(0);
    }
    let behind_since = None;
    Ok(SendingProgress { sent, noted, behind_since, pause: PAUSES.0, refusals: 0 })
}

/// Makes the next transaction and sends it.
async fn send_next(
    sender: &Arc<FederationSender>,
    destination: &Destination,
    progress: &mut Option<SendingProgress>,
) -> Result<Attempt> {
    let progress = match progress {
        Some(progress) => progress,
        None => progress.insert(begin(sender, destination).await?),
    };
    let mut parcel = Parcel::take(sender, destination, progress.sent).await?;
    if parcel.is_empty() {
        taken(sender, destination, progress, &parcel).await?;
        let more = destination.waiting.lock().is_any();
        return Ok(if more { Attempt::Something } else { Attempt::Nothing });
    }
    let context = &sender.context;
    let (pdus, edus) = (std::mem::take(&mut parcel.pdus), std::mem::take(&mut parcel.edus));
    let body = body::transaction(&context.server_name, context.now_ms(), pdus, edus);
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
            taken(sender, destination, progress, &parcel).await?;
            Ok(Attempt::Something)
        }
        Err(error) => refused(sender, destination, progress, &parcel, &error).await,
    }
}

/// Takes note that the destination has what is in a transaction.
async fn taken(
    sender: &FederationSender,
    destination: &Destination,
    progress: &mut SendingProgress,
    parcel: &Parcel,
) -> Result<()> {
    (progress.pause, progress.refusals) = (PAUSES.0, 0);
    {
        let mut waiting = destination.waiting.lock();
        for (place, upto) in parcel.upto.into_iter().enumerate() {
            progress.sent[place] = progress.sent[place].max(upto);
            let items = &mut waiting.queues[place].items;
            while items.front().is_some_and(|(pos, _)| *pos <= upto) {
                items.pop_front();
            }
        }
    }
    if let Some(upto) = parcel.messages_upto {
        outbox::delivered(&sender.context.db, destination.server.as_str(), upto).await?;
    }
    Ok(())
}

/// Says when to try again after a transaction was not taken.
async fn refused(
    sender: &FederationSender,
    destination: &Destination,
    progress: &mut SendingProgress,
    parcel: &Parcel,
    error: &TransportError,
) -> Result<Attempt> {
    let server = &destination.server;
    tracing::debug!(%server, %error, "a transaction is not taken");
    let pause = progress.pause;
    progress.pause = (pause * 2).min(PAUSES.1);
    if parcel.messages_upto.is_some() {
        destination.has_messages();
    }
    // A server that is not reached is told when it is said again: till then it may be long.
    if !matches!(error, TransportError::NotReached { .. }) {
        destination.shows(&parcel.presence);
    }
    Ok(match error {
        TransportError::NotReached { until_ms: Some(until_ms), .. } => {
            let left = until_ms.saturating_sub(sender.context.now_ms());
            Attempt::Later(Duration::from_millis(u64::try_from(left).unwrap_or(0)).max(PAUSES.0))
        }
        TransportError::Status { status: 400 | 413, .. } => {
            progress.refusals += 1;
            if progress.refusals >= REFUSALS_MAX {
                tracing::warn!(%server, %error, "a transaction is given up: it is refused as malformed");
                taken(sender, destination, progress, parcel).await?;
                return Ok(Attempt::Something);
            }
            Attempt::Later(pause)
        }
        TransportError::Status { retry_after_ms: Some(after), .. } => {
            Attempt::Later(Duration::from_millis(*after).clamp(PAUSES.0, PAUSES.1))
        }
        _ => Attempt::Later(pause),
    })
}

/// Notes how far the destination is, if that is due.
async fn note(
    sender: &FederationSender,
    destination: &Destination,
    right: Right,
    progress: &mut Option<SendingProgress>,
) -> Result<()> {
    let Some(progress) = progress else { return Ok(()) };
    if progress.sent == progress.noted {
        return Ok(());
    }
    let since = *progress.behind_since.get_or_insert_with(Instant::now);
    if since.elapsed() < NOTE_EVERY {
        return Ok(());
    }
    // If it fails, it is tried again when as much time has passed.
    progress.behind_since = Some(Instant::now());
    let (server, sent, noted) = (destination.server.to_string(), progress.sent, progress.noted);
    let write = sender.context.db.write(move |tx| {
        Box::pin(async move {
            right.fence(tx).await?;
            for (place, stream) in STREAMS.into_iter().enumerate() {
                if sent[place] > noted[place] {
                    if stream == Stream::Events {
                        positions::forget_ends(tx, &server, sent[place]).await?;
                    }
                    positions::put(tx, &server, stream, sent[place]).await?;
                }
            }
            Ok(())
        })
    });
    write.await?;
    (progress.noted, progress.behind_since) = (sent, None);
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
    let idle = !waiting.is_any();
    if idle {
        destinations.remove(&destination.server);
    }
    idle
}

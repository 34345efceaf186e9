//! The task that tells a pusher's gateway, one request after the other.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use colonnade_federation::transport::{FetchBounds, TransportError};
use colonnade_model::stream::Position;
use colonnade_rooms::Result;
use colonnade_storage::{
    delivery::{push, pushers},
    rooms::{
        members::{self, Membership},
        receipts,
    },
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    figures::PushFigures,
    message,
    pusher::{Notification, Pusher},
    sender::PushSender,
    unread,
};

/// How long a gateway may take, and how much of its answer is read.
const BOUNDS: FetchBounds = FetchBounds { within: Duration::from_secs(30), bytes_max: 64 * 1024 };
/// The first pause after a gateway did not take something, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10 * 60));
/// How long a notification is tried, in milliseconds: later nobody wants to be woken by it.
const TRIED_MS_MAX: i64 = 24 * 60 * 60 * 1_000;

/// What is next for a pusher.
enum NextPush {
    Notification(Arc<Notification>),
    Badge,
}

/// What a gateway answers.
#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    rejected: Vec<String>,
}

/// Begins to tell what waits.
pub(super) fn start(sender: &Arc<PushSender>, pusher: &Arc<Pusher>) {
    tokio::spawn(run(Arc::downgrade(sender), Arc::clone(pusher)));
}

async fn run(sender: Weak<PushSender>, pusher: Arc<Pusher>) {
    let mut pause = PAUSES.0;
    loop {
        let Some(alive) = sender.upgrade() else { return };
        if pusher.is_ended() || alive.right(pusher.shard).is_none() {
            return leave(&pusher);
        }
        let Some(next) = next(&pusher) else { return };
        let done = tell(&alive, &pusher, &next).await;
        drop(alive);
        let wait = match done {
            Ok(None) => {
                pause = PAUSES.0;
                continue;
            }
            Ok(Some(wait)) => wait.max(pause),
            Err(error) => {
                tracing::warn!(user = pusher.key.user.0, %error, "a pusher is not told");
                pause
            }
        };
        pause = (pause * 2).min(PAUSES.1);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = pusher.ended.notified() => {}
        }
    }
}

/// Returns what is next; without anything the task ends.
fn next(pusher: &Pusher) -> Option<NextPush> {
    let mut waiting = pusher.waiting.lock();
    if let Some(first) = waiting.queue.front() {
        return Some(NextPush::Notification(Arc::clone(first)));
    }
    if std::mem::take(&mut waiting.badge_is_due) {
        return Some(NextPush::Badge);
    }
    waiting.is_sending = false;
    None
}

/// Leaves what waits to whoever sends it next, which reads it again: another process, or this one.
fn leave(pusher: &Pusher) {
    pusher.end();
    let mut waiting = pusher.waiting.lock();
    waiting.queue.clear();
    waiting.is_sending = false;
}

/// Tells a gateway what is next. Returns how long to wait when it did not take it.
async fn tell(
    sender: &Arc<PushSender>,
    pusher: &Pusher,
    next: &NextPush,
) -> Result<Option<Duration>> {
    let key = &pusher.key;
    let (unread, body) = match next {
        NextPush::Badge => {
            let unread = unread::in_all_rooms(sender, key.user, None).await?;
            if pusher.waiting.lock().told_unread == unread {
                return Ok(None);
            }
            (unread, message::of_badge(pusher, unread))
        }
        NextPush::Notification(notification) => {
            if !is_due(sender, pusher, notification).await? {
                drop_first(pusher);
                return Ok(None);
            }
            let unread = unread::in_all_rooms(sender, key.user, Some(notification.room)).await?;
            (unread, message::of_event(sender, pusher, notification, unread).await?)
        }
    };
    match post(sender, pusher, &body).await {
        Ok(answer) if answer.rejected.contains(&key.pushkey) => {
            reject(sender, pusher).await?;
            Ok(None)
        }
        Ok(_) => {
            PushFigures::count(&sender.figures.sent);
            pusher.waiting.lock().told_unread = unread;
            let pos = match next {
                NextPush::Notification(notification) => Some(notification.pos),
                NextPush::Badge => None,
            };
            note_told(sender, pusher, pos, unread).await?;
            if pos.is_some() {
                drop_first(pusher);
            }
            Ok(None)
        }
        Err(error) => {
            PushFigures::count(&sender.figures.failed);
            tracing::debug!(user = key.user.0, app_id = key.app_id, %error, "a gateway fails");
            if let NextPush::Notification(notification) = next {
                note_failing(sender, pusher, notification, &error).await?;
            } else {
                pusher.waiting.lock().badge_is_due = true;
            }
            let later = match &error {
                TransportError::Status { retry_after_ms: Some(ms), .. } => {
                    Duration::from_millis(*ms)
                }
                _ => Duration::ZERO,
            };
            Ok(Some(later.min(PAUSES.1)))
        }
    }
}

/// Tells whether a user is still to be told: it was not read meanwhile, and not tried for too long.
async fn is_due(sender: &PushSender, pusher: &Pusher, notification: &Notification) -> Result<bool> {
    let (db, user) = (&sender.context.db, pusher.key.user);
    let since = pusher.failing_since_ms.load(Ordering::Relaxed);
    if since > 0 && sender.context.now_ms() - since > TRIED_MS_MAX {
        let sent_ts = i64::from(notification.event.event.origin_server_ts().0);
        if sender.context.now_ms() - sent_ts > TRIED_MS_MAX {
            PushFigures::count(&sender.figures.left_out);
            return Ok(false);
        }
    }
    let member = members::get(db, notification.room, user).await?;
    let membership = member.map(|member| member.membership);
    if notification.is_invite {
        return Ok(membership == Some(Membership::Invite));
    }
    if membership != Some(Membership::Join) {
        return Ok(false);
    }
    let thread = match notification.event.thread {
        Some(root) => sender.rooms.event(root).await?.map(|root| root.event.event_id().to_string()),
        None => Some("main".to_owned()),
    };
    let read = receipts::read_upto(db, notification.room, user).await?;
    let is_read = read.iter().any(|(of, upto)| {
        *upto >= notification.pos && (of.is_empty() || Some(of) == thread.as_ref())
    });
    Ok(!is_read)
}

async fn post(
    sender: &PushSender,
    pusher: &Pusher,
    body: &Value,
) -> Result<Answer, TransportError> {
    let nowhere = || TransportError::Refused("its address is none".to_owned());
    let gateway = pusher.gateway.as_ref().ok_or_else(nowhere)?;
    let turn = sender.turns.acquire().await;
    let _turn = turn.map_err(|_| TransportError::Refused("the process stops".to_owned()))?;
    let response = sender.web.post_json(gateway, body.to_string().into_bytes(), BOUNDS).await?;
    // Whatever else a gateway says, it took it.
    Ok(response.json().await.unwrap_or_default())
}

fn drop_first(pusher: &Pusher) {
    pusher.waiting.lock().queue.pop_front();
}

async fn note_told(
    sender: &PushSender,
    pusher: &Pusher,
    pos: Option<Position>,
    unread: i64,
) -> Result<()> {
    let Some(right) = sender.right(pusher.shard) else { return Ok(()) };
    let key = pusher.key.clone();
    let told = sender.context.db.write(move |tx| {
        Box::pin(async move {
            right.fence(tx).await?;
            push::told(tx, key, pos, unread).await
        })
    });
    told.await?;
    pusher.failing_since_ms.store(0, Ordering::Relaxed);
    Ok(())
}

/// Notes since when a gateway fails, so that the others of its shard go on.
async fn note_failing(
    sender: &PushSender,
    pusher: &Pusher,
    notification: &Notification,
    error: &TransportError,
) -> Result<()> {
    if pusher.failing_since_ms.load(Ordering::Relaxed) > 0 {
        return Ok(());
    }
    let Some(right) = sender.right(pusher.shard) else { return Ok(()) };
    let app_id = &pusher.key.app_id;
    tracing::info!(user = pusher.key.user.0, app_id, %error, "a push gateway is not reached");
    let (key, pos, now_ms) = (pusher.key.clone(), notification.pos - 1, sender.context.now_ms());
    let failing = sender.context.db.write(move |tx| {
        Box::pin(async move {
            right.fence(tx).await?;
            push::failing(tx, key, pos, now_ms).await
        })
    });
    failing.await?;
    pusher.failing_since_ms.store(now_ms, Ordering::Relaxed);
    Ok(())
}

/// Deletes a pusher that its gateway does not know any more.
///
/// Source: Matrix v1.19, push gateway API, `rejected`.
async fn reject(sender: &PushSender, pusher: &Pusher) -> Result<()> {
    let Some(right) = sender.right(pusher.shard) else { return Ok(()) };
    let key = pusher.key.clone();
    let app_id = &pusher.key.app_id;
    tracing::info!(user = key.user.0, app_id, "a gateway does not know a pusher any more");
    let delete = sender.context.db.write(move |tx| {
        Box::pin(async move {
            right.fence(tx).await?;
            pushers::delete(tx, key.user, key.app_id, key.pushkey).await
        })
    });
    delete.await?;
    PushFigures::count(&sender.figures.rejected);
    pusher.end();
    Ok(())
}

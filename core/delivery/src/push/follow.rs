//! Reading the streams for all pushers of this process.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use colonnade_model::{
    nid::UserNid,
    ruma::OwnedUserId,
    stream::{Position, Stream},
};
use colonnade_replication::slots::Right;
use colonnade_rooms::Result;
use colonnade_storage::delivery::push;
use tokio::time::Instant;

use super::{
    changes::Again,
    events::{page, readers},
    progress::Following,
    sender::{PushSender, SHARDS, shard_of},
    take_over::{begin_of, take_over},
    users::read,
};

/// The pause after the database failed.
const RETRY: Duration = Duration::from_secs(2);
/// How often it is looked whose shards are whose.
const LOOK: Duration = Duration::from_secs(30);
/// How long the positions of shards may be behind in the database: what is looked at again after a crash.
const NOTE_EVERY: Duration = Duration::from_secs(5);

/// Follows the streams as long as the sender lives.
pub(super) async fn run(sender: Weak<PushSender>) {
    let mut following: Option<Following> = None;
    loop {
        let Some(alive) = sender.upgrade() else { return };
        if let Err(error) = step(&alive, &mut following).await {
            tracing::warn!(%error, "cannot look for what push gateways are to be told");
            following = None;
            drop(alive);
            tokio::time::sleep(RETRY).await;
            continue;
        }
        let (positions, changes) = (Arc::clone(&alive.positions), Arc::clone(&alive.changes));
        let slots = Arc::clone(&alive.context.slots);
        drop(alive);
        let Some(now) = &following else { continue };
        let (events, receipts) = (now.events, now.receipts);
        let further = positions.when(|positions| {
            positions.get(Stream::Events) > events || positions.get(Stream::Receipts) > receipts
        });
        let behind = now.noted.values().any(|noted| *noted < events);
        let pause = if behind { NOTE_EVERY } else { LOOK };
        tokio::select! {
            _further = further => {}
            () = changes.more() => {}
            // Whoever owned some shards may be gone.
            _ = slots.changed(now.epoch, pause) => {}
        }
    }
}

/// Does what there is to do now.
async fn step(sender: &Arc<PushSender>, following: &mut Option<Following>) -> Result<()> {
    let epoch = sender.context.slots.map().epoch;
    let again = sender.changes.take();
    let before = following.take();
    let mut now = match (before, again) {
        (Some(before), Again::These(users)) if before.epoch == epoch => {
            look_again(sender, &before, users).await?;
            before
        }
        (before, _) => take_over(sender, epoch, before).await?,
    };
    let upto = sender.positions.get();
    if now.shards.is_empty() {
        now.events = upto.get(Stream::Events);
        now.receipts = upto.get(Stream::Receipts);
        *following = Some(now);
        return Ok(());
    }
    while now.events < upto.get(Stream::Events) {
        now.events = page(sender, (now.events, upto.get(Stream::Events))).await?;
    }
    while now.receipts < upto.get(Stream::Receipts) {
        now.receipts = readers(sender, (now.receipts, upto.get(Stream::Receipts))).await?;
    }
    note(sender, &mut now).await?;
    *following = Some(now);
    Ok(())
}

/// Looks again at users whose pushers, rules or rooms may have changed.
async fn look_again(sender: &Arc<PushSender>, now: &Following, users: Vec<UserNid>) -> Result<()> {
    if users.is_empty() || now.shards.is_empty() {
        return Ok(());
    }
    let names = sender.context.interned.user_ids(&users).await?;
    let ours = users.into_iter().zip(names);
    let ours: Vec<(UserNid, OwnedUserId)> =
        ours.filter(|(_, name)| now.shards.contains_key(&shard_of(name))).collect();
    read(sender, &ours, |_, stored| begin_of(stored, 0, now.events)).await
}

/// Notes up to where the pushers of each shard were told, from time to time.
async fn note(sender: &Arc<PushSender>, now: &mut Following) -> Result<()> {
    if now.noted_at.elapsed() < NOTE_EVERY {
        return Ok(());
    }
    let mut told: HashMap<i64, Position> = now.shards.keys().map(|n| (*n, now.events)).collect();
    for pusher in sender.index.lock().all() {
        if pusher.failing_since_ms.load(Ordering::Relaxed) > 0 {
            continue;
        }
        let first = pusher.waiting.lock().queue.front().map(|first| first.pos - 1);
        if let (Some(first), Some(told)) = (first, told.get_mut(&pusher.shard)) {
            *told = (*told).min(first);
        }
    }
    let changed: Vec<(i64, Position, Right)> = (0..SHARDS)
        .filter_map(|shard| {
            let (pos, right) = (*told.get(&shard)?, *now.shards.get(&shard)?);
            let is_further = now.noted.get(&shard).is_none_or(|noted| *noted < pos);
            is_further.then_some((shard, pos, right))
        })
        .collect();
    now.noted_at = Instant::now();
    for (shard, pos, right) in changed {
        let noted = sender.context.db.write(move |tx| {
            Box::pin(async move {
                right.fence(tx).await?;
                push::put_position(tx, shard, pos).await
            })
        });
        noted.await?;
        now.noted.insert(shard, pos);
    }
    Ok(())
}

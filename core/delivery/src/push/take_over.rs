//! Beginning with the shards that are this process's, where their last owner ended.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use colonnade_model::{
    nid::UserNid,
    ruma::OwnedUserId,
    stream::{Position, Stream},
};
use colonnade_replication::slots::Right;
use colonnade_rooms::Result;
use colonnade_storage::delivery::push::{self, StoredPusher};
use tokio::time::Instant;

use super::{
    events::page,
    progress::Following,
    sender::{PushSender, SHARDS, shard_of},
    users::read,
};

/// Users read together.
const USERS_TOGETHER: i64 = 1_000;
/// Positions of the events stream that are looked at again at most: half an hour of a large server. Whatever a gateway
/// has not taken for longer, its user finds in the rooms.
const CATCH_UP_MAX: Position = 50_000;

/// Returns after which position events are for a pusher, of a shard that was told up to `shard_upto`. One that an older
/// version stored, and that has no position, hears of what comes after `now`.
pub(super) fn begin_of(stored: &StoredPusher, shard_upto: Position, now: Position) -> Position {
    let upto = match stored.failing_since_ms {
        0 => stored.told_pos.max(shard_upto),
        _ => stored.told_pos,
    };
    if upto == 0 { now } else { upto }
}

/// Begins with the shards that are ours now; those that were stay as they are. Without `before`, as after a failure, it
/// is not known what was handed out: all is read again from where the database says.
pub(super) async fn take_over(
    sender: &Arc<PushSender>,
    epoch: i64,
    before: Option<Following>,
) -> Result<Following> {
    let db = &sender.context.db;
    let now = sender.positions.get();
    let (events, receipts) = match &before {
        Some(before) => (before.events, before.receipts),
        None => {
            sender.index.lock().keep(&HashSet::new());
            sender.badges.clear();
            (now.get(Stream::Events), now.get(Stream::Receipts))
        }
    };
    let shards: HashMap<i64, Right> =
        (0..SHARDS).filter_map(|shard| Some((shard, sender.right(shard)?))).collect();
    let mut noted: HashMap<i64, Position> = push::positions(db).await?.into_iter().collect();
    // What is known was handed out up to here.
    for pusher in sender.index.lock().all() {
        pusher.begin_at(events);
    }
    let mut after = UserNid(0);
    let mut users: Vec<(UserNid, OwnedUserId)> = Vec::new();
    loop {
        let some = push::users(db, after, USERS_TOGETHER).await?;
        let Some(last) = some.last() else { break };
        after = *last;
        let names = sender.context.interned.user_ids(&some).await?;
        let with_names = some.into_iter().zip(names);
        users.extend(with_names.filter(|(_, name)| shards.contains_key(&shard_of(name))));
    }
    let ours: HashSet<UserNid> = users.iter().map(|(user, _)| *user).collect();
    sender.index.lock().keep(&ours);
    for some in users.chunks(USERS_TOGETHER as usize) {
        let begin = |shard, stored: &StoredPusher| {
            begin_of(stored, noted.get(&shard).copied().unwrap_or(0), events)
        };
        read(sender, some, begin).await?;
    }
    let first = sender.index.lock().all().map(|pusher| pusher.begin()).min().unwrap_or(events);
    let mut reached = first.max(events - CATCH_UP_MAX);
    while reached < events {
        reached = page(sender, (reached, events)).await?;
    }
    noted.retain(|shard, _| shards.contains_key(shard));
    let failing =
        |pusher: &&Arc<super::pusher::Pusher>| pusher.failing_since_ms.load(Ordering::Relaxed) > 0;
    let failing = sender.index.lock().all().filter(failing).count();
    tracing::debug!(shards = shards.len(), users = ours.len(), failing, "pushers are ours");
    Ok(Following { epoch, shards, events, receipts, noted, noted_at: Instant::now() })
}

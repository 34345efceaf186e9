//! Telling other servers who types here. It lives in memory, as who types does: what is not told in time is not
//! told at all. Every process hears of everybody, and tells the destinations that are its own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use colonnade_model::{
    nid::RoomNid,
    ruma::OwnedUserId,
    stream::{Position, Stream},
};
use colonnade_rooms::Result;
use colonnade_storage::rooms::servers;
use tokio::time::Instant;

use super::{sender::FederationSender, sending};

/// After how long it is said again that a user types: servers in use believe it for a minute.
const SAY_AGAIN: Duration = Duration::from_secs(30);
/// How often is looked who has to be told again.
const LOOK: Duration = Duration::from_secs(5);

/// Who other servers were told is typing in a room, and when.
type Told = HashMap<RoomNid, HashMap<OwnedUserId, Instant>>;

/// Tells as long as the sender lives.
pub(super) async fn run(sender: Weak<FederationSender>) {
    let mut told = Told::new();
    let mut seen: Option<Position> = None;
    loop {
        let Some(alive) = sender.upgrade() else { return };
        let upto = alive.positions.get().get(Stream::Typing);
        let changed = seen.map(|seen| alive.typing.changed_rooms(seen)).unwrap_or_default();
        let news = news(&alive, &mut told, changed);
        if let Err(error) = tell(&alive, news).await {
            tracing::debug!(%error, "other servers are not told who types");
        }
        seen = Some(upto);
        let positions = Arc::clone(&alive.positions);
        drop(alive);
        let further = positions.when(|positions| positions.get(Stream::Typing) > upto);
        let _or_look = tokio::time::timeout(LOOK, further).await;
    }
}

/// What is to be told of a room: who types, or stopped.
type News = BTreeMap<RoomNid, Vec<(OwnedUserId, bool)>>;

/// Compares who types with what was told.
fn news(
    sender: &FederationSender,
    told: &mut Told,
    changed: Vec<(RoomNid, Vec<OwnedUserId>)>,
) -> News {
    let now = Instant::now();
    let mut news = News::new();
    for (room, typists) in changed {
        let ours = |user: &&OwnedUserId| user.server_name() == sender.context.server_name;
        let ours: Vec<&OwnedUserId> = typists.iter().filter(ours).collect();
        let before = told.entry(room).or_default();
        before.retain(|user, _| {
            let still = ours.contains(&user);
            if !still {
                news.entry(room).or_default().push((user.clone(), false));
            }
            still
        });
        for user in ours {
            if !before.contains_key(user) {
                before.insert(user.clone(), now);
                news.entry(room).or_default().push((user.clone(), true));
            }
        }
    }
    told.retain(|_, users| !users.is_empty());
    for (room, users) in told.iter_mut() {
        for (user, at) in users.iter_mut().filter(|(_, at)| at.elapsed() >= SAY_AGAIN) {
            *at = now;
            news.entry(*room).or_default().push((user.clone(), true));
        }
    }
    news
}

async fn tell(sender: &Arc<FederationSender>, news: News) -> Result<()> {
    if news.is_empty() {
        return Ok(());
    }
    let rooms: Vec<RoomNid> = news.keys().copied().collect();
    for other in servers::of_rooms(&sender.context.db, &rooms).await? {
        if other.joined <= 0 || sender.right(&other.server).is_none() {
            continue;
        }
        let room_id = sender.rooms.room(other.room).await?.room_id.clone();
        let destination = sending::destination(sender, &other.server);
        for (user, is_typing) in news.get(&other.room).into_iter().flatten() {
            destination.types(&room_id, user, *is_typing);
        }
        destination.look();
    }
    Ok(())
}

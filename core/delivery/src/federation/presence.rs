//! Telling other servers who is here: what changes, whom a server comes to share a room with, and all of it again
//! before they take it for old. It lives in memory, as presence does, and nothing of it is kept: a destination
//! has the names of those it is to be told of, and what it is told is as of the moment when it is sent. Every
//! process hears of everybody, and tells the destinations that are its own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use colonnade_model::{
    nid::{RoomNid, UserNid},
    ruma::OwnedServerName,
    stream::{Position, Stream},
};
use colonnade_rooms::Result;
use colonnade_storage::{federation::outgoing_changes, rooms::servers, users::presence as rows};
use tokio::time::Instant;

use super::{sender::FederationSender, sending};

/// After how long it is said again who is here: servers in use believe it for half an hour.
const SAY_AGAIN: Duration = Duration::from_secs(25 * 60);
/// How often is looked of whom that is due.
const LOOK: Duration = Duration::from_secs(30);
/// Users whose servers are looked for together: each may be in rooms with thousands.
const TOGETHER: usize = 50;
/// How long what changes is gathered.
const STEP: Duration = Duration::from_millis(200);

/// Of whom other servers were told that he is here, and when.
type Told = HashMap<UserNid, Instant>;

/// Tells as long as the sender lives.
pub(super) async fn run(sender: Weak<FederationSender>) {
    let mut told = Told::new();
    let mut seen: Option<Position> = None;
    let mut looked = Instant::now();
    loop {
        let Some(alive) = sender.upgrade() else { return };
        let upto = alive.positions.get().get(Stream::Presence);
        let mut news = seen.map(|seen| alive.presence.own_since(seen)).unwrap_or_default();
        let now = Instant::now();
        told.extend(news.iter().map(|user| (*user, now)));
        if looked.elapsed() >= LOOK {
            looked = now;
            news.extend(due_again(&alive, &mut told));
        }
        if let Err(error) = tell_all(&alive, &news).await {
            tracing::debug!(%error, "other servers are not told who is here");
        }
        seen = Some(upto);
        let (positions, moves) = (Arc::clone(&alive.positions), Arc::clone(&alive.moves));
        drop(alive);
        tokio::select! {
            _ = positions.when(|positions| positions.get(Stream::Presence) > upto) => {}
            () = moves.more() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Returns those of whom it is to be said again that they are here, and notes that it is.
fn due_again(sender: &FederationSender, told: &mut Told) -> Vec<UserNid> {
    let now = Instant::now();
    let present = sender.presence.own_present();
    let before = std::mem::take(told);
    let at = |user: &UserNid| before.get(user).copied().filter(|at| at.elapsed() < SAY_AGAIN);
    told.extend(present.iter().map(|user| (*user, at(user).unwrap_or(now))));
    present.into_iter().filter(|user| at(user).is_none()).collect()
}

async fn tell_all(sender: &Arc<FederationSender>, news: &[UserNid]) -> Result<()> {
    for some in news.chunks(TOGETHER) {
        let mut by_server: BTreeMap<String, Vec<UserNid>> = BTreeMap::new();
        for (user, server) in outgoing_changes::servers_of(&sender.context.db, some).await? {
            by_server.entry(server).or_default().push(user);
        }
        for (server, users) in by_server {
            if let Ok(server) = OwnedServerName::try_from(server) {
                show(sender, &server, &users);
            }
        }
    }
    let mut by_room: BTreeMap<RoomNid, Vec<UserNid>> = BTreeMap::new();
    for (room, user) in sender.moves.take() {
        by_room.entry(room).or_default().push(user);
    }
    for (room, moved) in by_room {
        tell_moved(sender, room, &moved).await?;
    }
    Ok(())
}

/// Tells the servers of a room of those of this server who came into it, and a server whose first users came of
/// all who are there.
async fn tell_moved(
    sender: &Arc<FederationSender>,
    room: RoomNid,
    moved: &[UserNid],
) -> Result<()> {
    let others = servers::of_rooms(&sender.context.db, &[room]).await?;
    let others = others.into_iter().filter(|other| other.joined > 0);
    let others: Vec<_> = others.filter(|other| sender.right(&other.server).is_some()).collect();
    if others.is_empty() {
        return Ok(());
    }
    let (mut ours, mut theirs) = (Vec::new(), HashMap::<OwnedServerName, i64>::new());
    let joined = rows::joined_of(&sender.context.db, room, moved).await?;
    for (user, name) in joined.iter().zip(sender.context.interned.user_ids(&joined).await?) {
        match name.server_name() == sender.context.server_name {
            true => ours.push(*user),
            false => *theirs.entry(name.server_name().to_owned()).or_default() += 1,
        }
    }
    let is_new = |server: &OwnedServerName, joined: i64| {
        theirs.get(server).is_some_and(|came| *came >= joined)
    };
    let mut present = None;
    for other in others {
        if is_new(&other.server, other.joined) {
            if present.is_none() {
                present = Some(sender.presence.own_present_in(room).await?);
            }
            show(sender, &other.server, present.as_deref().unwrap_or_default());
        } else {
            show(sender, &other.server, &ours);
        }
    }
    Ok(())
}

fn show(sender: &Arc<FederationSender>, server: &OwnedServerName, users: &[UserNid]) {
    if !users.is_empty() && sender.right(server).is_some() {
        let destination = sending::destination(sender, server);
        destination.shows(users);
        destination.look();
    }
}

//! Handing new events to their destinations: one look at the stream for all of them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use colonnade_model::{
    nid::RoomNid,
    ruma::{OwnedServerName, UserId, events::room::member::MembershipState},
    stream::{Position, Stream},
};
use colonnade_rooms::{Result, RoomEvent};
use colonnade_storage::{
    federation::positions::{self, Sendable},
    rooms::servers::{self, RoomServer},
};
use tokio::sync::broadcast::error::RecvError;

use super::{sender::FederationSender, sending};

/// Events of the stream that are looked at together.
const TOGETHER: i64 = 500;
/// The pause after the database failed.
const RETRY: Duration = Duration::from_secs(2);
/// How often destinations are looked for that another process had.
const LOOK: Duration = Duration::from_secs(30);

/// Hands out new events as long as the sender lives.
pub(super) async fn run(sender: Weak<FederationSender>) {
    let mut began = false;
    let mut epoch = None;
    loop {
        let Some(alive) = sender.upgrade() else { return };
        let now = alive.context.slots.map().epoch;
        let done = async {
            if !began {
                *alive.fanned_out.lock() = alive.positions.get().get(Stream::Events);
            }
            if epoch != Some(now) {
                take_over(&alive).await?;
            }
            fan_out(&alive).await
        };
        match done.await {
            Ok(()) => (began, epoch) = (true, Some(now)),
            Err(error) => {
                tracing::warn!(%error, "cannot look for what other servers are to be told");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        }
        let (positions, fanned) = (Arc::clone(&alive.positions), *alive.fanned_out.lock());
        drop(alive);
        let further = positions.when(|positions| positions.get(Stream::Events) > fanned);
        let _or_look = tokio::time::timeout(LOOK, further).await;
    }
}

/// Begins with the destinations that are this process's, each at its position.
async fn take_over(sender: &Arc<FederationSender>) -> Result<()> {
    for server in positions::all(&sender.context.db, Stream::Events).await?.into_keys() {
        if sender.right(&server).is_some() {
            sending::destination(sender, &server).look();
        }
    }
    Ok(())
}

async fn fan_out(sender: &Arc<FederationSender>) -> Result<()> {
    loop {
        let (after, upto) = (*sender.fanned_out.lock(), sender.positions.get().get(Stream::Events));
        let events = positions::events(&sender.context.db, after, upto, TOGETHER).await?;
        let is_all = i64::try_from(events.len()).is_ok_and(|count| count < TOGETHER);
        let last = events.last().map_or(upto, |event| event.pos);
        let ours = sender.local(events).await?;
        let rooms: BTreeSet<RoomNid> = ours.iter().map(|event| event.room).collect();
        let rooms: Vec<RoomNid> = rooms.into_iter().collect();
        let mut of_rooms: HashMap<RoomNid, Vec<RoomServer>> = HashMap::new();
        if !rooms.is_empty() {
            for server in servers::of_rooms(&sender.context.db, &rooms).await? {
                of_rooms.entry(server.room).or_default().push(server);
            }
        }
        let mut told: HashSet<OwnedServerName> = HashSet::new();
        for event in ours {
            let others = of_rooms.get(&event.room).map_or(&[][..], Vec::as_slice);
            for server in destinations(sender, &event, others).await? {
                if sender.right(&server).is_some() {
                    sending::destination(sender, &server).add(event.pos, event.event);
                    told.insert(server);
                }
            }
        }
        let fanned_out = if is_all { upto.max(last) } else { last };
        *sender.fanned_out.lock() = fanned_out;
        for server in told {
            sending::destination(sender, &server).look();
        }
        if is_all {
            return Ok(());
        }
    }
}

/// Returns the servers that an event concerns: those with members in the room, those whose last member it
/// takes out, and that of a user whose invitation or knock it ends. An invitation itself is another conversation.
async fn destinations(
    sender: &FederationSender,
    event: &Sendable,
    others: &[RoomServer],
) -> Result<BTreeSet<OwnedServerName>> {
    let was_in = |server: &&RoomServer| {
        server.joined > 0 || server.left.is_some_and(|left: Position| left >= event.pos)
    };
    let mut concerned: BTreeSet<OwnedServerName> =
        others.iter().filter(was_in).map(|server| server.server.clone()).collect();
    let stored = sender.rooms.events(&[event.event]).await?;
    let ends = |stored: &&Arc<RoomEvent>| {
        matches!(stored.event.membership(), Some(MembershipState::Leave | MembershipState::Ban))
    };
    let about = stored.first().filter(ends);
    let user = about.and_then(|stored| UserId::parse(stored.event.state_key()?).ok());
    if let Some(user) = user
        && user.server_name() != sender.context.server_name
    {
        concerned.insert(user.server_name().to_owned());
    }
    Ok(concerned)
}

/// Wakes destinations that are reached again.
pub(super) async fn wake_returned(sender: Weak<FederationSender>) {
    let Some(mut returns) = sender.upgrade().map(|sender| sender.transport.returns()) else {
        return;
    };
    loop {
        let returned = returns.recv().await;
        let Some(alive) = sender.upgrade() else { return };
        let destinations = alive.destinations.lock();
        match returned {
            Ok(server) => {
                if let Some(destination) = destinations.get(&server) {
                    destination.returned();
                }
            }
            Err(RecvError::Lagged(_)) => {
                destinations.values().for_each(|destination| destination.returned());
            }
            Err(RecvError::Closed) => return,
        }
    }
}

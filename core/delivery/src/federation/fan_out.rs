//! Handing what is new in the streams to its destinations: one look at each stream for all of them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use colonnade_model::{
    nid::{EventNid, RoomNid, UserNid},
    ruma::{OwnedServerName, UserId, events::room::member::MembershipState},
    stream::{Position, Stream},
};
use colonnade_rooms::{Result, RoomEvent};
use colonnade_storage::{
    federation::{
        outbox, outgoing_changes, outgoing_receipts,
        positions::{self, Sendable},
    },
    rooms::servers::{self, RoomServer},
};
use tokio::sync::broadcast::error::RecvError;

use super::{
    destination::{EVENTS, Item, KEY_CHANGES, RECEIPTS, STREAMS},
    sender::FederationSender,
    sending,
};

/// Rows of a stream that are looked at together.
const TOGETHER: i64 = 500;
/// The pause after the database failed.
const RETRY: Duration = Duration::from_secs(2);
/// How often destinations are looked for that another process had.
const LOOK: Duration = Duration::from_secs(30);

/// The streams that are handed out: those that destinations are told of, and that of messages to devices.
const HANDED_OUT: [Stream; 4] = [STREAMS[0], STREAMS[1], STREAMS[2], Stream::ToDevice];

/// Hands out what is new as long as the sender lives.
pub(super) async fn run(sender: Weak<FederationSender>) {
    let mut began = false;
    let mut epoch = None;
    loop {
        let Some(alive) = sender.upgrade() else { return };
        let now = alive.context.slots.map().epoch;
        let done = async {
            if !began {
                *alive.fanned_out.lock() = alive.positions.get();
            }
            if epoch != Some(now) {
                take_over(&alive).await?;
            }
            for stream in HANDED_OUT {
                while !hand_out(&alive, stream).await? {}
            }
            Ok(())
        };
        let done: Result<()> = done.await;
        match done {
            Ok(()) => (began, epoch) = (true, Some(now)),
            Err(error) => {
                tracing::warn!(%error, "cannot look for what other servers are to be told");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        }
        let (positions, fanned) = (Arc::clone(&alive.positions), *alive.fanned_out.lock());
        drop(alive);
        let further = positions.when(|positions| {
            HANDED_OUT.iter().any(|stream| positions.get(*stream) > fanned.get(*stream))
        });
        let _or_look = tokio::time::timeout(LOOK, further).await;
    }
}

/// Begins with the destinations that are this process's, each at its position.
async fn take_over(sender: &Arc<FederationSender>) -> Result<()> {
    let known = positions::all(&sender.context.db, Stream::Events).await?.into_keys();
    for server in known.chain(outbox::servers(&sender.context.db).await?) {
        if sender.right(&server).is_some() {
            sending::destination(sender, &server).look();
        }
    }
    Ok(())
}

/// Hands out what comes next in a stream, and tells whether that is all.
async fn hand_out(sender: &Arc<FederationSender>, stream: Stream) -> Result<bool> {
    let (after, upto) = (sender.fanned_out.lock().get(stream), sender.positions.get().get(stream));
    if after >= upto {
        return Ok(true);
    }
    let (count, last, told) = match stream {
        Stream::ToDevice => messages(sender, (after, upto)).await?,
        Stream::Receipts => receipts(sender, (after, upto)).await?,
        Stream::DeviceLists => key_changes(sender, (after, upto)).await?,
        _ => events(sender, (after, upto)).await?,
    };
    let is_all = i64::try_from(count).is_ok_and(|count| count < TOGETHER);
    sender.fanned_out.lock().set(stream, if is_all { upto.max(last) } else { last });
    for server in told {
        sending::destination(sender, &server).look();
    }
    Ok(is_all)
}

/// How many rows were read, the position of the last, and who has something to look at.
type HandedOut = (usize, Position, HashSet<OwnedServerName>);

async fn events(
    sender: &Arc<FederationSender>,
    (after, upto): (Position, Position),
) -> Result<HandedOut> {
    let events = positions::events(&sender.context.db, after, upto, TOGETHER).await?;
    let (count, last) = (events.len(), events.last().map_or(upto, |event| event.pos));
    let ours = sender.told_by_us(events).await?;
    let of_rooms = servers_of(sender, ours.iter().map(|event| event.room)).await?;
    let nids: Vec<EventNid> = ours.iter().map(|event| event.event).collect();
    let stored = sender.rooms.events(&nids).await?;
    let stored: HashMap<EventNid, Arc<RoomEvent>> =
        stored.into_iter().map(|stored| (stored.nid, stored)).collect();
    let mut told = HashSet::new();
    for event in ours {
        let others = of_rooms.get(&event.room).map_or(&[][..], Vec::as_slice);
        for server in destinations(sender, &event, stored.get(&event.event), others) {
            if sender.right(&server).is_some() {
                let destination = sending::destination(sender, &server);
                destination.add(EVENTS, event.pos, Item::Event(event.event));
                told.insert(server);
            }
        }
    }
    Ok((count, last, told))
}

async fn receipts(
    sender: &Arc<FederationSender>,
    (after, upto): (Position, Position),
) -> Result<HandedOut> {
    let rows = outgoing_receipts::between(&sender.context.db, after, upto, TOGETHER).await?;
    let (count, last) = (rows.len(), rows.last().map_or(upto, |(pos, _)| *pos));
    let ours = sender.local(rows, |(_, receipt)| receipt.user).await?;
    let of_rooms = servers_of(sender, ours.iter().map(|(_, receipt)| receipt.room)).await?;
    let mut told = HashSet::new();
    for (pos, receipt) in ours {
        let receipt = Arc::new(receipt);
        for other in of_rooms.get(&receipt.room).into_iter().flatten() {
            if other.joined > 0 && sender.right(&other.server).is_some() {
                let destination = sending::destination(sender, &other.server);
                destination.add(RECEIPTS, pos, Item::Receipt(Arc::clone(&receipt)));
                told.insert(other.server.clone());
            }
        }
    }
    Ok((count, last, told))
}

async fn key_changes(
    sender: &Arc<FederationSender>,
    (after, upto): (Position, Position),
) -> Result<HandedOut> {
    let db = &sender.context.db;
    let rows = outgoing_changes::between(db, after, upto, TOGETHER).await?;
    let (count, last) = (rows.len(), rows.last().map_or(upto, |change| change.pos));
    let ours = sender.local(rows, |change| change.user).await?;
    let users: BTreeSet<UserNid> = ours.iter().map(|change| change.user).collect();
    let users: Vec<UserNid> = users.into_iter().collect();
    let mut of_users: HashMap<UserNid, Vec<OwnedServerName>> = HashMap::new();
    for (user, server) in outgoing_changes::servers_of(db, &users).await? {
        let server = OwnedServerName::try_from(server.as_str());
        of_users.entry(user).or_default().extend(server.ok());
    }
    let mut told = HashSet::new();
    for change in ours {
        let change = Arc::new(change);
        for server in of_users.get(&change.user).into_iter().flatten() {
            if sender.right(server).is_some() {
                let item = Item::KeyChange(Arc::clone(&change));
                sending::destination(sender, server).add(KEY_CHANGES, change.pos, item);
                told.insert(server.clone());
            }
        }
    }
    Ok((count, last, told))
}

async fn messages(
    sender: &Arc<FederationSender>,
    (after, upto): (Position, Position),
) -> Result<HandedOut> {
    let rows = outbox::between(&sender.context.db, after, upto, TOGETHER).await?;
    let (count, last) = (rows.len(), rows.last().map_or(upto, |(pos, _)| *pos));
    let mut told = HashSet::new();
    for (_, server) in rows {
        if sender.right(&server).is_some() {
            sending::destination(sender, &server).has_messages();
            told.insert(server);
        }
    }
    Ok((count, last, told))
}

async fn servers_of(
    sender: &FederationSender,
    rooms: impl Iterator<Item = RoomNid>,
) -> Result<HashMap<RoomNid, Vec<RoomServer>>> {
    let rooms: BTreeSet<RoomNid> = rooms.collect();
    let rooms: Vec<RoomNid> = rooms.into_iter().collect();
    let mut of_rooms: HashMap<RoomNid, Vec<RoomServer>> = HashMap::new();
    if !rooms.is_empty() {
        for server in servers::of_rooms(&sender.context.db, &rooms).await? {
            of_rooms.entry(server.room).or_default().push(server);
        }
    }
    Ok(of_rooms)
}

/// Returns the servers that an event concerns: those with members in the room, those whose last member it
/// takes out, and that of a user whose invitation or knock it ends. An invitation itself is another conversation.
fn destinations(
    sender: &FederationSender,
    event: &Sendable,
    stored: Option<&Arc<RoomEvent>>,
    others: &[RoomServer],
) -> BTreeSet<OwnedServerName> {
    let was_in = |server: &&RoomServer| {
        server.joined > 0 || server.left.is_some_and(|left: Position| left >= event.pos)
    };
    let mut concerned: BTreeSet<OwnedServerName> =
        others.iter().filter(was_in).map(|server| server.server.clone()).collect();
    if event.is_handed_over {
        // Whoever handed it over has it.
        let from = stored.map(|stored| stored.event.sender().server_name().to_owned());
        concerned.retain(|server| from.as_ref() != Some(server));
        return concerned;
    }
    let ends = |stored: &&Arc<RoomEvent>| {
        matches!(stored.event.membership(), Some(MembershipState::Leave | MembershipState::Ban))
    };
    let about = stored.filter(ends);
    let user = about.and_then(|stored| UserId::parse(stored.event.state_key()?).ok());
    if let Some(user) = user
        && user.server_name() != sender.context.server_name
    {
        concerned.insert(user.server_name().to_owned());
    }
    concerned
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

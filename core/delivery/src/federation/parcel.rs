//! What goes into the next transaction to a destination: events, and beside them EDUs, of each kind as many as
//! together are no more than a transaction may have.

use std::{collections::BTreeMap, sync::Arc};

use colonnade_model::{
    nid::{EventNid, UserNid},
    ruma::{OwnedRoomId, OwnedUserId},
    stream::{Position, Stream},
};
use colonnade_rooms::Result;
use colonnade_storage::{
    federation::{outbox, outgoing_changes, outgoing_receipts, positions},
    rooms::events::EventFlags,
};
use serde_json::Value;

use super::{
    destination::{Destination, Item, STREAMS, Waiting},
    edus,
    sender::FederationSender,
};

/// Rows of each of [`STREAMS`] in a transaction: 50 PDUs (Matrix v1.19, server-server, "Transactions"), and
/// receipts and changes of keys, each of which may take an EDU for itself.
const ROWS_MAX: [usize; STREAMS.len()] = [50, 30, 20];
/// Messages to devices in a transaction, which has 100 EDUs.
const MESSAGES_MAX: usize = 30;
/// Bytes of messages to devices after which no more are taken: servers take transactions of some megabytes, and
/// 50 events are three.
const MESSAGE_BYTES: usize = 2 * 1024 * 1024;
/// Users who type, or stopped, in a transaction.
const TYPING_MAX: usize = 15;
/// Users of whose presence is told in a transaction, in one EDU.
const PRESENCE_MAX: usize = 200;
/// Rows of a destination that is behind, read together: about as many as may wait in memory.
const READ_TOGETHER: i64 = 200;

/// What is in a transaction, and where the destination stands once it has that.
#[derive(Default)]
pub(super) struct Parcel {
    pub(super) pdus: Vec<Value>,
    pub(super) edus: Vec<Value>,
    /// In the order of [`STREAMS`].
    pub(super) upto: [Position; STREAMS.len()],
    /// Messages to devices up to here, if there are any.
    pub(super) messages_upto: Option<Position>,
    /// Of whom it says whether he is here.
    pub(super) presence: Vec<UserNid>,
}

impl Parcel {
    /// Takes what is next for a destination that has everything up to some positions.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn take(
        sender: &Arc<FederationSender>,
        destination: &Destination,
        after: [Position; STREAMS.len()],
    ) -> Result<Self> {
        let mut parcel = Self { upto: after, ..Self::default() };
        parcel.take_messages(sender, destination).await?;
        let (mut events, mut receipts, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        for (stream, after) in after.into_iter().enumerate() {
            let (upto, items) = next_items(sender, destination, stream, after).await?;
            parcel.upto[stream] = upto;
            for item in items {
                match item {
                    Item::Event(event) => events.push(event),
                    Item::Receipt(receipt) => receipts.push(receipt),
                    Item::KeyChange(change) => changes.push(change),
                }
            }
        }
        parcel.add_events(sender, &events).await?;
        parcel.edus.extend(edus::of_receipts(sender, &receipts).await?);
        parcel.edus.extend(edus::of_key_changes(sender, &changes).await?);
        for ((room, user), is_typing) in take_typing(&mut destination.waiting.lock()) {
            parcel.edus.push(edus::of_typist(&room, &user, is_typing));
        }
        parcel.presence = take_presence(&mut destination.waiting.lock());
        parcel.edus.extend(edus::of_presence(sender, &parcel.presence).await?);
        Ok(parcel)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pdus.is_empty() && self.edus.is_empty()
    }

    async fn add_events(&mut self, sender: &FederationSender, events: &[EventNid]) -> Result<()> {
        for event in sender.rooms.events(events).await? {
            // What the room did not take from its own user is nobody else's.
            let refused =
                EventFlags::REJECTED.0 | EventFlags::SOFT_FAILED.0 | EventFlags::OUTLIER.0;
            if event.flags.0 & refused == 0 {
                self.pdus.extend(serde_json::from_str::<Value>(event.event.json()).ok());
            }
        }
        Ok(())
    }

    async fn take_messages(
        &mut self,
        sender: &FederationSender,
        destination: &Destination,
    ) -> Result<()> {
        if !std::mem::take(&mut destination.waiting.lock().has_messages) {
            return Ok(());
        }
        let (db, server) = (&sender.context.db, destination.server.as_str());
        let limit = i64::try_from(MESSAGES_MAX).unwrap_or(i64::MAX);
        let read = outbox::next(db, server, limit).await;
        let messages = read.inspect_err(|_| destination.has_messages())?;
        let found = messages.len();
        let (mut bytes, mut taken) = (0, 0);
        for (seq, body) in messages {
            if bytes >= MESSAGE_BYTES {
                break;
            }
            (bytes, taken) = (bytes + body.len(), taken + 1);
            self.messages_upto = Some(seq);
            self.edus.extend(serde_json::from_slice::<Value>(&body).ok());
        }
        if taken < found || found == MESSAGES_MAX {
            destination.has_messages();
        }
        Ok(())
    }
}

fn take_presence(waiting: &mut Waiting) -> Vec<UserNid> {
    let mut taken = std::mem::take(&mut waiting.presence);
    if let Some(more) = taken.iter().nth(PRESENCE_MAX).copied() {
        waiting.presence = taken.split_off(&more);
    }
    taken.into_iter().collect()
}

fn take_typing(waiting: &mut Waiting) -> BTreeMap<(OwnedRoomId, OwnedUserId), bool> {
    let mut taken = std::mem::take(&mut waiting.typing);
    if let Some((more, _)) = taken.iter().nth(TYPING_MAX) {
        let more = more.clone();
        waiting.typing = taken.split_off(&more);
    }
    taken
}

/// Returns what is next of a stream for a destination, and up to where it has everything once it has that. It
/// waits until it is taken.
async fn next_items(
    sender: &Arc<FederationSender>,
    destination: &Destination,
    stream: usize,
    after: Position,
) -> Result<(Position, Vec<Item>)> {
    let left_out = {
        let queue = &mut destination.waiting.lock().queues[stream];
        queue.items.retain(|(pos, _)| *pos > after);
        // From here on what is added is kept.
        std::mem::take(&mut queue.is_behind).then_some(queue.left_out)
    };
    let complete_upto = match left_out {
        Some(left_out) => {
            let read = read_waiting(sender, destination, stream, (after, left_out)).await;
            let failed = |_: &_| destination.waiting.lock().queues[stream].is_behind = true;
            Some(read.inspect_err(failed)?)
        }
        None => None,
    };
    let queue = &destination.waiting.lock().queues[stream];
    let ready =
        queue.items.iter().take_while(|(pos, _)| complete_upto.is_none_or(|upto| *pos <= upto));
    let ready: Vec<&(Position, Item)> = ready.take(ROWS_MAX[stream]).collect();
    let last = ready.last().map_or(after, |(pos, _)| *pos);
    let upto = complete_upto.filter(|_| ready.len() < ROWS_MAX[stream]).unwrap_or(last);
    Ok((upto, ready.into_iter().map(|(_, item)| item.clone()).collect()))
}

/// Reads what waits for a destination that is behind, and returns up to where that is all. What is in memory
/// stays: it may be of a room that the destination is not in, about a user of it.
async fn read_waiting(
    sender: &FederationSender,
    destination: &Destination,
    stream: usize,
    (after, left_out): (Position, Position),
) -> Result<Position> {
    let _turn = sender.catching_up.acquire().await;
    let upto = left_out.max(sender.fanned_out.lock().get(STREAMS[stream]));
    let found = read(sender, destination.server.as_str(), STREAMS[stream], (after, upto)).await?;
    let is_all = i64::try_from(found.count).is_ok_and(|count| count < READ_TOGETHER);
    let upto = if is_all { upto } else { found.last };
    let queue = &mut destination.waiting.lock().queues[stream];
    let mut all: BTreeMap<Position, Item> = queue.items.drain(..).collect();
    all.extend(found.ours);
    queue.items = all.into_iter().collect();
    queue.is_behind |= !is_all;
    Ok(upto)
}

/// Rows that were read.
struct Found {
    count: usize,
    last: Position,
    /// Those of users of this server.
    ours: Vec<(Position, Item)>,
}

async fn read(
    sender: &FederationSender,
    server: &str,
    stream: Stream,
    (after, upto): (Position, Position),
) -> Result<Found> {
    let db = &sender.context.db;
    if stream == Stream::Receipts {
        let rows = outgoing_receipts::between_for(db, server, after, upto, READ_TOGETHER).await?;
        let (count, last) = (rows.len(), rows.last().map_or(upto, |(pos, _)| *pos));
        let ours = sender.local(rows, |(_, receipt)| receipt.user).await?;
        let ours = ours.into_iter().map(|(pos, receipt)| (pos, Item::Receipt(Arc::new(receipt))));
        return Ok(Found { count, last, ours: ours.collect() });
    }
    if stream == Stream::DeviceLists {
        let rows = outgoing_changes::between_for(db, server, after, upto, READ_TOGETHER).await?;
        let (count, last) = (rows.len(), rows.last().map_or(upto, |change| change.pos));
        let ours = sender.local(rows, |change| change.user).await?.into_iter();
        let ours = ours.map(|change| (change.pos, Item::KeyChange(Arc::new(change))));
        return Ok(Found { count, last, ours: ours.collect() });
    }
    let rows = positions::events_for(db, server, after, upto, READ_TOGETHER).await?;
    let (count, last) = (rows.len(), rows.last().map_or(upto, |event| event.pos));
    let ours = sender.told_by_us(rows).await?;
    let ours = ours.into_iter().map(|event| (event.pos, Item::Event(event.event)));
    Ok(Found { count, last, ours: ours.collect() })
}

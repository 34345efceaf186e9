//! Where every room stands, in memory, and who is to be woken when one moves.
//!
//! The follower of the process tells it of each advance, once all caches have forgotten what that makes
//! stale. It notes each touched room and user, raises [`Notifier::applied`], and only then wakes. A sync
//! samples `applied`, never the raw positions, so whatever it is told is already noted here. Falling
//! behind the bus costs one scan, nothing else.
//!
//! What is no message waits for company ([`gather`]). What a login says to everybody in the rooms, that somebody is there and has keys, wakes them at a
//! pace ([`throttle`]).

mod gather;
mod queue;
mod throttle;

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use colonnade_model::{
    nid::{DeviceNid, RoomNid, UserNid},
    stream::{Position, Positions, Stream, StreamAdvance, Touch},
};
use colonnade_replication::{Latest, Subscriber};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use queue::{Gathering, Queue, Watcher};

/// Clients waiting for one room that are woken at once. More are woken part by part: a word in a room
/// of ten thousand is a second of work and more, and whoever asks for anything else is to have a turn.
const AT_ONCE_MAX: usize = 2_000;
/// How long it takes until the last of them is woken.
const SPREAD: Duration = Duration::from_millis(500);
/// In how many parts.
const PARTS: usize = 25;

/// The last position of a room in the streams a room has rows in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoomHead {
    /// Its latest event.
    pub events: Position,
    /// Its latest receipt.
    pub receipts: Position,
    /// Its latest change of who is typing.
    pub typing: Position,
    /// Its latest change of a member's devices.
    pub device_lists: Position,
    /// Its latest change of a member's presence.
    pub presence: Position,
}

/// The last position of a user in the streams a user has rows in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserHead {
    /// The latest change of a membership.
    pub events: Position,
    /// The latest change of account data.
    pub account_data: Position,
    /// The latest receipt of the user's own.
    pub receipts: Position,
    /// The latest change of keys the user follows beyond those of rooms: the user's own, and
    /// signatures that only the user sees.
    pub device_lists: Position,
}

/// Where everything stands.
pub struct Notifier {
    rooms: RwLock<HashMap<RoomNid, RoomHead>>,
    users: RwLock<HashMap<UserNid, UserHead>>,
    /// The latest message to each device.
    devices: RwLock<HashMap<DeviceNid, Position>>,
    /// The latest change of anybody's membership.
    memberships: AtomicI64,
    /// Everything that is not noted may have moved up to here.
    floor: RwLock<Positions>,
    applied: Latest<Positions>,
    watchers: Mutex<HashMap<Touch, Vec<Weak<Watcher>>>>,
    queue: Mutex<Queue>,
    /// There is somebody in the queue, or this is gone.
    queue_grew: Arc<Notify>,
    gathering: Mutex<Gathering>,
    /// Something is gathered, or this is gone.
    gathering_began: Arc<Notify>,
    /// How long what is no message waits for company.
    gathered_for: Duration,
}

/// Stays registered as long as it lives.
pub struct Watch {
    watcher: Arc<Watcher>,
}

impl Watch {
    /// Waits until something watched has moved since the last call.
    pub async fn moved(&self) {
        self.watcher.notify.notified().await;
    }
}

impl Notifier {
    /// Makes heads that know nothing: everything may have moved up to `floor`. What is no message waits for company
    /// so long.
    pub fn new(floor: Positions, gathered_for: Duration) -> Arc<Self> {
        Arc::new(Self {
            rooms: RwLock::default(),
            users: RwLock::default(),
            devices: RwLock::default(),
            memberships: AtomicI64::new(floor.get(Stream::Events)),
            floor: RwLock::new(floor),
            applied: Latest::new(floor),
            watchers: Mutex::default(),
            queue: Mutex::default(),
            queue_grew: Arc::default(),
            gathering: Mutex::default(),
            gathering_began: Arc::default(),
            gathered_for,
        })
    }

    /// Returns the positions noted here.
    pub fn applied(&self) -> Positions {
        self.applied.get()
    }

    /// Waits until `wanted` is noted: for a client to read its own writes.
    pub async fn reached(&self, wanted: Positions) {
        let reached = |now: &Positions| {
            Stream::ALL.into_iter().all(|stream| now.get(stream) >= wanted.get(stream))
        };
        self.applied.when(reached).await;
    }

    /// Returns where rooms stand, in the order asked for.
    pub fn rooms(&self, rooms: impl Iterator<Item = RoomNid>) -> Vec<RoomHead> {
        let unknown = self.unknown_room();
        let known = self.rooms.read();
        rooms.map(|room| known.get(&room).copied().unwrap_or(unknown)).collect()
    }

    fn unknown_room(&self) -> RoomHead {
        let floor = *self.floor.read();
        RoomHead {
            events: floor.get(Stream::Events),
            receipts: floor.get(Stream::Receipts),
            typing: floor.get(Stream::Typing),
            device_lists: floor.get(Stream::DeviceLists),
            presence: floor.get(Stream::Presence),
        }
    }

    /// Returns where a user stands.
    pub fn user(&self, user: UserNid) -> UserHead {
        if let Some(head) = self.users.read().get(&user) {
            return *head;
        }
        let floor = *self.floor.read();
        UserHead {
            events: floor.get(Stream::Events),
            account_data: floor.get(Stream::AccountData),
            receipts: floor.get(Stream::Receipts),
            device_lists: floor.get(Stream::DeviceLists),
        }
    }

    /// Returns the position of the latest message to a device.
    pub fn device(&self, device: DeviceNid) -> Position {
        let known = self.devices.read().get(&device).copied();
        known.unwrap_or_else(|| self.floor.read().get(Stream::ToDevice))
    }

    /// Returns the position of the latest change of anybody's membership.
    pub fn memberships(&self) -> Position {
        self.memberships.load(Ordering::Acquire)
    }

    /// Notes where a room stood when this process started, unless it has moved since.
    pub fn learn(&self, room: RoomNid, events: Position, receipts: Position) {
        let floor = self.unknown_room();
        let mut rooms = self.rooms.write();
        rooms.entry(room).or_insert(RoomHead { events, receipts, ..floor });
    }

    /// Registers interest in rooms, a user and a device. Register first, then sample, then look.
    pub fn watch(
        &self,
        rooms: impl Iterator<Item = RoomNid>,
        user: UserNid,
        device: DeviceNid,
    ) -> Watch {
        let watcher = Arc::<Watcher>::default();
        let touches = rooms.map(Touch::Room).chain([Touch::User(user), Touch::Device(device)]);
        let mut watchers = self.watchers.lock();
        for touch in touches {
            let list = watchers.entry(touch).or_default();
            // Only when it would grow: so the dead cost little, however many wait for a room.
            if list.len() == list.capacity() {
                list.retain(|watcher| watcher.strong_count() > 0);
            }
            list.push(Arc::downgrade(&watcher));
        }
        Watch { watcher }
    }

    /// Wakes everybody, as if everything had moved.
    pub fn wake_all(&self) {
        for list in self.watchers.lock().values() {
            wake(list);
        }
    }

    fn apply(&self, advance: &StreamAdvance) {
        for (touch, position) in &advance.touched {
            match touch {
                Touch::Room(room) => {
                    let floor = self.unknown_room();
                    let mut rooms = self.rooms.write();
                    let head = rooms.entry(*room).or_insert(floor);
                    raise_room(head, advance.stream, *position);
                }
                Touch::User(user) => {
                    let floor = self.user(*user);
                    let mut users = self.users.write();
                    let head = users.entry(*user).or_insert(floor);
                    raise_user(head, advance.stream, *position);
                    if advance.stream == Stream::Events {
                        self.memberships.fetch_max(*position, Ordering::AcqRel);
                    }
                }
                Touch::Device(device) => {
                    let floor = self.device(*device);
                    let mut devices = self.devices.write();
                    let head = devices.entry(*device).or_insert(floor);
                    *head = (*head).max(*position);
                }
                Touch::Stale(_) | Touch::Redacted(_) => {}
                Touch::Anybody => return self.apply_to_all(advance),
            }
        }
        self.applied.change(|applied| {
            let position = applied.get(advance.stream).max(advance.upto);
            applied.set(advance.stream, position);
        });
        let touched = advance.touched.iter().map(|(touch, _)| *touch);
        match advance.stream {
            Stream::Presence | Stream::DeviceLists => self.wake_later(advance.stream, touched),
            Stream::Receipts | Stream::Typing => self.gather(touched),
            _ => self.wake_those(touched),
        }
    }

    fn wake_those(&self, touches: impl Iterator<Item = Touch>) {
        let mut watchers = self.watchers.lock();
        for touch in touches {
            if let Some(list) = watchers.get_mut(&touch) {
                wake(list);
                list.retain(|watcher| watcher.strong_count() > 0);
                if list.is_empty() {
                    watchers.remove(&touch);
                }
            }
        }
    }

    /// Notes that any room and any user may have moved.
    fn apply_to_all(&self, advance: &StreamAdvance) {
        let mut floor = self.applied();
        floor.set(advance.stream, advance.upto.max(floor.get(advance.stream)));
        self.forget(floor);
    }

    fn forget(&self, floor: Positions) {
        *self.floor.write() = floor;
        self.rooms.write().clear();
        self.users.write().clear();
        self.devices.write().clear();
        self.memberships.fetch_max(floor.get(Stream::Events), Ordering::AcqRel);
        self.applied.set(floor);
        self.wake_all();
    }
}

impl Subscriber for Notifier {
    fn advanced(&self, advance: &StreamAdvance) {
        self.apply(advance);
    }

    fn missed(&self, upto: Positions) {
        self.forget(upto);
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.queue_grew.notify_one();
        self.gathering_began.notify_one();
    }
}

fn wake(watchers: &[Weak<Watcher>]) {
    if watchers.len() > AT_ONCE_MAX {
        tokio::spawn(wake_in_turn(watchers.to_vec()));
    } else {
        wake_now(watchers);
    }
}

async fn wake_in_turn(watchers: Vec<Weak<Watcher>>) {
    let mut context = tokio::time::interval(SPREAD / PARTS as u32);
    for part in watchers.chunks(watchers.len().div_ceil(PARTS)) {
        context.tick().await;
        wake_now(part);
    }
}

fn wake_now(watchers: &[Weak<Watcher>]) {
    for watcher in watchers.iter().filter_map(Weak::upgrade) {
        watcher.notify.notify_one();
    }
}

fn raise_room(head: &mut RoomHead, stream: Stream, position: Position) {
    let place = match stream {
        Stream::Events => &mut head.events,
        Stream::Receipts => &mut head.receipts,
        Stream::Typing => &mut head.typing,
        Stream::DeviceLists => &mut head.device_lists,
        Stream::Presence => &mut head.presence,
        Stream::AccountData | Stream::ToDevice => return,
    };
    *place = (*place).max(position);
}

fn raise_user(head: &mut UserHead, stream: Stream, position: Position) {
    let place = match stream {
        Stream::Events => &mut head.events,
        Stream::AccountData => &mut head.account_data,
        Stream::Receipts => &mut head.receipts,
        Stream::DeviceLists => &mut head.device_lists,
        Stream::ToDevice | Stream::Typing | Stream::Presence => return,
    };
    *place = (*place).max(position);
}

#[cfg(test)]
mod tests;

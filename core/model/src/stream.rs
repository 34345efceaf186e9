//! Streams and positions: the names of the ordered logs everything incremental is built on, and the
//! message that says how far one of them has come. Positions are final: whoever sees position `p`
//! has seen, or can read, everything below it.

use crate::nid::{DeviceNid, EventNid, RoomNid, UserNid};

/// A place in a stream; larger is later. 0 is before everything.
pub type Position = i64;

/// The ordered logs. The numbers are stored and part of sync tokens: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Room events, with membership and current state.
    Events = 1,
    /// Read receipts.
    Receipts = 2,
    /// Account data, tags, push rules, filters of a user.
    AccountData = 3,
    /// Messages to single devices.
    ToDevice = 4,
    /// Devices and cross-signing keys of users.
    DeviceLists = 5,
    /// Presence; lives in memory.
    Presence = 6,
    /// Typing notifications; lives in memory.
    Typing = 7,
}

impl Stream {
    /// Every stream, in the order in which positions are sealed and stand in a token.
    pub const ALL: [Self; 7] = [
        Self::Events,
        Self::Receipts,
        Self::AccountData,
        Self::ToDevice,
        Self::DeviceLists,
        Self::Presence,
        Self::Typing,
    ];

    /// Returns the number under which the stream is stored.
    pub fn number(self) -> i64 {
        self as i64
    }

    /// Returns the place of the stream in [`Stream::ALL`].
    pub fn index(self) -> usize {
        self as usize - 1
    }

    /// Returns the name used in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Receipts => "receipts",
            Self::AccountData => "account_data",
            Self::ToDevice => "to_device",
            Self::DeviceLists => "device_lists",
            Self::Presence => "presence",
            Self::Typing => "typing",
        }
    }
}

/// One position per stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Positions([Position; 7]);

impl Positions {
    /// Returns the position in `stream`.
    pub fn get(&self, stream: Stream) -> Position {
        self.0[stream.index()]
    }

    /// Sets the position in `stream`.
    pub fn set(&mut self, stream: Stream, position: Position) {
        self.0[stream.index()] = position;
    }
}

/// Whom a row of a stream concerns: who has to be woken, and which row of a cache is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Touch {
    /// Everybody who watches this room.
    Room(RoomNid),
    /// Every device of this user.
    User(UserNid),
    /// This device.
    Device(DeviceNid),
    /// Nobody is woken: what is kept in memory of this device, its tokens and the counts of its keys,
    /// is stale.
    Stale(DeviceNid),
    /// Nobody is woken: this event is not what it was, since it was redacted.
    Redacted(EventNid),
    /// Anybody: whom the rows concern is not known, or too many to name.
    Anybody,
}

/// Says that a stream has grown: "look", never "this is the truth".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAdvance {
    /// The stream that grew.
    pub stream: Stream,
    /// Where it stood before; a reader that stands elsewhere has a gap and reads the database.
    pub prev: Position,
    /// Where it stands now.
    pub upto: Position,
    /// Whom the new rows concern, each with its position.
    pub touched: Vec<(Touch, Position)>,
}

//! Conversations with another server about a room: joining, leaving and knocking over it (make and send),
//! inviting, asking for what is missing (events, a state, history); and for its files. The use cases of
//! `services` call it. It may import all of this crate.
//!
//! Whatever comes back is a PDU like any other: it is checked ([`pdus`](self)) before a room sees it.

mod check_pool;
mod devices;
mod directory;
mod early;
mod gaps;
mod history;
mod invite;
mod join;
mod join_figures;
mod media;
mod membership;
mod multipart;
mod pdus;
mod receive;
mod spaces;
mod state_answer;
mod third_party;

use std::sync::Arc;

use colonnade_model::ruma::{EventId, RoomId};
use colonnade_rooms::{Error, Rooms};

use crate::{
    keys::KeyRing,
    transport::{Transport, TransportError},
};

pub use devices::{
    Claims, DeviceListSnapshot, DeviceSnapshot, KeysByDevice, KeysByUser, QueriedKeys,
};
pub use directory::AliasTarget;
pub use join_figures::JoinFigures;
pub use media::{Pieces, RemoteFile};
pub use membership::{EntryKind, Template};
pub use receive::Received;
pub use spaces::RemoteSpace;

/// Events that one request for what is missing may bring: more are a state of their own.
const EVENTS_MAX: usize = 100_000;

/// Conversations with other servers. Cheap to clone.
#[derive(Clone)]
pub struct Messaging {
    transport: Transport,
    keys: KeyRing,
    rooms: Rooms,
    checks: Arc<check_pool::CheckPool>,
    joins: Arc<JoinFigures>,
}

/// Why a conversation led to nothing.
#[derive(Debug, thiserror::Error)]
pub enum MessagingError {
    /// The other server could not be asked, or refused.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// What it answers cannot be right.
    #[error("the other server's answer cannot be used: {0}")]
    Unusable(String),
    /// This server refuses, or its database failed.
    #[error(transparent)]
    Here(#[from] Error),
}

impl MessagingError {
    /// Tells whether a server says that it, other than others perhaps, cannot let a user in.
    pub fn is_inability(&self) -> bool {
        matches!(self, Self::Transport(TransportError::Status { errcode: Some(code), .. })
            if code == "M_UNABLE_TO_AUTHORISE_JOIN" || code == "M_UNABLE_TO_GRANT_JOIN")
    }

    /// Tells whether another server may be asked instead: this one does not answer, or not sensibly. A refusal
    /// is a word of the room; that a server cannot tell, or may not let anybody in, is none.
    pub fn is_worth_another_server(&self) -> bool {
        match self {
            Self::Transport(TransportError::Status { status, .. }) => {
                *status >= 500 || *status == 404 || self.is_inability()
            }
            Self::Transport(_) | Self::Unusable(_) => true,
            Self::Here(_) => false,
        }
    }
}

impl Messaging {
    /// Begins.
    pub fn new(transport: Transport, keys: KeyRing, rooms: Rooms) -> Self {
        let checks = Arc::new(check_pool::CheckPool::new());
        Self { transport, keys, rooms, checks, joins: Arc::default() }
    }

    /// Returns how many turns there were to check signatures, and the most that others had while somebody waited.
    pub fn check_figures(&self) -> (u64, u64) {
        self.checks.read()
    }

    /// Returns how joins of rooms of other servers go.
    pub fn join_figures(&self) -> &JoinFigures {
        &self.joins
    }

    /// Returns the way to other servers.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }
}

/// Writes a part of a path.
fn escaped(part: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(part, KEPT).to_string()
}

/// Writes the path of an endpoint of a room.
fn path(endpoint: &str, room: &RoomId, last: Option<&str>) -> String {
    let room = escaped(room.as_str());
    match last {
        Some(last) => format!("/_matrix/federation/{endpoint}/{room}/{}", escaped(last)),
        None => format!("/_matrix/federation/{endpoint}/{room}"),
    }
}

/// Writes the path of an endpoint about the state at an event.
fn path_at(endpoint: &str, room: &RoomId, event: &EventId) -> String {
    format!("{}?event_id={}", path(endpoint, room, None), escaped(event.as_str()))
}

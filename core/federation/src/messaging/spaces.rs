//! Asking another server what it knows of a space and the rooms in it.
//!
//! Source: Matrix v1.19, server-server, `GET /_matrix/federation/v1/hierarchy/{roomId}`.

use std::time::Duration;

use colonnade_model::ruma::{
    OwnedRoomId, RoomId, ServerName, api::client::space::SpaceHierarchyRoomsChunk,
    room::RoomSummary,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Messaging, MessagingError, path};
use crate::transport::Request;

/// How long a server may take: a client waits for several.
const QUESTION: Duration = Duration::from_secs(10);
/// How large its answer may be, in bytes.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Rooms of one answer that are looked at.
const ROOMS_MAX: usize = 500;

/// What another server says of a space.
#[derive(Debug, Clone)]
pub struct RemoteSpace {
    /// The room, and what its state says of the rooms in it.
    pub room: SpaceHierarchyRoomsChunk,
    /// Rooms in it that this server may see.
    pub children: Vec<RoomSummary>,
    /// Rooms in it that it may not see, wherever it asks.
    pub inaccessible: Vec<OwnedRoomId>,
}

impl Messaging {
    /// Asks a server for a space.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn space(
        &self,
        server: &ServerName,
        room: &RoomId,
        suggested_only: bool,
    ) -> Result<RemoteSpace, MessagingError> {
        #[derive(Deserialize)]
        struct Answer {
            room: SpaceHierarchyRoomsChunk,
            #[serde(default)]
            children: Vec<Box<RawValue>>,
            #[serde(default)]
            inaccessible_children: Vec<String>,
        }
        let address =
            format!("{}?suggested_only={suggested_only}", path("v1/hierarchy", room, None));
        let request = Request::get(address).within(QUESTION).taking(ANSWER_BYTES_MAX);
        let mut answer: Answer = self.transport.send(server, request).await?.json().await?;
        if answer.room.summary.room_id != room {
            return Err(MessagingError::Unusable("another room".to_owned()));
        }
        answer.room.children_state.truncate(ROOMS_MAX);
        // One that cannot be read is one that is not shown.
        let children = answer.children.iter().take(ROOMS_MAX);
        let children = children.filter_map(|child| serde_json::from_str(child.get()).ok());
        let inaccessible = answer.inaccessible_children.iter().take(ROOMS_MAX);
        Ok(RemoteSpace {
            children: children.collect(),
            inaccessible: inaccessible.filter_map(|room| RoomId::parse(room).ok()).collect(),
            room: answer.room,
        })
    }
}

//! Messages to devices of other servers, as these are sent them: by server, in pieces, each with an id by which
//! the other server takes it once.
//!
//! Source: Matrix v1.19, server-server, "Send-to-device messaging".

use std::collections::BTreeMap;

use colonnade_model::{
    MatrixError,
    ruma::{
        OwnedServerName, UserId, api::client::to_device::send_event_to_device::v3::Messages,
        to_device::DeviceIdOrAllDevices,
    },
};
use colonnade_rooms::{Error, Result};
use colonnade_storage::federation::outbox::DeviceMessage;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{ToDevice, require_sendable};

/// Bytes of messages in one EDU, but for the last of them: a transaction has room for several.
const PIECE_BYTES: usize = 256 * 1024;
/// Servers that one request may send to: those of a large room.
const SERVERS_MAX: usize = 5_000;
/// Characters of a message id: as many as the specification lets it have.
const ID_LEN: usize = 32;

/// The EDU.
#[derive(Serialize)]
struct Edu<'e> {
    edu_type: &'static str,
    content: Content<'e>,
}

#[derive(Serialize)]
struct Content<'e> {
    sender: &'e UserId,
    #[serde(rename = "type")]
    event_type: &'e str,
    message_id: String,
    messages: ByUser<'e>,
}

type ByUser<'e> = BTreeMap<&'e UserId, BTreeMap<&'e DeviceIdOrAllDevices, &'e RawValue>>;

/// What one EDU carries.
#[derive(Default)]
struct Piece<'e> {
    messages: ByUser<'e>,
    bytes: usize,
}

impl ToDevice {
    /// Makes what the users of other servers among the recipients are sent. `name` names the request, for ever.
    ///
    /// # Errors
    /// `M_TOO_LARGE`, `M_BAD_JSON`.
    pub(super) fn outgoing(
        &self,
        sender: &UserId,
        event_type: &str,
        name: &str,
        messages: &Messages,
    ) -> Result<Vec<DeviceMessage>> {
        let mut by_server: BTreeMap<OwnedServerName, Vec<Piece<'_>>> = BTreeMap::new();
        for (user, to_devices) in messages {
            let server = user.server_name();
            if server == self.context.server_name || !self.policy.permits(server) {
                continue;
            }
            let pieces =
                by_server.entry(server.to_owned()).or_insert_with(|| vec![Piece::default()]);
            for (device, content) in to_devices {
                let content = require_sendable(content)?;
                if pieces.last().is_some_and(|piece| piece.bytes >= PIECE_BYTES) {
                    pieces.push(Piece::default());
                }
                let Some(piece) = pieces.last_mut() else { continue };
                piece.bytes += content.get().len();
                piece.messages.entry(user).or_default().insert(device, content);
            }
        }
        if by_server.len() > SERVERS_MAX {
            return Err(MatrixError::too_large("too many servers are sent to at once").into());
        }
        let mut outgoing = Vec::new();
        for (server, pieces) in by_server {
            let pieces = pieces.into_iter().filter(|piece| !piece.messages.is_empty());
            for (number, piece) in pieces.enumerate() {
                let id = blake3::hash(format!("{name} {server} {number}").as_bytes());
                let message_id = id.to_hex().chars().take(ID_LEN).collect();
                let content = Content { sender, event_type, message_id, messages: piece.messages };
                let edu = Edu { edu_type: "m.direct_to_device", content };
                let body = serde_json::to_string(&edu)
                    .map_err(|error| Error::internal("render a to-device message", error))?;
                outgoing.push(DeviceMessage { server: server.clone(), body });
            }
        }
        Ok(outgoing)
    }
}

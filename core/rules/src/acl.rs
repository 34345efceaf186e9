//! Which servers may take part in a room: its `m.room.server_acl`.
//!
//! Asked of requests, of PDUs one by one and of EDUs that belong to a room, never of events that are in the room
//! (Matrix v1.19, server-server, §Server Access Control Lists). What of the event is malformed counts as not
//! given, as other servers have it: who cannot read a list of denied servers lets all of them in, and who cannot
//! read a list of allowed ones lets none in.

use colonnade_model::ruma::{ServerName, events::room::server_acl::RoomServerAclEventContent};
use serde_json::{Map, Value};

use crate::event::Event;

#[cfg(test)]
mod tests;

/// A room's access control list, read.
#[derive(Clone, Debug)]
pub struct ServerAcl(Option<RoomServerAclEventContent>);

impl ServerAcl {
    /// Reads the room's `m.room.server_acl` event; without one everybody may take part.
    pub fn read(event: Option<&Event>) -> Self {
        let Some(event) = event else { return Self(None) };
        let content: Map<String, Value> = event.content_as().unwrap_or_default();
        let ip_literals = content.get("allow_ip_literals").and_then(Value::as_bool);
        Self(Some(RoomServerAclEventContent::new(
            ip_literals.unwrap_or(true),
            patterns(content.get("allow")),
            patterns(content.get("deny")),
        )))
    }

    /// Tells whether a server may take part. Its port does not count, nor does the case of its name.
    ///
    /// Takes time with the length of the lists.
    pub fn is_allowed(&self, server: &ServerName) -> bool {
        self.0.as_ref().is_none_or(|acl| acl.is_allowed(server))
    }
}

fn patterns(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|pattern| pattern.as_str().map(str::to_owned)).collect()
}

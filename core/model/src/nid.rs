//! Compact local ids ("nids"): one integer type per kind of row, so they cannot be mixed up.
//!
//! A nid means something only in this server's database; it never reaches a client or a peer.
//! This file only names the types; storage hands the numbers out.

/// Defines one newtype over `i64`.
macro_rules! nids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl From<i64> for $name {
            fn from(nid: i64) -> Self {
                Self(nid)
            }
        }

        impl From<$name> for i64 {
            fn from(nid: $name) -> Self {
                nid.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

nids! {
    /// Identifies an event. Greater than the nids of its auth events and known previous events.
    EventNid,
    /// Identifies a room.
    RoomNid,
    /// Identifies a user, local or remote.
    UserNid,
    /// Identifies a server, ours or a peer.
    ServerNid,
    /// Identifies a room state. Greater than the nids of the states it shares nodes with.
    StateNid,
    /// Identifies a pair of event type and state key.
    StateKeyNid,
    /// Identifies an event type or a relation type.
    TypeNid,
    /// Identifies a device of a local user.
    DeviceNid,
}

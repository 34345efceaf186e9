//! What changing a membership stands on.

use std::sync::Arc;

use colonnade_federation::messaging::Messaging;
use colonnade_rooms::{Context, Rooms};

/// Changes memberships for users of this server, as far as the rooms allow.
pub struct MembershipService {
    pub(super) context: Arc<Context>,
    pub(super) rooms: Rooms,
    pub(super) messaging: Messaging,
}

impl MembershipService {
    /// Changes memberships of these rooms, and of those of other servers.
    pub fn new(context: Arc<Context>, rooms: Rooms, messaging: Messaging) -> Self {
        Self { context, rooms, messaging }
    }
}

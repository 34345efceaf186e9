//! What changing a membership stands on.

use std::sync::Arc;

use colonnade_rooms::{Context, Rooms};

/// Changes memberships for users of this server, as far as the rooms allow.
pub struct MembershipService {
    pub(super) context: Arc<Context>,
    pub(super) rooms: Rooms,
}

impl MembershipService {
    /// Changes memberships of these rooms.
    pub fn new(context: Arc<Context>, rooms: Rooms) -> Self {
        Self { context, rooms }
    }
}

//! What making and replacing rooms stands on.

use std::sync::Arc;

use colonnade_rooms::{Context, Rooms};

use crate::membership::MembershipService;

/// Makes rooms and replaces them.
pub struct RoomLifecycle {
    pub(super) context: Arc<Context>,
    pub(super) rooms: Rooms,
    pub(super) membership: Arc<MembershipService>,
}

impl RoomLifecycle {
    /// Makes rooms among these.
    pub fn new(context: Arc<Context>, rooms: Rooms, membership: Arc<MembershipService>) -> Self {
        Self { context, rooms, membership }
    }
}

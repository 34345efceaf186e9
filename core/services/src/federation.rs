//! What other servers ask of this one, and send to it: use cases over rooms, users and views. Every request is
//! proved to be of the server it names before it comes here.

mod coming;
mod edus;
mod going;
mod invited;
mod queries;
mod reads;
mod third_party;
mod transaction;

use std::sync::Arc;

use colonnade_federation::{messaging::Messaging, transaction::Transactions};
use colonnade_model::{
    MatrixError,
    ruma::{RoomId, ServerName, UserId},
};
use colonnade_rooms::{Context, Result, Room, Rooms};
use colonnade_users::{encryption::Encryption, presence::Presence, to_device::ToDevice};
use colonnade_views::{receipts::Receipts, typing::Typing};

pub use coming::{Joined, MembersTold};
pub use queries::AliasTarget;
pub use third_party::AddressInvite;

use crate::membership::MembershipService;

/// Who takes the ephemeral messages (EDUs) of other servers.
pub struct EduOwners {
    /// Who types.
    pub typing: Arc<Typing>,
    /// What was read.
    pub receipts: Arc<Receipts>,
    /// Who is there.
    pub presence: Arc<Presence>,
    /// Messages to devices.
    pub to_device: Arc<ToDevice>,
    /// Device lists and cross-signing keys.
    pub encryption: Arc<Encryption>,
}

/// Serves other servers.
pub struct FederationService {
    context: Arc<Context>,
    rooms: Rooms,
    membership: Arc<MembershipService>,
    messaging: Messaging,
    transactions: Transactions,
    owners: EduOwners,
}

impl FederationService {
    /// Serves other servers with these.
    pub fn new(
        context: Arc<Context>,
        rooms: Rooms,
        membership: Arc<MembershipService>,
        messaging: Messaging,
        owners: EduOwners,
    ) -> Self {
        let transactions = Transactions::new(context.db.clone());
        Self { context, rooms, membership, messaging, transactions, owners }
    }

    /// Returns how many turns there were to check signatures, and the most that others had while somebody waited.
    pub fn check_figures(&self) -> (u64, u64) {
        self.messaging.check_figures()
    }

    /// Returns how many joins of rooms of other servers are under way, and how many events all of them stored
    /// since the start.
    pub fn join_figures(&self) -> (u64, u64) {
        self.messaging.join_figures().read()
    }

    /// Returns a room that another server is in, and that lets it take part.
    async fn shared_room(&self, room_id: &RoomId, origin: &ServerName) -> Result<Arc<Room>> {
        let room = self.rooms.shared_room(room_id, origin).await?;
        self.require_admitted(&room, origin).await?;
        Ok(room)
    }

    /// Returns a room that somebody of this server is in, for somebody who wants to come in.
    async fn open_room(&self, room_id: &RoomId, origin: &ServerName) -> Result<Arc<Room>> {
        let unknown = || MatrixError::not_found("this server is in no such room");
        let room = self.rooms.find(room_id).await?.ok_or_else(unknown)?;
        if !self.rooms.is_resident(&room).await? {
            return Err(unknown().into());
        }
        self.require_admitted(&room, origin).await?;
        Ok(room)
    }

    async fn require_admitted(&self, room: &Room, origin: &ServerName) -> Result<()> {
        match self.messaging.admits(room, origin).await? {
            true => Ok(()),
            false => {
                Err(MatrixError::forbidden("your server may not take part in this room").into())
            }
        }
    }
}

/// Makes sure that a server speaks for a user.
fn require_own(user: &UserId, origin: &ServerName) -> Result<(), MatrixError> {
    match user.server_name() == origin {
        true => Ok(()),
        false => Err(MatrixError::forbidden(format!("{user} is not of your server"))),
    }
}

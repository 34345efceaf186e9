//! The ephemeral messages (EDUs) of a transaction, each given to its owner. One that cannot be right, that speaks
//! for users of another server, or of a room which its server is not in, is passed over and named in the log.
//!
//! Source: Matrix v1.19, server-server, "EDUs", "Send-to-device messaging".

use std::{collections::BTreeMap, sync::Arc};

use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId},
};
use colonnade_rooms::{Error, Result, Room};
use colonnade_users::{
    encryption::{DeviceListUpdate, SigningKeyUpdate},
    presence::RemotePresence,
    to_device::DirectToDevice,
};
use colonnade_views::{receipts::ReceivedReceipt, typing::RemoteTyping};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{FederationService, require_own};

/// Receipts that are taken of one EDU: a reader of every room of a large account sends as many.
const RECEIPTS_MAX: usize = 1_000;
/// Users whose presence is taken of one EDU.
const PRESENCE_MAX: usize = 1_000;
/// Bytes of the id of a thread: that of an event.
const THREAD_LEN_MAX: usize = 255;

/// An ephemeral message.
#[derive(Deserialize)]
struct Edu<'e> {
    edu_type: String,
    #[serde(borrow)]
    content: &'e RawValue,
}

/// The content of `m.presence` between servers.
#[derive(Deserialize)]
struct PresencePush {
    push: Vec<RemotePresence>,
}

/// The content of `m.receipt` between servers.
type ReceiptContent = BTreeMap<OwnedRoomId, RoomReceipts>;

/// The receipts of a room. Private ones are no other server's business, so only these are read.
#[derive(Deserialize)]
struct RoomReceipts {
    #[serde(rename = "m.read", default)]
    read: BTreeMap<OwnedUserId, UserReceipt>,
}

/// How far a user has read.
#[derive(Deserialize)]
struct UserReceipt {
    data: ReceiptData,
    event_ids: Vec<OwnedEventId>,
}

#[derive(Deserialize)]
struct ReceiptData {
    ts: u64,
    #[serde(default)]
    thread_id: Option<String>,
}

impl FederationService {
    /// Takes the ephemeral messages of a transaction, in their order.
    ///
    /// # Errors
    /// When the database fails: then the transaction has to be sent again.
    pub(super) async fn take_edus(
        &self,
        origin: &ServerName,
        edus: &[Box<RawValue>],
    ) -> Result<()> {
        for edu in edus {
            let edu: Edu<'_> = match serde_json::from_str(edu.get()) {
                Ok(edu) => edu,
                Err(error) => {
                    tracing::debug!(%origin, %error, "an EDU has no form");
                    continue;
                }
            };
            match self.take_edu(origin, &edu).await {
                Ok(()) => {}
                Err(Error::Client(why)) if why.status < 500 => {
                    tracing::debug!(%origin, edu_type = edu.edu_type, %why, "an EDU is passed over");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn take_edu(&self, origin: &ServerName, edu: &Edu<'_>) -> Result<()> {
        match &*edu.edu_type {
            "m.typing" => self.take_typing(origin, read(edu)?).await,
            "m.receipt" => self.take_receipts(origin, read(edu)?).await,
            "m.presence" => self.take_presence(origin, read(edu)?).await,
            "m.direct_to_device" => self.take_to_device(origin, read(edu)?).await,
            "m.device_list_update" => self.take_device_list(origin, read(edu)?).await,
            "m.signing_key_update" | "org.matrix.signing_key_update" => {
                self.take_signing_keys(origin, read(edu)?).await
            }
            _ => Err(MatrixError::unrecognized("not a type of EDU that is known here").into()),
        }
    }

    async fn take_typing(&self, origin: &ServerName, said: RemoteTyping) -> Result<()> {
        require_own(&said.user_id, origin)?;
        self.edu_room(&said.room_id, origin).await?;
        let user = self.known_user(&said.user_id).await?;
        self.owners.typing.receive(user, said).await
    }

    async fn take_receipts(&self, origin: &ServerName, content: ReceiptContent) -> Result<()> {
        let mut left = RECEIPTS_MAX;
        for (room_id, receipts) in content {
            // One room that does not know the server says nothing of the others.
            let room = match self.edu_room(&room_id, origin).await {
                Ok(room) => room,
                Err(Error::Client(why)) if why.status < 500 => {
                    tracing::debug!(%origin, %room_id, %why, "receipts are passed over");
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (user_id, receipt) in receipts.read.into_iter().take(left) {
                left -= 1;
                match self.take_receipt(origin, &room, &user_id, &receipt).await {
                    Ok(()) => {}
                    Err(Error::Client(why)) if why.status < 500 => {
                        tracing::debug!(%origin, %room_id, %user_id, %why, "a receipt is passed over");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    async fn take_receipt(
        &self,
        origin: &ServerName,
        room: &Room,
        user_id: &UserId,
        receipt: &UserReceipt,
    ) -> Result<()> {
        require_own(user_id, origin)?;
        let user = self.known_user(user_id).await?;
        self.rooms.joined_room(&room.room_id, user).await?;
        let UserReceipt { data, event_ids } = receipt;
        let thread = data.thread_id.as_deref();
        if thread.is_some_and(|thread| thread.len() > THREAD_LEN_MAX) {
            return Err(MatrixError::invalid_param("the id of the thread is too long").into());
        }
        let now_ms = self.context.now_ms();
        let ts = i64::try_from(data.ts).map_or(now_ms, |ts| ts.min(now_ms));
        // The last one says it all; the specification has one.
        let Some(event_id) = event_ids.last() else { return Ok(()) };
        let received = ReceivedReceipt { user, event_id, thread, ts };
        self.owners.receipts.receive(room, received).await
    }

    async fn take_presence(&self, origin: &ServerName, push: PresencePush) -> Result<()> {
        let PresencePush { mut push } = push;
        push.truncate(PRESENCE_MAX);
        push.retain(|said| said.user_id.server_name() == origin);
        self.owners.presence.receive(push).await
    }

    async fn take_to_device(&self, origin: &ServerName, received: DirectToDevice) -> Result<()> {
        require_own(&received.sender, origin)?;
        self.owners.to_device.receive(origin, received).await
    }

    async fn take_device_list(&self, origin: &ServerName, update: DeviceListUpdate) -> Result<()> {
        require_own(&update.user_id, origin)?;
        let user = self.known_user(&update.user_id).await?;
        self.owners.encryption.device_changed(user, update).await
    }

    async fn take_signing_keys(&self, origin: &ServerName, update: SigningKeyUpdate) -> Result<()> {
        require_own(&update.user_id, origin)?;
        let user = self.known_user(&update.user_id).await?;
        self.owners.encryption.signing_keys_changed(user, update).await
    }

    /// Returns a room that this server and the other are in, and that lets the other take part.
    async fn edu_room(&self, room_id: &RoomId, origin: &ServerName) -> Result<Arc<Room>> {
        let room = self.open_room(room_id, origin).await?;
        self.rooms.shared_room(room_id, origin).await?;
        Ok(room)
    }

    /// Returns what a user is known as here, who is in some room if he is known at all.
    async fn known_user(&self, user_id: &UserId) -> Result<UserNid> {
        let known = self.context.interned.find_user(user_id).await?;
        Ok(known.ok_or_else(|| MatrixError::not_found("no such user in any room"))?)
    }
}

fn read<T: DeserializeOwned>(edu: &Edu<'_>) -> Result<T, MatrixError> {
    serde_json::from_str(edu.content.get())
        .map_err(|error| MatrixError::bad_json(error.to_string()))
}

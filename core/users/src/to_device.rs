//! Messages from device to device: each arrives once, in order. A transaction id is used up in the
//! same transaction that fills the inboxes, and an inbox is emptied only by the device itself, when
//! it presents a sync token past a message.
//!
//! An inbox that is full takes no more until its device fetches some: the message is not delivered, as
//! to a device that does not exist, and the sender is not told. A device that lies in a drawer must not
//! keep a room from being talked in. One sender fills a share of it at most.
//!
//! Source: Matrix v1.19, client-server, "Send-to-Device messaging".

mod outgoing;
mod receive;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use colonnade_federation::transport::Policy;
use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError, json,
    nid::{DeviceNid, UserNid},
    ruma::{
        OwnedDeviceId, UserId,
        api::client::to_device::send_event_to_device::v3::{Messages, Request},
        events::AnyToDeviceEventContent,
        serde::Raw,
        to_device::DeviceIdOrAllDevices,
    },
    stream::Position,
};
use colonnade_rooms::{Context, Error, Result};
use colonnade_storage::{
    database::stored_json,
    delivery::to_device::{self, Message, Sent, Txn},
};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use receive::DirectToDevice;

/// Bytes of one message: the limit of an event, which is what gateways and peers are built for.
const CONTENT_BYTES_MAX: usize = 65_536;
/// Messages of one request, and devices named by it: every device of a large room, in one transaction.
const MESSAGES_MAX: usize = 20_000;
/// Characters of an event type or transaction id.
const NAME_LEN_MAX: usize = 255;
/// How long a transaction id is remembered, in milliseconds: clients retry for minutes, not days.
const TXN_LIFETIME_MS: i64 = 24 * 60 * 60 * 1_000;
/// Devices whose acknowledged position is kept in memory; about 50 bytes each.
const ACKNOWLEDGED_MAX: usize = 50_000;

/// A message waiting for a device.
#[derive(Debug, Clone)]
pub struct ToDeviceMessage {
    /// Its place in the to-device stream.
    pub pos: Position,
    /// The event: `content`, `sender`, `type`.
    pub event: Box<RawValue>,
}

/// Messages to devices.
pub struct ToDevice {
    context: Arc<Context>,
    /// Which servers may be sent to.
    policy: Policy,
    /// Up to where inboxes are known to be empty.
    acknowledged: Cache<DeviceNid, Position>,
}

/// The event as the recipient sees it.
#[derive(Serialize)]
struct Event<'e> {
    content: &'e RawValue,
    sender: &'e str,
    #[serde(rename = "type")]
    event_type: &'e str,
}

impl ToDevice {
    /// Begins with no inbox that is known to be empty.
    pub fn new(context: Arc<Context>) -> Self {
        let policy = Policy::new(&context.settings.federation);
        Self { context, policy, acknowledged: Cache::new(ACKNOWLEDGED_MAX) }
    }

    /// Sends messages to devices, here and on other servers. Recipients that do not exist, or are of a server
    /// that is not spoken with, are passed over; a transaction id that was used before sends nothing.
    ///
    /// # Errors
    /// `M_TOO_LARGE` when a message is too large, or there are or may be too many.
    pub async fn send(&self, session: &Session, request: Request) -> Result<()> {
        let Request { event_type, txn_id, messages } = request;
        let (event_type, txn_id) = (event_type.to_string(), txn_id.to_string());
        if event_type.len() > NAME_LEN_MAX || txn_id.len() > NAME_LEN_MAX {
            return Err(MatrixError::invalid_param("the type or transaction id is too long").into());
        }
        let (sender, own) = (&session.user_id, Some(session.user));
        let here = self.addressed(sender, own, &event_type, &messages).await?;
        let now_ms = self.context.now_ms();
        let name = format!("{} {event_type} {txn_id} {now_ms}", session.device);
        let elsewhere = self.outgoing(sender, &event_type, &name, &messages)?;
        let txn = Txn {
            device: session.device,
            event_type,
            txn_id,
            ts: now_ms,
            forget_before_ts: now_ms - TXN_LIFETIME_MS,
        };
        let (sender, limits) = (session.user, self.context.settings.limits.inbox());
        let send = self.context.db.write(move |tx| {
            Box::pin(async move { to_device::send(tx, txn, sender, here, elsewhere, limits).await })
        });
        if let Sent::Now { full } = send.await?
            && full > 0
        {
            tracing::debug!(sender = %session.user_id, full, "inboxes are full: not delivered");
        }
        Ok(())
    }

    /// Finds the devices behind the names. `own` is the sender, if that is a user of this server.
    async fn addressed(
        &self,
        sender: &UserId,
        own: Option<UserNid>,
        event_type: &str,
        messages: &Messages,
    ) -> Result<Vec<Message>> {
        // Also who exists nowhere has to be looked for.
        if messages.values().map(|to_user| to_user.len().max(1)).sum::<usize>() > MESSAGES_MAX {
            return Err(MatrixError::too_large("too many devices are named at once").into());
        }
        let here = messages.keys().map(|user_id| &**user_id);
        let here = here.filter(|user_id| user_id.server_name() == self.context.server_name);
        let users = self.context.interned.find_users(here).await?;
        let users: HashMap<UserNid, &UserId> =
            users.into_iter().map(|(user_id, nid)| (nid, user_id)).collect();
        let nids: Vec<UserNid> = users.keys().copied().collect();
        let mut addressed = Vec::new();
        for found in to_device::devices_of(&self.context.db, &nids).await? {
            let to_user = users.get(&found.user).and_then(|user_id| messages.get(*user_id));
            let Some(to_user) = to_user else { continue };
            let by_name = DeviceIdOrAllDevices::DeviceId(OwnedDeviceId::from(found.device_id));
            let content = to_user.get(&by_name);
            let content = content.or_else(|| to_user.get(&DeviceIdOrAllDevices::AllDevices));
            if let Some(content) = content {
                let json = render(sender, event_type, content)?;
                let is_own = own == Some(found.user);
                addressed.push(Message { device: found.device, json, is_own });
            }
            if addressed.len() > MESSAGES_MAX {
                return Err(MatrixError::too_large("too many messages at once").into());
            }
        }
        Ok(addressed)
    }

    /// Returns at most `limit` messages for `device` after `after` up to `upto`, in order. When
    /// there are `limit`, the device has to be given a token at the last one's position.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn messages(
        &self,
        device: DeviceNid,
        after: Position,
        upto: Position,
        limit: usize,
    ) -> Result<Vec<ToDeviceMessage>> {
        if after >= upto {
            return Ok(Vec::new());
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let waiting = to_device::messages(&self.context.db, device, after, upto, limit).await?;
        let messages = waiting.into_iter().map(|message| {
            // Its place is taken even if nobody can read it, so that the next ones follow.
            ToDeviceMessage { pos: message.pos, event: event_of(message.json) }
        });
        Ok(messages.collect())
    }

    /// Deletes what `device` has received: it has presented a token at `upto`. Costs nothing when
    /// that is known already, one probe when nothing waits there; may be called twice.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn acknowledge(&self, device: DeviceNid, upto: Position) -> Result<()> {
        if self.acknowledged.get(&device).is_some_and(|known| known >= upto) {
            return Ok(());
        }
        let mut more = to_device::holds_any(&self.context.db, device, upto).await?;
        while more {
            let delete = self.context.db.write(move |tx| {
                Box::pin(async move { to_device::delete_some(tx, device, upto).await })
            });
            more = delete.await?;
        }
        // Nothing is ever put before a position that was reached, so this stays true.
        self.acknowledged.insert(device, upto);
        Ok(())
    }
}

/// Returns a stored event. One whose content no client can read, which older versions took, has none.
fn event_of(json: String) -> Box<RawValue> {
    #[derive(Deserialize, Serialize)]
    struct Head {
        sender: String,
        #[serde(rename = "type")]
        event_type: String,
        #[serde(default, skip_deserializing)]
        content: BTreeMap<String, String>,
    }
    if !json::is_readable(&json)
        && let Ok(head) = serde_json::from_str::<Head>(&json)
        && let Ok(event) = serde_json::value::to_raw_value(&head)
    {
        return event;
    }
    stored_json::readable(json, "to_device")
}

fn render(
    sender: &UserId,
    event_type: &str,
    content: &Raw<AnyToDeviceEventContent>,
) -> Result<String> {
    let content = require_sendable(content)?;
    let event = Event { content, sender: sender.as_str(), event_type };
    serde_json::to_string(&event)
        .map_err(|error| Error::internal("render a to-device message", error))
}

/// Makes sure that a message is an object and not too large.
fn require_sendable(content: &Raw<AnyToDeviceEventContent>) -> Result<&RawValue> {
    let content = content.json();
    if content.get().len() > CONTENT_BYTES_MAX {
        let why = format!("a message is larger than {CONTENT_BYTES_MAX} bytes");
        return Err(MatrixError::too_large(why).into());
    }
    if !content.get().starts_with('{') {
        return Err(MatrixError::bad_json("a message is not a JSON object").into());
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::user_id;
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    fn rendered(content: &Value) -> Result<String> {
        let content = Raw::from_json(to_raw_value(content).unwrap());
        render(user_id!("@a:b"), "m.test", &content)
    }

    #[test]
    fn a_message_has_its_sender_and_its_type() {
        let text = rendered(&json!({ "x": 1, "sender": "@other:b" })).unwrap();
        let event: Value = serde_json::from_str(event_of(text).get()).unwrap();
        let content = json!({ "x": 1, "sender": "@other:b" });
        assert_eq!(event, json!({ "sender": "@a:b", "type": "m.test", "content": content }));
    }

    #[test]
    fn a_message_is_an_object_and_not_too_large() {
        for (content, expected) in [
            (json!([1]), "M_BAD_JSON"),
            (json!("text"), "M_BAD_JSON"),
            (json!({ "x": "y".repeat(CONTENT_BYTES_MAX) }), "M_TOO_LARGE"),
        ] {
            let Err(Error::Client(error)) = rendered(&content) else { panic!("{expected}") };
            assert_eq!(error.errcode, expected);
        }
    }
}

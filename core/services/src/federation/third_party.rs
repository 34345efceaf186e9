//! Invitations by a third-party id: whoever was invited by an address has bound it to a user, and the invitation
//! becomes one of that user.
//!
//! Source: Matrix v1.19, server-server, "Third-party invites"; client-server, "Third-party invites".

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{
        CanonicalJsonObject, OwnedRoomId, OwnedUserId, ServerName, UserId,
        serde::Base64,
        signatures::{PublicKeyMap, PublicKeySet, verify_json},
    },
};
use colonnade_rooms::{
    Result, Room,
    proposal::{content, member},
};
use colonnade_storage::users::accounts;
use serde_json::{Value, json};

use super::FederationService;
use crate::membership::told;

/// Keys of an invitation that are looked at.
const KEYS_MAX: usize = 5;
/// Signatures that are looked at.
const SIGNATURES_MAX: usize = 5;
/// Invitations that one binding of an address brings.
const INVITES_MAX: usize = 20;

/// An invitation that was sent to an address.
#[derive(Debug, Clone)]
pub struct AddressInvite {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who invited.
    pub sender: OwnedUserId,
    /// Whom the address belongs to.
    pub target: OwnedUserId,
    /// A name of the address that may be shown.
    pub display_name: String,
    /// What the server of addresses signed: `mxid`, `token` and `signatures`.
    pub signed: Value,
}

impl FederationService {
    /// Invites the user whom an address belongs to, on the word of his server.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_FORBIDDEN` when the invitation to the address does not allow it, `M_INVALID_PARAM`.
    pub async fn exchange(&self, origin: &ServerName, invite: &AddressInvite) -> Result<()> {
        let room = self.open_room(&invite.room_id, origin).await?;
        self.invite_bound(&room, invite).await
    }

    /// Takes note that an address was bound to a user of this server: what he was invited to by it he is invited
    /// to.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such user.
    pub async fn bound(&self, user: &UserId, invites: &[AddressInvite]) -> Result<()> {
        let unknown = || MatrixError::not_found("there is no such user here");
        let nid = self.context.interned.find_user(user).await?.ok_or_else(unknown)?;
        let account = accounts::find(&self.context.db, nid).await?;
        if !self.rooms.is_local(user) || account.is_none() {
            return Err(unknown().into());
        }
        for invite in invites.iter().filter(|invite| invite.target == user).take(INVITES_MAX) {
            if let Err(error) = self.follow(invite).await {
                let room = &invite.room_id;
                tracing::info!(%room, %user, %error, "an invitation to an address leads nowhere");
            }
        }
        Ok(())
    }

    /// Turns an invitation to an address into one of its user, here or at the server it came from.
    async fn follow(&self, invite: &AddressInvite) -> Result<()> {
        if self.rooms.is_local(&invite.sender) {
            let unknown = || MatrixError::not_found("this server is in no such room");
            let room = self.rooms.find(&invite.room_id).await?.ok_or_else(unknown)?;
            return self.invite_bound(&room, invite).await;
        }
        let server = invite.sender.server_name();
        self.messaging.exchange(server, &invite.room_id, &self.partial(invite)).await.map_err(told)
    }

    fn partial(&self, invite: &AddressInvite) -> Value {
        json!({
            "type": "m.room.member",
            "room_id": invite.room_id,
            "sender": invite.sender,
            "state_key": invite.target,
            "content": shown(invite),
        })
    }

    async fn invite_bound(&self, room: &Arc<Room>, invite: &AddressInvite) -> Result<()> {
        let AddressInvite { sender, target, signed, .. } = invite;
        let forbidden = |why: &str| MatrixError::forbidden(why);
        if !self.rooms.is_local(sender) {
            return Err(forbidden("whoever invited is not of this server").into());
        }
        if signed["mxid"] != json!(target) {
            return Err(forbidden("the address is another user's").into());
        }
        let token = signed["token"].as_str().unwrap_or_default();
        let kind = "m.room.third_party_invite";
        let invited = self.rooms.state_event(room.nid, kind, token).await?;
        let invited = invited.ok_or_else(|| forbidden("nobody invited this address"))?;
        let said: Value = invited.event.content_as().unwrap_or_default();
        if invited.event.sender() != sender || !self.is_signed(&said, signed).await {
            return Err(forbidden("the address is not proved to be the user's").into());
        }
        self.membership.require_invitable(sender, target).await?;
        let content = content(shown(invite))?;
        match self.rooms.is_local(target) {
            true => {
                self.rooms.propose(room, member(sender, target, content)).await?;
                Ok(())
            }
            false => self.membership.invite_elsewhere(room, sender, target, content).await,
        }
    }

    /// Tells whether one of the keys of an invitation, which is still good, signed whose the address is.
    async fn is_signed(&self, said: &Value, signed: &Value) -> bool {
        let first = json!({ "public_key": said["public_key"],
            "key_validity_url": said["key_validity_url"] });
        let further = said["public_keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        let keys = std::iter::once(&first).chain(further).take(KEYS_MAX);
        for key in keys.filter(|key| has_signed(key, signed)) {
            match key["key_validity_url"].as_str() {
                None => return true,
                Some(url) if self.messaging.is_key_good(url, text(key)).await => return true,
                Some(_) => {}
            }
        }
        false
    }
}

/// The content of the event by which the user is invited.
fn shown(invite: &AddressInvite) -> Value {
    json!({
        "membership": "invite",
        "third_party_invite": { "display_name": invite.display_name, "signed": invite.signed },
    })
}

fn text(key: &Value) -> &str {
    key["public_key"].as_str().unwrap_or_default()
}

/// Tells whether a key made one of the signatures.
fn has_signed(key: &Value, signed: &Value) -> bool {
    let Ok(key) = Base64::parse(text(key)) else { return false };
    let Ok(object) = serde_json::from_value::<CanonicalJsonObject>(signed.clone()) else {
        return false;
    };
    let servers = signed["signatures"].as_object().into_iter().flatten();
    let named = servers.flat_map(|(server, signatures)| {
        signatures.as_object().into_iter().flatten().map(move |(key_id, _)| (server, key_id))
    });
    named.take(SIGNATURES_MAX).any(|(server, key_id)| {
        let set = PublicKeySet::from([(key_id.clone(), key.clone())]);
        let keys = PublicKeyMap::from([(server.clone(), set)]);
        verify_json(&keys, &object).is_ok()
    })
}

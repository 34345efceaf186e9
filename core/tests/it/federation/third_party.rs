//! Invitations to an address that turns out to belong to a user of another server.

use colonnade_federation::transport::{Request, TransportError};
use colonnade_model::ruma::{
    CanonicalJsonObject,
    serde::Base64,
    signatures::{Ed25519KeyPair, sign_json},
};
use colonnade_rules::event::complete;
use colonnade_testkit::{
    federation::Federation,
    peer::{self, Asked, PeerAddress},
};
use serde_json::{Value, json};

use super::rooms::{create, encode, join, membership, path, rooms_of, say, sees, until};

const ONBIND: &str = "/_matrix/federation/v1/3pid/onbind";

/// Who knows whose an address is.
struct AddressBook {
    key: Ed25519KeyPair,
}

impl AddressBook {
    fn new() -> Self {
        let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "0".to_owned()).unwrap();
        Self { key }
    }

    fn public_key(&self) -> String {
        Base64::<colonnade_model::ruma::serde::base64::Standard>::new(
            self.key.public_key().to_vec(),
        )
        .encode()
    }

    /// What it signs when the address behind a token is a user's.
    fn signed(&self, user: &str, token: &str) -> Value {
        let object = json!({ "mxid": user, "token": token });
        let mut object: CanonicalJsonObject = serde_json::from_value(object).unwrap();
        sign_json("addresses.org", &self.key, &mut object).unwrap();
        serde_json::to_value(object).unwrap()
    }
}

fn bound(room: &str, signed: &Value) -> Value {
    json!({ "medium": "email", "address": "bob@example.org", "mxid": "@bob:hs2", "invites": [{
        "medium": "email", "address": "bob@example.org", "mxid": "@bob:hs2", "room_id": room,
        "sender": "@alice:hs1", "signed": signed,
    }] })
}

#[tokio::test]
async fn an_address_that_is_bound_is_invited_unless_the_proof_is_bad() {
    let keys = PeerAddress::at("127.0.0.11", "127.0.0.11").await;
    let at = keys.address();
    let servers = Federation::start(2).await;
    let _keys = keys.answer(&servers.authority, |asked: &Asked| {
        let valid = json!({ "valid": !asked.target.starts_with("/revoked?") });
        peer::ok("content-type: application/json\r\n", valid.to_string().as_bytes())
    });
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let (book, other) = (AddressBook::new(), AddressBook::new());
    let anybody = servers[1].anonymous();
    for (number, (what, signed, url)) in [
        ("revoked", book.signed("@bob:hs2", "t"), "revoked"),
        ("another key", other.signed("@bob:hs2", "t"), "good"),
        ("another user", book.signed("@carol:hs2", "t"), "good"),
        ("another token", book.signed("@bob:hs2", "u"), "good"),
        ("right", book.signed("@bob:hs2", "t"), "good"),
    ]
    .into_iter()
    .enumerate()
    {
        let room = create(&alice, json!({ "preset": "private_chat", "room_version": "11" })).await;
        let key = json!({ "display_name": "b...", "public_key": book.public_key(),
            "key_validity_url": format!("https://{at}/{url}") });
        alice.put(&path(&room, "state/m.room.third_party_invite/t"), key).await.ok();
        let method = if number % 2 == 0 { "PUT" } else { "POST" };
        let body = bound(&room, &signed);
        let told = match method {
            "PUT" => anybody.put(ONBIND, body).await,
            _ => anybody.post(ONBIND, body).await,
        };
        assert_eq!(told.ok(), json!({}));
        if what != "right" {
            assert_eq!(membership(&alice, &room, "@bob:hs2").await, "none", "{what}");
            continue;
        }
        until(|| async { rooms_of(&bob, "invite").await[&room].is_object() }).await;
        join(&bob, &room, "hs1").await;
        say(&bob, &room, "found by my address").await;
        sees(&alice, &room, "found by my address").await;
    }
    let nobody = json!({ "medium": "email", "address": "x", "mxid": "@nobody:hs2", "invites": [] });
    anybody.put(ONBIND, nobody).await.err(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn whoever_invites_is_of_the_server_that_says_so() {
    let servers = Federation::start(3).await;
    let bob = servers[1].user("bob").await;
    // No signature of the sender is asked for where an address was invited.
    let book = AddressBook::new();
    let third = json!({ "display_name": "b...", "signed": book.signed("@bob:hs2", "t") });
    let room = "!forged:hs1";
    let invite = json!({ "type": "m.room.member", "room_id": room, "sender": "@alice:hs1",
        "state_key": "@bob:hs2", "origin_server_ts": 1, "depth": 5,
        "auth_events": [], "prev_events": [],
        "content": { "membership": "invite", "third_party_invite": third } });
    let forger = &servers[2].inside().await.services;
    let rules = colonnade_model::ruma::RoomVersionId::V11.rules().unwrap();
    let key = forger.context.signing_key.current();
    let invite = serde_json::from_value(invite).unwrap();
    let name = &forger.context.server_name;
    let invite = complete(invite, name, &*key, &rules, &*forger.context.random).unwrap();
    let address = format!(
        "/_matrix/federation/v2/invite/{}/{}",
        encode(room),
        encode(invite.event_id().as_str())
    );
    let event: Value = serde_json::from_str(invite.json()).unwrap();
    let body = json!({ "room_version": "11", "event": event, "invite_room_state": [] });
    let request = Request::put(address, &body).unwrap();
    let told = forger.transport.send("hs2".try_into().unwrap(), request).await.unwrap_err();
    let TransportError::Status { status, errcode, .. } = told else { panic!("{told}") };
    assert_eq!((status, errcode.as_deref()), (403, Some("M_FORBIDDEN")));
    assert!(rooms_of(&bob, "invite").await[room].is_null());
}

//! Two users on two servers, each with a real client: their keys cross, and so does what they say, to every device
//! that is there and to no other. The servers are two of ours, or those that COLONNADE_TEST_SERVERS names.

use colonnade_sdk_tests::{Device, Server, eventually};
use matrix_sdk::ruma::{
    OwnedRoomId, RoomVersionId,
    api::client::room::create_room,
    assign,
    events::{InitialStateEvent, room::encryption::RoomEncryptionEventContent},
};

/// Alice at one server, Bob at another, both in an encrypted room.
struct Street {
    _servers: Vec<Server>,
    bobs_url: String,
    bobs_name: String,
    alice: Device,
    bob: Device,
    room: OwnedRoomId,
}

impl Street {
    async fn build() -> Self {
        let (servers, urls) = match std::env::var("COLONNADE_TEST_SERVERS") {
            Ok(named) => (Vec::new(), named.split(' ').map(str::to_owned).collect()),
            Err(_) => {
                let servers = Server::start_pair().await;
                let urls: Vec<String> = servers.iter().map(Server::url).collect();
                (servers, urls)
            }
        };
        // Servers that run already have users of an earlier test.
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_nanos();
        let bobs_name = format!("bob{since}");
        let alice = Device::register(&urls[0], &format!("alice{since}")).await;
        let bob = Device::register(&urls[1], &bobs_name).await;
        for device in [&alice, &bob] {
            device.make_identity().await;
        }
        let room = invite(&alice, &bob).await;
        for device in [&alice, &bob] {
            device.room(&room, 2).await;
        }
        Self { _servers: servers, bobs_url: urls[1].clone(), bobs_name, alice, bob, room }
    }

    /// Lets `from` say something that all of `to` read, encrypted.
    async fn talk(&self, from: &Device, to: &[&Device], text: &str) {
        let event_id = from.say(&self.room, text).await;
        for device in to {
            let seen = device.reads(&self.room, &event_id).await;
            assert!(seen.was_encrypted, "{:?}", seen.json);
            assert_eq!(seen.json["content"]["body"], text);
        }
    }
}

async fn invite(alice: &Device, bob: &Device) -> OwnedRoomId {
    let encryption = RoomEncryptionEventContent::with_recommended_defaults();
    let encryption = InitialStateEvent::with_empty_state_key(encryption).to_raw_any();
    let request = assign!(create_room::v3::Request::new(), {
        invite: vec![bob.user_id().to_owned()],
        initial_state: vec![encryption],
        // The newest that every server knows.
        room_version: Some(RoomVersionId::V11),
    });
    let room = alice.client.create_room(request).await.expect("a room");
    let room_id = room.room_id().to_owned();
    eventually("the invitation arrives", || async { bob.client.get_room(&room_id) }).await;
    bob.client.join_room_by_id(&room_id).await.expect("joined");
    room_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_is_read_on_the_other_server_and_on_a_device_that_came_later() {
    let street = Street::build().await;
    let Street { alice, bob, .. } = &street;
    street.talk(alice, &[alice, bob], "hello over there").await;
    street.talk(bob, &[alice, bob], "hello yourself").await;
    let phone = Device::login(&street.bobs_url, &street.bobs_name).await;
    phone.room(&street.room, 2).await;
    let phone_id = phone.client.device_id().expect("a device").to_owned();
    eventually("Alice hears of Bob's new device", || async {
        alice.client.encryption().get_device(bob.user_id(), &phone_id).await.ok()?
    })
    .await;
    street.talk(alice, &[bob, &phone], "for both of you").await;
    street.talk(&phone, &[alice, bob], "from the phone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_one_verified_is_seen_verified_from_the_other_server() {
    let street = Street::build().await;
    let Street { alice, bob, .. } = &street;
    eventually("Alice sees Bob's device signed by him", || async {
        alice.sees_signed(bob).await.then_some(())
    })
    .await;
    let phone = Device::login(&street.bobs_url, &street.bobs_name).await;
    phone.room(&street.room, 2).await;
    let phone_id = phone.client.device_id().expect("a device").to_owned();
    let known = eventually("Alice hears of Bob's new device", || async {
        alice.client.encryption().get_device(bob.user_id(), &phone_id).await.ok()?
    })
    .await;
    assert!(!known.is_cross_signed_by_owner());
    bob.verify_own(&phone).await;
    eventually("Alice sees that Bob signed it", || async {
        alice.sees_signed(&phone).await.then_some(())
    })
    .await;

    let identity = alice.client.encryption().request_user_identity(bob.user_id()).await;
    let identity = identity.expect("an answer").expect("Bob's keys");
    assert!(!identity.is_verified());
    identity.verify().await.expect("verified");
    eventually("Alice sees Bob verified", || async {
        let found = alice.client.encryption().get_user_identity(bob.user_id()).await.ok()??;
        found.is_verified().then_some(())
    })
    .await;
    let back = bob.client.encryption().request_user_identity(alice.user_id()).await;
    assert!(!back.expect("an answer").expect("Alice's keys").is_verified());
}

//! Two users with two devices each in an encrypted room: cross-signing, messages, attachments,
//! edits, reactions, threads, redaction, receipts, and a server that dies in the middle of it.

use colonnade_sdk_tests::{Device, Server, eventually};
use matrix_sdk::{
    attachment::AttachmentConfig,
    media::{MediaFormat, MediaRequestParameters},
    room::edit::EditedContent,
    room::reply::{EnforceThread, Reply},
    ruma::{
        EventId, OwnedRoomId, RoomId,
        api::client::{receipt::create_receipt::v3::ReceiptType, room::create_room},
        assign,
        events::{
            AnyInitialStateEvent, InitialStateEvent,
            reaction::ReactionEventContent,
            receipt::{ReceiptThread, ReceiptType as StoredReceiptType},
            relation::Annotation,
            room::{
                encryption::RoomEncryptionEventContent,
                message::{
                    AddMentions, MessageType, ReplyWithinThread, RoomMessageEventContent,
                    RoomMessageEventContentWithoutRelation,
                },
            },
        },
    },
};

/// Two users, two devices each, verified; both users in an encrypted room. One device syncs by sliding sync.
struct House {
    server: Server,
    alice: Device,
    alice_phone: Device,
    bob: Device,
    bob_phone: Device,
    room: OwnedRoomId,
}

impl House {
    async fn furnish() -> Self {
        let server = Server::start().await;
        let url = server.url();
        let alice = Device::register(&url, "alice").await;
        let bob = Device::register(&url, "bob").await;
        for first in [&alice, &bob] {
            first.client.encryption().bootstrap_cross_signing(None).await.expect("the first keys");
        }
        let alice_phone = Device::login(&url, "alice").await;
        let bob_phone = Device::login_sliding(&url, "bob").await;
        let room = make_room(&alice, &bob).await;
        for device in [&alice, &alice_phone, &bob, &bob_phone] {
            device.room(&room, 2).await;
        }
        Self { server, alice, alice_phone, bob, bob_phone, room }
    }

    fn devices(&self) -> [&Device; 4] {
        [&self.alice, &self.alice_phone, &self.bob, &self.bob_phone]
    }

    /// Waits until every device reads an event as an encrypted message with this text.
    async fn all_read(&self, event_id: &EventId, text: &str) {
        for device in self.devices() {
            let seen = device.reads(&self.room, event_id).await;
            assert!(seen.was_encrypted, "{:?}", seen.json);
            assert_eq!(seen.json["content"]["body"], text);
        }
    }
}

async fn make_room(alice: &Device, bob: &Device) -> OwnedRoomId {
    let encryption = RoomEncryptionEventContent::with_recommended_defaults();
    let encryption = InitialStateEvent::with_empty_state_key(encryption).to_raw_any();
    let initial_state: Vec<matrix_sdk::ruma::serde::Raw<AnyInitialStateEvent>> = vec![encryption];
    let request = assign!(create_room::v3::Request::new(), {
        invite: vec![bob.user_id().to_owned()],
        initial_state,
    });
    let room = alice.client.create_room(request).await.expect("a room");
    let room_id = room.room_id().to_owned();
    eventually("the invitation arrives", || async { bob.client.get_room(&room_id) }).await;
    bob.client.join_room_by_id(&room_id).await.expect("joined");
    room_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_verified_by_cross_signing() {
    let house = House::furnish().await;
    let House { alice, alice_phone, bob, bob_phone, .. } = &house;
    assert!(!bob.sees_signed(alice_phone).await);
    alice.verify_own(alice_phone).await;
    bob.verify_own(bob_phone).await;
    for viewer in house.devices() {
        for device in house.devices() {
            eventually("everybody sees every device signed by its owner", || async {
                viewer.sees_signed(device).await.then_some(())
            })
            .await;
        }
    }
    // The new device is given the private keys by the old one.
    for phone in [alice_phone, bob_phone] {
        eventually("the phone has the private keys", || async {
            let status = phone.client.encryption().cross_signing_status().await?;
            status.is_complete().then_some(())
        })
        .await;
    }
    // Alice verifies Bob on one device, and her other device sees it; Bob does not.
    let identity = alice.client.encryption().request_user_identity(bob.user_id()).await;
    let identity = identity.expect("an answer").expect("Bob's keys");
    assert!(!identity.is_verified());
    identity.verify().await.expect("verified");
    for device in [alice, alice_phone] {
        eventually("both of Alice's devices see Bob verified", || async {
            let encryption = device.client.encryption();
            let identity = encryption.get_user_identity(bob.user_id()).await.ok()??;
            identity.is_verified().then_some(())
        })
        .await;
    }
    let encryption = bob.client.encryption();
    let identity = encryption.request_user_identity(alice.user_id()).await.expect("an answer");
    assert!(!identity.expect("Alice's keys").is_verified());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_reaches_every_device() {
    let house = House::furnish().await;
    let House { alice, alice_phone, bob, bob_phone, room, .. } = &house;
    let hello = alice.say(room, "hello").await;
    house.all_read(&hello, "hello").await;
    let answer = bob_phone.say(room, "hello yourself").await;
    house.all_read(&answer, "hello yourself").await;
    edit(&house, &hello).await;
    react(&house, &answer).await;
    thread(&house, &hello).await;
    attach(&house).await;

    let wrong = alice_phone.say(room, "not meant for you").await;
    house.all_read(&wrong, "not meant for you").await;
    let in_room = alice.client.get_room(room).expect("a room");
    in_room.redact(&wrong, Some("wrong room"), None).await.expect("redacted");
    for device in house.devices() {
        eventually("the event is redacted for everybody", || async {
            let history = device.history(room).await;
            let seen = history.into_iter().find(|seen| seen.json["event_id"] == wrong.as_str())?;
            let is_redacted = seen.json["unsigned"]["redacted_because"].is_object();
            (is_redacted && seen.json["content"] == serde_json::json!({})).then_some(())
        })
        .await;
    }

    let in_room = bob.client.get_room(room).expect("a room");
    let sent =
        in_room.send_single_receipt(ReceiptType::Read, ReceiptThread::Unthreaded, answer.clone());
    sent.await.expect("a receipt");
    for device in [alice, alice_phone, bob_phone] {
        let in_room = device.client.get_room(room).expect("a room");
        eventually("the receipt arrives", || async {
            let receipt = in_room
                .load_user_receipt(
                    StoredReceiptType::Read,
                    ReceiptThread::Unthreaded,
                    bob.user_id(),
                )
                .await;
            receipt.ok()?.filter(|(event_id, _)| *event_id == answer)
        })
        .await;
    }
}

async fn edit(house: &House, hello: &EventId) {
    let in_room = house.alice.client.get_room(&house.room).expect("a room");
    let new = RoomMessageEventContentWithoutRelation::text_plain("hello everybody");
    let content = in_room.make_edit_event(hello, EditedContent::RoomMessage(new)).await;
    let sent = in_room.send(content.expect("an edit")).await.expect("sent");
    for device in house.devices() {
        let seen = device.reads(&house.room, &sent.response.event_id).await;
        assert_eq!(seen.json["content"]["m.new_content"]["body"], "hello everybody");
        let relation = &seen.json["content"]["m.relates_to"];
        assert_eq!(relation["rel_type"], "m.replace");
        assert_eq!(relation["event_id"], hello.as_str());
    }
}

async fn react(house: &House, answer: &EventId) {
    let in_room = house.alice_phone.client.get_room(&house.room).expect("a room");
    let content = ReactionEventContent::new(Annotation::new(answer.to_owned(), "🏛".to_owned()));
    let sent = in_room.send(content).await.expect("sent");
    for device in house.devices() {
        let seen = device.reads(&house.room, &sent.response.event_id).await;
        assert_eq!(seen.json["content"]["m.relates_to"]["key"], "🏛");
    }
}

async fn thread(house: &House, root: &EventId) {
    let in_room = house.bob.client.get_room(&house.room).expect("a room");
    let content = RoomMessageEventContentWithoutRelation::text_plain("aside");
    let reply = Reply {
        event_id: root.to_owned(),
        enforce_thread: EnforceThread::Threaded(ReplyWithinThread::No),
        add_mentions: AddMentions::No,
    };
    let content = in_room.make_reply_event(content, reply).await.expect("a reply");
    let sent = in_room.send(content).await.expect("sent");
    for device in house.devices() {
        let seen = device.reads(&house.room, &sent.response.event_id).await;
        assert_eq!(seen.json["content"]["body"], "aside");
        assert_eq!(seen.json["content"]["m.relates_to"]["rel_type"], "m.thread");
        let root_seen = device.reads(&house.room, root).await;
        let summary = &root_seen.json["unsigned"]["m.relations"]["m.thread"];
        assert_eq!(summary["count"], 1, "{:?}", root_seen.json);
    }
}

async fn attach(house: &House) {
    let in_room = house.bob_phone.client.get_room(&house.room).expect("a room");
    let data: Vec<u8> = (0..200_000u32).map(|n| (n * 31 % 251) as u8).collect();
    let kind = mime::APPLICATION_OCTET_STREAM;
    let config = AttachmentConfig::new();
    let sent = in_room.send_attachment("plan.bin", &kind, data.clone(), config).await;
    let event_id = sent.expect("an attachment").event_id;
    for device in house.devices() {
        let seen = device.reads(&house.room, &event_id).await;
        assert!(seen.was_encrypted);
        let content: RoomMessageEventContent =
            serde_json::from_value(seen.json["content"].clone()).expect("a message");
        let MessageType::File(file) = content.msgtype else { panic!("{:?}", seen.json) };
        let parameters = MediaRequestParameters { source: file.source, format: MediaFormat::File };
        let got = device.client.media().get_media_content(&parameters, false).await;
        assert_eq!(got.expect("the attachment"), data);
    }
}

/// Kills the server between sending and receiving, several times: what was answered is there, and
/// keys sent to a device that was away arrive once it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_server_is_killed() {
    const ROUNDS: usize = 4;
    let mut house = House::furnish().await;
    let room = house.room.clone();
    let mut said = Vec::new();
    for round in 0..ROUNDS {
        house.bob_phone.go_offline().await;
        house.alice_phone.go_offline().await;
        // A new key has to reach every device, also those that are away now.
        let in_room = house.alice.client.get_room(&room).expect("a room");
        in_room.discard_room_key().await.expect("discarded");
        let text = format!("round {round}");
        said.push((house.alice.say(&room, &text).await, text));
        house.server.kill().await;
        house.server.restart().await;
        house.bob_phone.go_online();
        house.alice_phone.go_online();
        let text = format!("answer {round}");
        said.push((house.bob_phone.say(&room, &text).await, text));
        house.server.kill_and_restart().await;
    }
    for (event_id, text) in &said {
        house.all_read(event_id, text).await;
    }
    let order = order_of(&house.bob, &room).await;
    let expected: Vec<_> = said.iter().map(|(_, text)| text.clone()).collect();
    assert_eq!(order, expected, "each once, in the order they were sent");
}

async fn order_of(device: &Device, room: &RoomId) -> Vec<String> {
    let history = device.history(room).await;
    let texts = history.iter().rev().filter(|seen| seen.json["type"] == "m.room.message");
    texts.map(|seen| seen.json["content"]["body"].as_str().unwrap_or("?").to_owned()).collect()
}

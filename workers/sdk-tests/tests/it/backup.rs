//! A user who has lost every device gets the history back from the key backup.

use colonnade_sdk_tests::{Device, Server, eventually};
use matrix_sdk::{
    encryption::recovery::RecoveryState,
    ruma::{
        api::client::room::create_room,
        assign,
        events::{InitialStateEvent, room::encryption::RoomEncryptionEventContent},
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_comes_back_from_the_backup() {
    const MESSAGES: usize = 5;
    let mut server = Server::start().await;
    let mut old = Device::register(&server.url(), "alice").await;
    old.client.encryption().bootstrap_cross_signing(None).await.expect("the first keys");
    let encryption = RoomEncryptionEventContent::with_recommended_defaults();
    let encryption = InitialStateEvent::with_empty_state_key(encryption).to_raw_any();
    let request = assign!(create_room::v3::Request::new(), { initial_state: vec![encryption] });
    let room = old.client.create_room(request).await.expect("a room").room_id().to_owned();
    old.room(&room, 1).await;
    let recovery_key = old.client.encryption().recovery().enable().await.expect("a backup");
    let mut said = Vec::new();
    for n in 0..MESSAGES {
        let in_room = old.client.get_room(&room).expect("a room");
        in_room.discard_room_key().await.expect("discarded");
        said.push(old.say(&room, &format!("note {n}")).await);
    }
    let steady = old.client.encryption().backups().wait_for_steady_state().await;
    steady.expect("every key is backed up");
    old.go_offline().await;
    drop(old);
    server.kill_and_restart().await;

    let new = Device::login(&server.url(), "alice").await;
    new.room(&room, 1).await;
    let recovery = new.client.encryption().recovery();
    recovery.recover(&recovery_key).await.expect("recovered");
    eventually("the recovery is complete", || async {
        (recovery.state() == RecoveryState::Enabled).then_some(())
    })
    .await;
    let backups = new.client.encryption().backups();
    backups.download_room_keys_for_room(&room).await.expect("the keys come back");
    for (n, event_id) in said.iter().enumerate() {
        let seen = new.reads(&room, event_id).await;
        assert!(seen.was_encrypted);
        assert_eq!(seen.json["content"]["body"], format!("note {n}"));
    }
    let status = new.client.encryption().cross_signing_status().await.expect("a status");
    assert!(status.is_complete(), "the private keys came back too");
}

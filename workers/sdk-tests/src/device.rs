//! A device of a user: the real client, syncing in the background, and what its user sees.

use std::{sync::Arc, time::Duration};

use matrix_sdk::{
    Client, Room, RoomMemberships, SlidingSync, SlidingSyncList, SlidingSyncMode,
    config::{RequestConfig, SyncSettings},
    deserialized_responses::TimelineEventKind,
    encryption::{EncryptionSettings, verification::SasVerification},
    room::MessagesOptions,
    ruma::{
        EventId, OwnedEventId, RoomId, UInt, UserId,
        api::client::{
            account::register::v3::Request as Register,
            uiaa::{AuthData, Dummy, MatrixUserIdentifier, Password, UserIdentifier},
        },
        api::error::ErrorKind,
        events::key::verification::mac::ToDeviceKeyVerificationMacEvent,
    },
    sliding_sync::Version,
};
use serde_json::Value;
use tokio::{sync::Notify, task::JoinHandle};

use crate::{eventually, server};

/// How long a sync waits for news; short, so that a device stops soon when it is told to.
const SYNC_TIMEOUT: Duration = Duration::from_secs(2);
/// What a client of sliding sync wants to know of a room's state: as Element X does.
const REQUIRED_STATE: [(&str, &str); 14] = [
    ("m.room.name", ""),
    ("m.room.encryption", ""),
    ("m.room.member", "$LAZY"),
    ("m.room.member", "$ME"),
    ("m.room.topic", ""),
    ("m.room.avatar", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.power_levels", ""),
    ("org.matrix.msc3401.call.member", "*"),
    ("m.room.join_rules", ""),
    ("m.room.tombstone", ""),
    ("m.room.create", ""),
    ("m.room.history_visibility", ""),
    ("m.space.child", "*"),
];
/// Events of a room looked at from its end; more than any test sends.
const HISTORY_MAX: u32 = 200;

/// A device with its sync loop.
pub struct Device {
    /// The client itself.
    pub client: Client,
    /// It syncs by this; by `/sync` if there is none.
    sliding: Option<SlidingSync>,
    syncing: Option<JoinHandle<()>>,
}

/// An event as a user sees it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// It was encrypted and could be decrypted.
    pub was_encrypted: bool,
    /// The (decrypted) event.
    pub json: Value,
}

impl Device {
    /// Registers a user and starts syncing.
    pub async fn register(url: &str, name: &str) -> Self {
        let client = new_client(url).await;
        let mut request = Register::new();
        request.username = Some(name.to_owned());
        request.password = Some(password(name));
        request.initial_device_display_name = Some(format!("{name}'s first"));
        request.auth = Some(AuthData::Dummy(Dummy::new()));
        client.matrix_auth().register(request).await.expect("a new user");
        Self::syncing(client).await
    }

    /// Logs a registered user in on a further device and starts syncing.
    pub async fn login(url: &str, name: &str) -> Self {
        let client = new_client(url).await;
        let login = client.matrix_auth().login_username(name, &password(name));
        login.initial_device_display_name(&format!("{name}'s next")).send().await.expect("a login");
        Self::syncing(client).await
    }

    /// Logs a registered user in on a further device, which syncs as Element X does, and starts that.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn login_sliding(url: &str, name: &str) -> Self {
        let client = new_client(url).await;
        let login = client.matrix_auth().login_username(name, &password(name));
        login.initial_device_display_name(&format!("{name}'s X")).send().await.expect("a login");
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        let state = REQUIRED_STATE.map(|(kind, key)| (kind.into(), key.to_owned()));
        let list = SlidingSyncList::builder("all_rooms")
            .sync_mode(SlidingSyncMode::new_growing(20))
            .timeline_limit(10)
            .required_state(state.to_vec());
        let sliding = client.sliding_sync("room-list").expect("a short name");
        let sliding = sliding.version(Version::Native).with_all_extensions().add_list(list);
        let sliding = sliding.poll_timeout(SYNC_TIMEOUT).build().await.expect("a connection");
        for _ in 0..2 {
            sliding.sync_once().await.expect("one of the first syncs");
        }
        let mut device = Self { client, sliding: Some(sliding), syncing: None };
        device.go_online();
        device
    }

    /// Makes the user's cross-signing keys, with the password where the server asks for it.
    ///
    /// # Panics
    /// When the server refuses them.
    pub async fn make_identity(&self) {
        let encryption = self.client.encryption();
        let Err(asked) = encryption.bootstrap_cross_signing(None).await else { return };
        let asked = asked.as_uiaa_response().expect("a server that asks for the password").clone();
        let name = self.user_id().localpart();
        let user = UserIdentifier::Matrix(MatrixUserIdentifier::new(name.to_owned()));
        let mut proof = Password::new(user, password(name));
        proof.session = asked.session;
        let proof = Some(AuthData::Password(proof));
        encryption.bootstrap_cross_signing(proof).await.expect("the first keys");
    }

    async fn syncing(client: Client) -> Self {
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        // One sync uploads the keys; only then may others look for this device.
        client.sync_once(settings(Duration::ZERO)).await.expect("a first sync");
        client.sync_once(settings(Duration::ZERO)).await.expect("a second sync");
        let mut device = Self { client, sliding: None, syncing: None };
        device.go_online();
        device
    }

    /// Starts the sync loop. Failures are tried again: the server may be away for a while.
    pub fn go_online(&mut self) {
        let (client, sliding) = (self.client.clone(), self.sliding.clone());
        let syncing = async move {
            loop {
                let is_told = match &sliding {
                    Some(sliding) => match sliding.sync_once().await {
                        Ok(_) => true,
                        Err(error) => {
                            // As the client's own loop does: it begins anew.
                            if let Some(ErrorKind::UnknownPos) = error.client_api_error_kind() {
                                sliding.expire_session().await;
                            }
                            false
                        }
                    },
                    None => client.sync_once(settings(SYNC_TIMEOUT)).await.is_ok(),
                };
                if !is_told {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        self.syncing = Some(tokio::spawn(syncing));
    }

    /// Stops the sync loop; whatever is sent meanwhile has to wait on the server.
    pub async fn go_offline(&mut self) {
        if let Some(syncing) = self.syncing.take() {
            syncing.abort();
            let _ = syncing.await;
        }
    }

    /// Returns the user's id.
    pub fn user_id(&self) -> &UserId {
        self.client.user_id().expect("a logged-in client")
    }

    /// Waits until this device knows itself joined to a room, and knows `members` members.
    pub async fn room(&self, room_id: &RoomId, members: usize) -> Room {
        let what = format!("{} sees {members} members of {room_id}", self.user_id());
        eventually(&what, || async {
            let room = self.client.get_room(room_id)?;
            let is_there = room.state() == matrix_sdk::RoomState::Joined
                && room.encryption_state().is_encrypted();
            // Counted here: not every server says how many there are.
            let known = room.members(RoomMemberships::JOIN).await.ok()?.len();
            (is_there && known == members).then_some(room)
        })
        .await
    }

    /// Returns the end of a room's history, newest first, decrypted where this device has the key.
    pub async fn history(&self, room_id: &RoomId) -> Vec<Seen> {
        let Some(room) = self.client.get_room(room_id) else { return Vec::new() };
        let mut options = MessagesOptions::backward();
        options.limit = UInt::from(HISTORY_MAX);
        let Ok(messages) = room.messages(options).await else { return Vec::new() };
        let seen = messages.chunk.into_iter().map(|event| Seen {
            was_encrypted: matches!(event.kind, TimelineEventKind::Decrypted(_)),
            json: serde_json::from_str(event.raw().json().get()).expect("an event is JSON"),
        });
        seen.collect()
    }

    /// Waits until this device can read an event.
    pub async fn reads(&self, room_id: &RoomId, event_id: &EventId) -> Seen {
        let what = format!("{} {:?} reads {event_id}", self.user_id(), self.client.device_id());
        eventually(&what, || async {
            let history = self.history(room_id).await;
            let found = history.into_iter().find(|seen| seen.json["event_id"] == event_id.as_str());
            found.filter(|seen| seen.json["type"] != "m.room.encrypted")
        })
        .await
    }

    /// Sends a text and returns the event's id.
    pub async fn say(&self, room_id: &RoomId, text: &str) -> OwnedEventId {
        use matrix_sdk::ruma::events::room::message::RoomMessageEventContent;
        let room = self.client.get_room(room_id).expect("a room to speak in");
        let sent = room.send(RoomMessageEventContent::text_plain(text)).await.expect("sent");
        sent.response.event_id
    }

    /// Verifies another device of the same user by comparing emoji, as two people would.
    ///
    /// # Panics
    /// When the emoji differ or a step does not come.
    pub async fn verify_own(&self, other: &Self) {
        let user = self.user_id();
        let other_id = other.client.device_id().expect("a device");
        let device = eventually("the devices know each other", || async {
            self.client.encryption().get_device(user, other_id).await.ok()?
        })
        .await;
        let request = device.request_verification().await.expect("a request");
        let flow = request.flow_id().to_owned();
        let theirs = eventually("the request arrives", || async {
            other.client.encryption().get_verification_request(user, &flow).await
        })
        .await;
        theirs.accept().await.expect("accepted");
        eventually("the request is ready", || async { request.is_ready().then_some(()) }).await;
        let ours = request.start_sas().await.expect("started").expect("emoji are supported");
        let theirs = eventually("the start arrives", || async {
            let found = other.client.encryption().get_verification(user, &flow).await;
            found.and_then(|found| found.sas())
        })
        .await;
        theirs.accept().await.expect("accepted");
        let shown = |sas: SasVerification| async move {
            eventually("emoji are shown", || async { sas.emoji() }).await.map(|emoji| emoji.symbol)
        };
        assert_eq!(shown(ours.clone()).await, shown(theirs.clone()).await);
        // Who confirms while the other's confirmation is under way sends his own from here and says
        // that he is done from his sync, at once: two requests of which either may be first, and the
        // other client drops a "done" that comes before the confirmation. People are slower than that.
        let arrived = other.next_confirmation();
        ours.confirm().await.expect("confirmed");
        arrived.notified().await;
        theirs.confirm().await.expect("confirmed");
        for sas in [ours, theirs] {
            eventually("the verification is done", || async { sas.is_done().then_some(()) }).await;
        }
    }

    /// Gives notice when the next confirmation of another device has arrived and was taken in.
    fn next_confirmation(&self) -> Arc<Notify> {
        let arrived = Arc::new(Notify::new());
        let notice = Arc::clone(&arrived);
        self.client.add_event_handler(move |_: ToDeviceKeyVerificationMacEvent| {
            notice.notify_one();
            std::future::ready(())
        });
        arrived
    }

    /// Tells whether this device sees another one as signed by its owner.
    pub async fn sees_signed(&self, other: &Self) -> bool {
        let (user, device) = (other.user_id(), other.client.device_id().expect("a device"));
        let found = self.client.encryption().get_device(user, device).await.ok().flatten();
        found.is_some_and(|device| device.is_cross_signed_by_owner())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(syncing) = &self.syncing {
            syncing.abort();
        }
    }
}

fn password(name: &str) -> String {
    format!("password of {name}")
}

fn settings(timeout: Duration) -> SyncSettings {
    SyncSettings::new().timeout(timeout)
}

async fn new_client(url: &str) -> Client {
    Client::builder()
        .homeserver_url(url)
        .http_client(server::client())
        .request_config(RequestConfig::new().timeout(Duration::from_secs(20)))
        .with_encryption_settings(EncryptionSettings::default())
        .build()
        .await
        .expect("a client")
}

//! Two processes' services over one database: one writes, the other remembers.

use std::{sync::Arc, time::Duration};

use colonnade_model::{
    SystemClock, SystemRandom,
    ruma::{
        ServerName, api::client::keys::upload_keys, push::RuleKind, signatures::Ed25519KeyPair,
    },
    token::TokenKey,
};
use colonnade_replication::{Bus, InProcess, Slots};
use colonnade_rooms::{Context, Settings, rpc};
use colonnade_storage::{Database, Location, rooms::interned::Interned};
use colonnade_users::{
    accounts::{Admission, LoggedIn, Registration, Session},
    limits::{Class, Key},
};
use serde_json::{Value, json, value::to_raw_value};

use crate::{Services, lifecycle::NewRoomRequest};
use colonnade_model::stream::StreamAdvance;
use colonnade_replication::Streams;

/// How long something that must happen may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct World {
    writer: Arc<Services>,
    reader: Arc<Services>,
    _folder: tempfile::TempDir,
}

/// A bus on which nothing arrives, and which knows it.
#[derive(Default)]
struct Deaf(InProcess);

impl Bus for Deaf {
    fn publish(&self, _: Arc<StreamAdvance>) {}

    fn subscribe(&self) -> tokio::sync::broadcast::Receiver<Arc<StreamAdvance>> {
        self.0.subscribe()
    }

    fn is_healthy(&self) -> bool {
        false
    }
}

/// One pair of processes that hear each other, and one that only has the database.
async fn both() -> [World; 2] {
    [World::over(Arc::new(InProcess::default())).await, World::over(Arc::<Deaf>::default()).await]
}

impl World {
    async fn over(bus: Arc<dyn Bus>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let streams = Arc::new(Streams::new());
        let location = Location::Sqlite(folder.path().join("colonnade.db"));
        let db = Database::open(&location, Arc::clone(&streams) as _).await.unwrap();
        let writer = services(streams, 1, &db, &bus, folder.path()).await;
        let reader = services(Arc::new(Streams::new()), 2, &db, &bus, folder.path()).await;
        Self { writer, reader, _folder: folder }
    }

    async fn user(&self) -> (Session, String) {
        let registration = Registration {
            username: Some("alice".to_owned()),
            refreshable: Some(true),
            ..Registration::default()
        };
        let accounts = &self.writer.accounts;
        let admission = Admission::by_operator();
        let made = accounts.register(admission, registration, Some("correct horse")).await.unwrap();
        let LoggedIn { session, access_token, .. } = made.1.unwrap();
        (session, access_token)
    }
}

/// The services of a process without others.
pub(crate) async fn alone(
    streams: Arc<Streams>,
    db: &Database,
    folder: &std::path::Path,
) -> Arc<Services> {
    streams.start(db, None, 1).await.unwrap();
    over(streams, db, folder).await
}

async fn services(
    streams: Arc<Streams>,
    run: i64,
    db: &Database,
    bus: &Arc<dyn Bus>,
    folder: &std::path::Path,
) -> Arc<Services> {
    streams.start(db, Some(Arc::clone(bus)), run).await.unwrap();
    over(streams, db, folder).await
}

async fn over(streams: Arc<Streams>, db: &Database, folder: &std::path::Path) -> Arc<Services> {
    let key = Ed25519KeyPair::generate().to_vec();
    let context = Context {
        server_name: ServerName::parse("localhost").unwrap(),
        settings: Settings::default(),
        interned: Interned::new(db.clone()),
        nids: Default::default(),
        streams,
        slots: Arc::new(Slots::new(false)),
        carrier: Arc::new(rpc::NoPeers),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        signing_key: colonnade_rooms::SigningKey::new(
            Ed25519KeyPair::from_der(&key, "1".to_owned()).unwrap(),
        ),
        token_key: TokenKey::new([1; 32]),
        digest_key: [2; 32],
        data_dir: folder.to_owned(),
        db: db.clone(),
    };
    Services::start(Arc::new(context)).await.unwrap()
}

/// Waits until the reader says what it has to.
async fn until(mut what: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("the other process hears of it");
}

#[tokio::test]
async fn a_token_ended_elsewhere_is_refused() {
    for world in both().await {
        let (session, token) = world.user().await;
        world.reader.accounts.authenticate(&token).await.unwrap();
        world.writer.accounts.logout(&session).await.unwrap();
        until(async || world.reader.accounts.authenticate(&token).await.is_err()).await;
    }
}

#[tokio::test]
async fn whom_a_user_ignores_is_known_everywhere() {
    for world in both().await {
        let (session, _) = world.user().await;
        assert!(world.reader.account_data.ignored(session.user).await.unwrap().is_empty());
        let list = to_raw_value(&json!({ "ignored_users": { "@bob:localhost": {} } })).unwrap();
        let set = world.writer.account_data.set(&session, None, "m.ignored_user_list", list);
        set.await.unwrap();
        until(async || world.reader.account_data.ignored(session.user).await.unwrap().len() == 1)
            .await;
    }
}

#[tokio::test]
async fn push_rules_are_known_everywhere() {
    for world in both().await {
        let (session, _) = world.user().await;
        let is_off = async |services: &Services| {
            let master = services.push.rule(session.user, RuleKind::Override, ".m.rule.master");
            master.await.unwrap().enabled
        };
        assert!(!is_off(&world.reader).await);
        let push = &world.writer.push;
        push.set_enabled(session.user, RuleKind::Override, ".m.rule.master", true).await.unwrap();
        until(async || is_off(&world.reader).await).await;
    }
}

#[tokio::test]
async fn keys_uploaded_elsewhere_are_counted() {
    for world in both().await {
        let (session, _) = world.user().await;
        let count = async |services: &Services| {
            let counts = services.encryption.one_time_key_counts(session.device).await.unwrap();
            counts.into_values().map(u64::from).sum::<u64>()
        };
        assert_eq!(count(&world.reader).await, 0);
        let mut request = upload_keys::v3::Request::new();
        let key = json!({ "key": "c29tZSBrZXk", "signatures": { "@alice:localhost": { "ed25519:D": "eA" } } });
        let key = serde_json::from_value(key).unwrap();
        request.one_time_keys.insert("signed_curve25519:A".try_into().unwrap(), key);
        world.writer.encryption.upload(&session, request).await.unwrap();
        until(async || count(&world.reader).await == 1).await;
    }
}

#[tokio::test]
async fn what_was_redacted_elsewhere_is_gone() {
    for world in both().await {
        let (session, _) = world.user().await;
        let rooms = &world.writer.rooms;
        let room_id =
            world.writer.lifecycle.create(&session, NewRoomRequest::default()).await.unwrap();
        let body = to_raw_value(&json!({ "msgtype": "m.text", "body": "secret" })).unwrap();
        let sent =
            rooms.send(&session, &room_id, "m.room.message", &body, Some("1")).await.unwrap();
        let is_there = async || {
            let event = world.reader.rooms.event(sent.nid).await.unwrap().unwrap();
            let content: Value = serde_json::from_str(event.event.content().get()).unwrap();
            content.get("body").is_some()
        };
        assert!(is_there().await);
        rooms.redact(&session, &room_id, &sent.event_id, None, Some("2")).await.unwrap();
        until(async || !is_there().await).await;
    }
}

#[tokio::test]
async fn who_catches_up_sees_what_was_written_before() {
    /// Longer than this nobody waits for what is late.
    const BOUND: Duration = Duration::from_secs(1);
    for world in both().await {
        let (session, _) = world.user().await;
        let reader = &world.reader;
        let mut seen = 0;
        for n in 1..=20 {
            assert_eq!(reader.account_data.ignored(session.user).await.unwrap().len(), n - 1);
            let names: Vec<String> = (0..n).map(|n| format!("@bob{n}:localhost")).collect();
            let list: std::collections::BTreeMap<_, _> =
                names.iter().map(|name| (name, json!({}))).collect();
            let list = to_raw_value(&json!({ "ignored_users": list })).unwrap();
            let set = world.writer.account_data.set(&session, None, "m.ignored_user_list", list);
            set.await.unwrap();
            let begun = std::time::Instant::now();
            // Many at once share a look, and none of them an older one.
            let look = || reader.context.streams.catch_up(&reader.context.db);
            let (one, two, three) = tokio::join!(look(), look(), look());
            one.and(two).and(three).unwrap();
            let in_time = begun.elapsed() < BOUND;
            let known = reader.account_data.ignored(session.user).await.unwrap().len();
            assert!(known == n || !in_time, "{known} of {n}");
            seen += usize::from(known == n);
            until(async || reader.account_data.ignored(session.user).await.unwrap().len() == n)
                .await;
        }
        assert!(seen > 0, "always late");
    }
}

/// Not a cache, but told in the same way: what one process lets through counts in the other.
#[tokio::test]
async fn a_limit_holds_for_all_processes() {
    let world = World::over(Arc::new(InProcess::default())).await;
    let key = || Key::name("somebody");
    for class in [Class::Login, Class::Other] {
        let rates = &world.writer.context.settings.rate_limits;
        let burst = if class == Class::Login { rates.login.burst } else { rates.other.burst };
        let mut let_through = 0;
        while world.writer.limits.check(class, key()).is_ok() {
            let_through += 1;
        }
        assert!(let_through >= burst);
        // The other took none, and has none.
        until(async || world.reader.limits.left(class, key()) < f64::from(burst) / 2.0).await;
        world.reader.limits.check(class, Key::name("somebody else")).unwrap();
    }
}

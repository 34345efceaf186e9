//! The deployment every run begins with: accounts and rooms, made once by the services themselves and
//! copied for each run.

use std::{path::PathBuf, sync::Arc};

use colonnade_model::{
    ManualClock, Random,
    nid::RoomNid,
    ruma::{OwnedRoomId, OwnedServerName, ServerName, signatures::Ed25519KeyPair},
    slot::slot_of,
    token::TokenKey,
};
use colonnade_replication::{Slots, Streams};
use colonnade_rooms::{
    Context, Settings,
    rpc::{NoPeers, RpcClient},
};
use colonnade_services::{
    Services,
    lifecycle::{NewRoomRequest, Preset},
};
use colonnade_storage::{Database, Location, rooms::interned::Interned};
use colonnade_users::accounts::{Admission, Registration, Session};
use parking_lot::Mutex;

use crate::dice::{Chance, Dice};

/// When every run begins, in milliseconds since 1970.
pub(crate) const BEGIN_MS: i64 = 1_700_000_000_000;
/// The file that is copied for each run.
const COPY: &str = "copy.db";
/// Who writes and reads.
const USERS: [&str; 4] = ["ada", "bob", "cyd", "dan"];
/// Rooms, of which each process owns a few.
const ROOMS: usize = 6;

/// A room of the deployment.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) nid: RoomNid,
    pub(crate) id: OwnedRoomId,
    pub(crate) slot: u16,
}

/// The deployment before a run.
pub struct Template {
    folder: tempfile::TempDir,
    key: Vec<u8>,
    pub(crate) users: Vec<Session>,
    pub(crate) rooms: Vec<Place>,
}

/// What the context of a process is made of that is not the same for all.
pub(crate) struct Own {
    pub(crate) db: Database,
    pub(crate) streams: Arc<Streams>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) carrier: Arc<dyn RpcClient>,
    pub(crate) clock: Arc<dyn colonnade_model::Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) data_dir: PathBuf,
}

impl Template {
    /// Makes the deployment.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn make() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let made = runtime.expect("a runtime").block_on(make());
        made.expect("a deployment can be made")
    }

    /// Returns the file of the database.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join(COPY)
    }

    /// Makes the context of a process.
    pub(crate) fn context(&self, own: Own) -> Arc<Context> {
        context(&self.key, own)
    }
}

fn context(key: &[u8], own: Own) -> Arc<Context> {
    let Own { db, streams, slots, carrier, clock, random, data_dir } = own;
    let mut settings = Settings::default();
    settings.rate_limits.enabled = false;
    let key = Ed25519KeyPair::from_der(key, "1".to_owned());
    Arc::new(Context {
        server_name: server_name(),
        settings,
        interned: Interned::new(db.clone()),
        nids: Default::default(),
        streams,
        slots,
        carrier,
        clock,
        random,
        signing_key: colonnade_rooms::SigningKey::new(key.expect("a key of ours")),
        token_key: TokenKey::new([1; 32]),
        digest_key: [2; 32],
        data_dir,
        db,
    })
}

fn server_name() -> OwnedServerName {
    ServerName::parse("localhost").expect("a server name")
}

async fn make() -> colonnade_rooms::Result<Template> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let streams = Arc::new(Streams::new());
    let location = Location::Sqlite(folder.path().join("colonnade.db"));
    let db = Database::open(&location, Arc::clone(&streams) as _).await?;
    streams.start(&db, None, 1).await?;
    let key = Ed25519KeyPair::generate().to_vec();
    let services = Services::start(context(
        &key,
        Own {
            db: db.clone(),
            streams: Arc::clone(&streams),
            slots: Arc::new(Slots::new(false)),
            carrier: Arc::new(NoPeers),
            clock: Arc::new(ManualClock::new(BEGIN_MS - 60_000)),
            random: Arc::new(Chance(Mutex::new(Dice::new(0, "template")))),
            data_dir: folder.path().to_owned(),
        },
    ))
    .await?;
    let mut users = Vec::new();
    for name in USERS {
        let account = Registration {
            username: Some(name.to_owned()),
            device_id: Some(name.to_uppercase().into()),
            ..Registration::default()
        };
        let admission = Admission::by_operator();
        let password = Some("correct horse");
        let (_, logged_in) = services.accounts.register(admission, account, password).await?;
        users.push(logged_in.expect("a session was asked for").session);
    }
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let new_room = NewRoomRequest { preset: Some(Preset::Public), ..NewRoomRequest::default() };
        let id = services.lifecycle.create(&users[0], new_room).await?;
        for user in &users[1..] {
            services.membership.join(user, (&*id).into(), &[], Default::default()).await?;
        }
        let nid = services.rooms.find(&id).await?.expect("it was made").nid;
        rooms.push(Place { nid, slot: slot_of(id.as_str()), id });
    }
    db.backup_to(&folder.path().join(COPY)).await?;
    streams.stop();
    db.close().await;
    Ok(Template { folder, key, users, rooms })
}

//! What a homeserver does, one module per topic. Knows nothing of HTTP; speaks to the database
//! through `storage` and to other processes through `replication`. Services are built once, in the
//! order of [`Services::start`], each from the [`Context`] and the services before it.

mod caches;
pub mod context;
pub mod elsewhere;
pub mod error;
mod fresh;
pub mod settings;

// In the order in which they are built.
pub mod account_data;
pub mod accounts;
pub mod answers;
pub mod bodies;
pub mod deactivation;
pub mod devices;
pub mod directory;
pub mod encryption;
pub mod figures;
pub mod filters;
mod housekeeping;
pub mod key_backup;
pub mod limits;
pub mod media;
pub mod presence;
pub mod profile_change;
pub mod profiles;
pub mod push;
mod quotas;
pub mod receipts;
pub mod reports;
pub mod rooms;
mod succession;
pub mod sync;
pub mod timeline;
pub mod to_device;
pub mod typing;
pub mod voip;
mod whispers;

pub use context::Context;
pub use error::{Error, Result};
pub use settings::Settings;

use std::sync::Arc;

/// Every service of a homeserver.
pub struct Services {
    /// What all of them stand on.
    pub context: Arc<Context>,
    /// How often something may be done.
    pub limits: Arc<limits::Limits>,
    /// The bodies of requests that are in memory.
    pub bodies: Arc<bodies::Bodies>,
    /// The answers that are made, or wait to be taken.
    pub answers: Arc<answers::Answers>,
    /// Accounts and sessions.
    pub accounts: Arc<accounts::Accounts>,
    /// Devices as their owners see them.
    pub devices: devices::Devices,
    /// Profiles, and finding users by name.
    pub profiles: Arc<profiles::Profiles>,
    /// Account data, tags, ignored users.
    pub account_data: Arc<account_data::AccountDataService>,
    /// Push rules and pushers.
    pub push: Arc<push::Push>,
    /// Filters.
    pub filters: filters::Filters,
    /// Reports for the administrators.
    pub reports: reports::Reports,
    /// Keys of devices and users.
    pub encryption: Arc<encryption::Encryption>,
    /// Backups of room keys.
    pub key_backup: key_backup::KeyBackup,
    /// Messages to devices.
    pub to_device: Arc<to_device::ToDevice>,
    /// Uploaded files.
    pub media: media::Media,
    /// Rooms and what is in them.
    pub rooms: rooms::Rooms,
    /// Finding rooms.
    pub directory: directory::Directory,
    /// The past of rooms.
    pub timeline: Arc<timeline::Timeline>,
    /// Read receipts.
    pub receipts: Arc<receipts::Receipts>,
    /// Who is typing.
    pub typing: Arc<typing::Typing>,
    /// Who is there.
    pub presence: Arc<presence::Presence>,
    /// What happened since a token.
    pub sync: sync::Sync,
}

impl Services {
    /// Builds the services.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start(context: Arc<Context>) -> Result<Arc<Self>> {
        let limits = limits::Limits::start(Arc::clone(&context));
        let accounts = Arc::new(accounts::Accounts::new(Arc::clone(&context), Arc::clone(&limits)));
        let devices = devices::Devices::new(Arc::clone(&context), Arc::clone(&accounts));
        let profiles = Arc::new(profiles::Profiles::new(Arc::clone(&context)));
        let account_data = Arc::new(account_data::AccountDataService::new(Arc::clone(&context)));
        let push = Arc::new(push::Push::new(Arc::clone(&context), Arc::clone(&account_data)));
        let filters = filters::Filters::new(Arc::clone(&context));
        let (who, rates) = (Arc::clone(&accounts), Arc::clone(&limits));
        let encryption = Arc::new(encryption::Encryption::new(Arc::clone(&context), who, rates));
        let key_backup = key_backup::KeyBackup::new(Arc::clone(&context));
        let to_device = Arc::new(to_device::ToDevice::new(Arc::clone(&context)));
        let media = media::Media::start(Arc::clone(&context)).await?;
        let rooms = rooms::Rooms::start(&context);
        let reports = reports::Reports::new(Arc::clone(&context), rooms.clone());
        let directory = directory::Directory::new(Arc::clone(&context), rooms.clone());
        let words = timeline::WordIndex::start(Arc::clone(&context), rooms.clone()).await?;
        let data = Arc::clone(&account_data);
        let timeline = timeline::Timeline::new(Arc::clone(&context), rooms.clone(), data, words);
        let timeline = Arc::new(timeline);
        let receipts = Arc::new(receipts::Receipts::new(Arc::clone(&context), rooms.clone()));
        let typing = typing::Typing::start(Arc::clone(&context), rooms.clone());
        let presence = presence::Presence::start(Arc::clone(&context));
        whispers::listen(&context.streams, (&typing, &presence, &limits));
        let answers = answers::Answers::new(context.settings.requests.answers_bytes_max);
        let sources = sync::Sources {
            answers: Arc::clone(&answers),
            rooms: rooms.clone(),
            timeline: Arc::clone(&timeline),
            encryption: Arc::clone(&encryption),
            to_device: Arc::clone(&to_device),
            receipts: Arc::clone(&receipts),
            typing: Arc::clone(&typing),
            presence: Arc::clone(&presence),
            account_data: Arc::clone(&account_data),
        };
        let caches = caches::Caches::of(&context, &sources, &accounts, &push);
        let sync = sync::Sync::start(Arc::clone(&context), sources, caches).await?;
        let services = Arc::new(Self {
            bodies: bodies::Bodies::new(context.settings.requests.bodies_bytes_max),
            answers,
            context,
            limits,
            accounts,
            devices,
            profiles,
            account_data,
            push,
            filters,
            reports,
            encryption,
            key_backup,
            to_device,
            media,
            rooms,
            directory,
            timeline,
            receipts,
            typing,
            presence,
            sync,
        });
        housekeeping::start(&services);
        Ok(services)
    }
}

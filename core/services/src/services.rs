//! Every service of a homeserver.

use std::sync::Arc;

use colonnade_delivery::{federation::FederationSender, push::PushSender};
use colonnade_federation::{keys::KeyRing, transport::Transport};
use colonnade_rooms::{Context, Rooms};
use colonnade_storage::database::metrics::CacheFigures;
use colonnade_users::{
    account_data, accounts, answers, bodies, devices, encryption, filters, key_backup, limits,
    presence, profiles, push, to_device,
};
use colonnade_views::{directory, receipts, sync, timeline, typing};

use crate::{federation, lifecycle, media, membership, reports};

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
    pub rooms: Rooms,
    /// Coming into rooms, moderating, leaving.
    pub membership: Arc<membership::MembershipService>,
    /// Making and replacing rooms.
    pub lifecycle: lifecycle::RoomLifecycle,
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
    pub sync: Arc<sync::Sync>,
    /// The way to other servers.
    pub transport: Transport,
    /// Keys of this server and of others.
    pub server_keys: KeyRing,
    /// What other servers ask, and send.
    pub federation: federation::FederationService,
    /// Tells other servers what happens here.
    pub federation_sender: Arc<FederationSender>,
    /// Tells push gateways what notifies users.
    pub push_sender: Arc<PushSender>,
}

impl Services {
    /// Returns how well each cache does.
    pub fn cache_figures(&self) -> Vec<CacheFigures> {
        let mut figures = self.context.interned.figures();
        figures.extend(self.rooms.figures());
        figures.extend(self.rooms.states().figures());
        figures.push(self.accounts.cache_figures());
        figures
    }
}

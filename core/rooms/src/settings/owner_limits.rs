//! What one owner may keep: counts and bytes of everything that a user can fill. Each default has its
//! reason; `docs/limits.md` says which endpoint is bounded by which.

use serde::{Deserialize, Serialize};

/// Defines the settings: documentation, name, type, default, reason.
macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $default:expr;)*) => {
        /// What one owner may keep.
        #[derive(Debug, Clone, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct OwnerLimits {
            $($(#[$doc])* pub $name: $kind,)*
        }

        impl Default for OwnerLimits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }
    };
}

limits! {
    /// Pieces of account data per user, global and per room. Three pieces each in several
    /// thousand rooms.
    account_data_items_max: u64 = 20_000;
    /// Bytes of account data per user. A first sync carries all of it, and holds it in memory a
    /// few times over; busy accounts have one or two MB.
    account_data_bytes_max: u64 = 8 * 1024 * 1024;
    /// Filters per user. Clients have a handful, and the same filter counts once.
    filters_max: u64 = 1_000;
    /// Bytes of filters per user. They are never deleted, and most have a few hundred bytes.
    filters_bytes_max: u64 = 1024 * 1024;
    /// Pushers per user. One for each application on each telephone.
    pushers_max: u64 = 100;
    /// Devices per user. Beyond, a login takes the place of the device that was seen longest ago.
    /// Scripts that log in anew each day and never log out work for a year, and everybody who
    /// shares a room is told all of them.
    devices_max: u64 = 500;
    /// Login tokens of a user at a time. Beyond, the oldest ends. Each lasts two minutes.
    login_tokens_max: u64 = 20;
    /// OpenID tokens of a user at a time. Beyond, the oldest ends. Each lasts an hour; a widget
    /// asks for one when it is opened.
    openid_tokens_max: u64 = 200;
    /// Unclaimed one-time keys per device. Clients keep 50 to 100 here; none keeps more than
    /// 5,000 of its own.
    one_time_keys_max: u64 = 5_000;
    /// Bytes of unclaimed one-time keys per device. 5,000 signed keys of 250 bytes, and half as
    /// much again.
    one_time_keys_bytes_max: u64 = 2 * 1024 * 1024;
    /// Signatures of other keys a user may keep. A user who verified 20,000 others.
    signatures_max: u64 = 20_000;
    /// Messages waiting for a device. More are not put in until it fetches some. A year without
    /// the device, in large encrypted rooms.
    to_device_items_max: u64 = 20_000;
    /// Bytes waiting for a device. 20,000 room keys of about 1.5 kB.
    to_device_bytes_max: u64 = 32 * 1024 * 1024;
    /// Messages that wait for a device and come from one other user: a stranger cannot fill what
    /// friends need. A twentieth of the inbox.
    to_device_sender_items_max: u64 = 1_000;
    /// Bytes that wait for a device and come from one other user. A thousand room keys of about 1
    /// kB.
    to_device_sender_bytes_max: u64 = 1024 * 1024;
    /// Key backups a user may have at a time, deleted ones not counted. Clients use the newest
    /// and may still read the one before.
    backup_versions_max: u64 = 10;
    /// Keys in all backups of a user. Ten years of busy rooms have about 100,000.
    backup_keys_max: u64 = 500_000;
    /// Bytes in all backups of a user. 500,000 keys of about 1 kB.
    backup_bytes_max: u64 = 512 * 1024 * 1024;
    /// Rooms a user may be in or knock at. All of them are in the user's first sync; people are in
    /// hundreds, a bot that is in more is given more here.
    rooms_max: u64 = 20_000;
    /// Invitations of a user that wait for an answer. Each is in the user's first sync.
    invites_max: u64 = 1_000;
    /// Those of them that come from one sender. A bridge invites to every chat at once; a
    /// stranger cannot use up the rest.
    invites_sender_max: u64 = 250;
    /// Bytes of room state shown with an invitation or a knock. A name, a topic, a picture, rules
    /// and two members have 3 kB.
    invite_state_bytes_max: u64 = 16 * 1024;
    /// Bytes of room state shown with all invitations of one answer; those beyond come with the
    /// invitation alone. A thousand ordinary invitations.
    invite_states_bytes_max: u64 = 2 * 1024 * 1024;
    /// Aliases a user may have made. A bridge's bot makes more, and is given more here.
    aliases_max: u64 = 1_000;
    /// Threads of a room in which a user's receipts are kept. Beyond, the oldest goes. Each is in
    /// everybody's first sync of the room.
    receipt_threads_max: u64 = 1_000;
    /// Reports kept of one reporter. Beyond, the reporter's oldest goes. Nobody reads more of one
    /// person.
    reports_max: u64 = 1_000;
    /// Bytes of reports kept of one reporter. 1,000 reports of 1 kB.
    reports_bytes_max: u64 = 1024 * 1024;
    /// Files a user may have uploaded. Twenty a day for seven years; they are counted at each
    /// upload.
    media_files_max: u64 = 50_000;
    /// Bytes a user may have uploaded. 400 files of the largest size, or 20,000 photographs.
    media_bytes_max: u64 = 20 * 1024 * 1024 * 1024;
}

//! What one owner may keep, made of the settings under `limits`: the one place that knows which setting
//! bounds what. The storage checks it in the transaction that writes; what a client is told when it is
//! over stands here.

use colonnade_model::MatrixError;
use colonnade_storage::{
    delivery::to_device::{InboxLimits, Waits},
    keys::key_backup::BackupQuota,
    quota::{Bound, Full, Quota},
};

use crate::settings::OwnerLimits;

/// Makes the bound of a setting.
macro_rules! bound {
    ($limits:expr, $name:ident) => {
        Bound { setting: concat!("limits.", stringify!($name)), max: signed($limits.$name) }
    };
}

impl OwnerLimits {
    /// Account data of a user.
    pub fn account_data(&self) -> Quota {
        Quota {
            what: "pieces of account data",
            items: bound!(self, account_data_items_max),
            bytes: bound!(self, account_data_bytes_max),
        }
    }

    /// Filters of a user.
    pub fn filters(&self) -> Quota {
        Quota {
            what: "filters",
            items: bound!(self, filters_max),
            bytes: bound!(self, filters_bytes_max),
        }
    }

    /// Pushers of a user.
    pub fn pushers(&self) -> Quota {
        Quota { what: "pushers", items: bound!(self, pushers_max), bytes: Bound::NONE }
    }

    /// Devices of a user.
    pub fn devices(&self) -> Quota {
        Quota { what: "devices", items: bound!(self, devices_max), bytes: Bound::NONE }
    }

    /// Unclaimed one-time keys of a device.
    pub fn one_time_keys(&self) -> Quota {
        Quota {
            what: "unclaimed one-time keys",
            items: bound!(self, one_time_keys_max),
            bytes: bound!(self, one_time_keys_bytes_max),
        }
    }

    /// Signatures by a user.
    pub fn signatures(&self) -> Quota {
        Quota { what: "signatures", items: bound!(self, signatures_max), bytes: Bound::NONE }
    }

    /// Backups of a user.
    pub fn backup(&self) -> BackupQuota {
        BackupQuota {
            versions: Quota {
                what: "key backups",
                items: bound!(self, backup_versions_max),
                bytes: Bound::NONE,
            },
            keys: Quota {
                what: "keys in backups",
                items: bound!(self, backup_keys_max),
                bytes: bound!(self, backup_bytes_max),
            },
        }
    }

    /// What waits for a device.
    pub fn inbox(&self) -> InboxLimits {
        InboxLimits {
            all: Waits {
                items: signed(self.to_device_items_max),
                bytes: signed(self.to_device_bytes_max),
            },
            of_sender: Waits {
                items: signed(self.to_device_sender_items_max),
                bytes: signed(self.to_device_sender_bytes_max),
            },
        }
    }

    /// Aliases made by a user.
    pub fn aliases(&self) -> Quota {
        Quota { what: "aliases", items: bound!(self, aliases_max), bytes: Bound::NONE }
    }

    /// Reports by a user.
    pub fn reports(&self) -> Quota {
        Quota {
            what: "reports",
            items: bound!(self, reports_max),
            bytes: bound!(self, reports_bytes_max),
        }
    }

    /// Files of a user.
    pub fn media(&self) -> Quota {
        Quota {
            what: "uploaded files",
            items: bound!(self, media_files_max),
            bytes: bound!(self, media_bytes_max),
        }
    }

    /// Rooms that a user is in or knocks at.
    pub fn rooms(&self) -> Quota {
        Quota { what: "rooms", items: bound!(self, rooms_max), bytes: Bound::NONE }
    }

    /// Invitations that wait for a user: in all, and of one sender.
    pub fn invites(&self) -> (Quota, Quota) {
        let quota = |items| Quota { what: "invitations", items, bytes: Bound::NONE };
        (quota(bound!(self, invites_max)), quota(bound!(self, invites_sender_max)))
    }
}

/// Returns a bound as the database counts.
pub fn signed(max: u64) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

/// Tells a client that its user keeps as much as it may. The code for numbers is the one that the
/// specification has for a user's quota of uploads.
///
/// Source: Matrix v1.19, client-server, `POST /_matrix/media/v3/upload`, 403; "Other error codes".
pub fn over(full: &Full) -> MatrixError {
    let Full { what, bound: Bound { setting, max }, in_bytes } = full;
    if *in_bytes {
        let why =
            format!("this would be more than {max} bytes of {what} ({setting}); make room first");
        return MatrixError::too_large(why);
    }
    MatrixError::forbidden(format!(
        "this would be more than {max} {what} ({setting}); make room first"
    ))
}

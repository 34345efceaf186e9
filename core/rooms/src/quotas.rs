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

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits that differ, so that a quota shows by which setting it was made.
    fn limits() -> OwnerLimits {
        OwnerLimits {
            account_data_items_max: 1,
            account_data_bytes_max: 2,
            filters_max: 3,
            filters_bytes_max: 4,
            pushers_max: 5,
            devices_max: 6,
            one_time_keys_max: 7,
            one_time_keys_bytes_max: 8,
            signatures_max: 9,
            to_device_items_max: 10,
            to_device_bytes_max: 11,
            to_device_sender_items_max: 12,
            to_device_sender_bytes_max: 13,
            backup_versions_max: 14,
            backup_keys_max: 15,
            backup_bytes_max: 16,
            aliases_max: 17,
            reports_max: 18,
            reports_bytes_max: 19,
            media_files_max: 20,
            media_bytes_max: 21,
            rooms_max: 22,
            invites_max: 23,
            invites_sender_max: 24,
            ..OwnerLimits::default()
        }
    }

    #[test]
    fn a_quota_has_the_number_of_the_setting_that_it_names() {
        let limits = limits();
        let (backup, (invites, of_sender)) = (limits.backup(), limits.invites());
        let written = serde_json::to_value(&limits).unwrap();
        for quota in [
            limits.account_data(),
            limits.filters(),
            limits.pushers(),
            limits.devices(),
            limits.one_time_keys(),
            limits.signatures(),
            backup.versions,
            backup.keys,
            limits.aliases(),
            limits.reports(),
            limits.media(),
            limits.rooms(),
            invites,
            of_sender,
        ] {
            for bound in [quota.items, quota.bytes] {
                let Some(name) = bound.setting.strip_prefix("limits.") else {
                    assert_eq!(bound, Bound::NONE, "{}", quota.what);
                    continue;
                };
                assert_eq!(written[name], bound.max, "{} {name}", quota.what);
                let in_bytes = name.ends_with("_bytes_max");
                assert_eq!(in_bytes, bound == quota.bytes, "{} {name}", quota.what);
            }
        }
    }

    #[test]
    fn one_sender_fills_a_part_of_an_inbox() {
        let inbox = limits().inbox();
        assert_eq!((inbox.all.items, inbox.all.bytes), (10, 11));
        assert_eq!((inbox.of_sender.items, inbox.of_sender.bytes), (12, 13));
    }

    #[test]
    fn what_the_database_cannot_count_is_its_largest_number() {
        for (max, expected) in [(0, 0), (7, 7), (u64::MAX, i64::MAX), (1 << 63, i64::MAX)] {
            assert_eq!(signed(max), expected);
        }
    }

    #[test]
    fn who_is_over_learns_the_number_and_the_setting() {
        let bound = Bound { setting: "limits.filters_max", max: 3 };
        let by_number = over(&Full { what: "filters", bound, in_bytes: false });
        assert_eq!((by_number.status, &*by_number.errcode), (403, "M_FORBIDDEN"));
        let by_bytes = over(&Full { what: "filters", bound, in_bytes: true });
        assert_eq!(by_bytes.errcode, "M_TOO_LARGE");
        assert!(by_bytes.message.contains("3 bytes of filters"), "{}", by_bytes.message);
        for error in [by_number, by_bytes] {
            assert!(error.message.contains("(limits.filters_max)"), "{}", error.message);
        }
    }
}

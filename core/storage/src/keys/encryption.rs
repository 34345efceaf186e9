//! Keys for end-to-end encryption, as the server sees them: public keys and signatures it keeps and
//! hands out. It can read none of the messages they protect.

pub mod cross_signing;
pub mod device_keys;
pub mod one_time_keys;

use colonnade_model::nid::{DeviceNid, UserNid};

use crate::{Tx, database::sql, error::Result};

/// Deletes everything a device has here: its keys, signatures on it, its inbox. Part of deleting the
/// device; `device_lists::changed` follows.
///
/// # Errors
/// When the database fails.
pub async fn forget_device(tx: &mut Tx, device: DeviceNid) -> Result<()> {
    const SIGNATURES: &str = "DELETE FROM key_signatures WHERE (target_nid, target_key) IN \
         (SELECT user_nid, device_id FROM device_keys WHERE device_nid = $1)";
    const EVERYTHING: [&str; 7] = [
        "DELETE FROM device_keys WHERE device_nid = $1",
        "DELETE FROM one_time_keys WHERE device_nid = $1",
        "DELETE FROM issued_keys WHERE device_nid = $1",
        "DELETE FROM fallback_keys WHERE device_nid = $1",
        "DELETE FROM to_device WHERE device_nid = $1",
        "DELETE FROM to_device_inboxes WHERE device_nid = $1",
        "DELETE FROM to_device_txns WHERE device_nid = $1",
    ];
    execute!(tx, sql::query(SIGNATURES).bind(device.0))?;
    for statement in EVERYTHING {
        execute!(tx, sql::query(statement).bind(device.0))?;
    }
    Ok(())
}

/// Deletes what a user has here besides devices: cross-signing keys, signatures by and on them, and
/// every backup, whose keys go by [`crate::keys::key_backup::empty`]. Part of closing an account.
///
/// # Errors
/// When the database fails.
pub async fn forget_user(tx: &mut Tx, user: UserNid) -> Result<()> {
    const EVERYTHING: [&str; 4] = [
        "DELETE FROM cross_signing_keys WHERE user_nid = $1",
        "DELETE FROM key_signatures WHERE target_nid = $1",
        "DELETE FROM key_signatures WHERE signer_nid = $1",
        "UPDATE backup_versions SET deleted = 1, auth_data = '{}' WHERE user_nid = $1",
    ];
    for statement in EVERYTHING {
        execute!(tx, sql::query(statement).bind(user.0))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

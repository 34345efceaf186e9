//! What is stored for end-to-end encryption: keys, their signatures, device lists and key backups.

pub mod device_lists;
pub mod encryption;
pub mod key_backup;
pub mod remote_devices;

//! Users: accounts and sessions, devices, profiles, account data, push rules, keys, messages to devices,
//! presence; and how much of everything a user may do or hold at a time. Knows of rooms only that somebody
//! is in them.

pub mod account_data;
pub mod accounts;
pub mod answers;
pub mod bodies;
pub mod devices;
pub mod encryption;
pub mod filters;
pub mod key_backup;
pub mod limits;
pub mod presence;
pub mod profiles;
pub mod push;
pub mod to_device;

//! The client-server endpoints, one file per area; each mounts its own.

pub(crate) mod account_data;
pub(crate) mod accounts;
pub(crate) mod devices;
pub(crate) mod directory;
pub(crate) mod filters;
pub(crate) mod key_backup;
pub(crate) mod keys;
pub(crate) mod login;
pub(crate) mod media;
pub(crate) mod membership;
pub(crate) mod presence;
pub(crate) mod profiles;
pub(crate) mod push_rules;
pub(crate) mod receipts;
pub(crate) mod registration;
pub(crate) mod relations;
pub(crate) mod reports;
pub(crate) mod rooms_read;
pub(crate) mod rooms_state;
pub(crate) mod rooms_write;
pub(crate) mod search;
pub(crate) mod spaces;
pub(crate) mod sync;
pub(crate) mod to_device;
pub(crate) mod typing;
pub(crate) mod versions;

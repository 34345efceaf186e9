//! What is stored of users: accounts, sessions, devices, profiles and their own data.

pub mod account_data;
pub mod accounts;
pub mod devices;
pub mod filters;
pub mod guests;
pub mod login_addresses;
pub mod presence;
pub mod profiles;
pub mod sessions;
pub mod uia;
pub mod words;

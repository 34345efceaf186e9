//! The homeserver through its API: one module per area, one binary, one server per test.
#![allow(clippy::unwrap_used, reason = "tests")]

mod accounts;
mod answers;
mod clients;
mod conformance;
mod containers;
mod directory;
mod encryption;
mod enums;
mod ephemeral;
mod hostile;
mod intake;
mod media;
mod moving;
mod oracles;
mod pages;
mod profiles;
mod quotas;
mod races;
mod reading;
mod receipts;
mod regression;
mod rooms;
mod search;
mod sessions;
mod successors;
mod sweep;
mod sync;
mod targets;
mod tidy;
mod timeline;
mod u0000;
mod unread_json;
mod versions;
mod viewpoint;

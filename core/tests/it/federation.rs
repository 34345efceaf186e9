//! Several homeservers over TLS, and peers that do not behave.

mod devices;
mod edus;
mod fairness;
mod front;
mod joins;
mod media;
mod memberships;
mod partners;
mod past;
mod policy;
mod reach;
pub(crate) mod rooms;
mod spaces;
mod third_party;
mod villain;

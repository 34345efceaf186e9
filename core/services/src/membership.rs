//! Memberships: coming into a room, inviting others, moderating, and the ways out. What a member event
//! shows of a user is copied from the user's profile.

mod elsewhere;
pub(crate) mod guests;
mod invitation;
mod join;
mod moderate;
mod profile;
mod service;
mod set_state;

pub(crate) use elsewhere::told;
pub(crate) use profile::showing;
pub use service::MembershipService;
pub(crate) use set_state::is_own_member_event;

//! The pools and roles whose slots are dealt out among processes: their names, how many slots each has,
//! and who of those who are there serves it. Pure. `core/src/roles.rs` says what each of them does, and
//! names the pools without slots, too.

use super::member::Member;

/// The pool whose workers own rooms.
pub const ROOMS: &str = "rooms";
/// The pool whose workers have the files. What is done to files without a request is dealt out as a
/// role's work is.
pub const MEDIA: &str = "media";
/// The role of whoever does chores, and fills the index of words.
pub const BACKGROUND: &str = "background";
/// The role of whoever tells push gateways.
pub const PUSHER: &str = "pusher";
/// The role of whoever tells other servers.
pub const FEDERATION_SENDER: &str = "federation_sender";

/// Everything that is dealt out.
pub const DEALT: &[&str] = &[ROOMS, MEDIA, BACKGROUND, PUSHER, FEDERATION_SENDER];

/// Slots of a role: each is work for itself, and there are fewer processes than this.
pub const ROLE_SLOTS: u16 = 64;
/// Slots of a pool.
const POOL_SLOTS: u16 = colonnade_model::slot::SLOTS;

/// Tells whether the slots of this name are work that no request asks for.
pub fn is_role(name: &str) -> bool {
    matches!(name, MEDIA | BACKGROUND | PUSHER | FEDERATION_SENDER)
}

/// Returns how many slots a pool or a role has.
pub(super) fn slots_of(name: &str) -> usize {
    usize::from(if is_role(name) { ROLE_SLOTS } else { POOL_SLOTS })
}

/// Returns the incarnations that serve a pool or a role, in the order of `members`: those that list it
/// and do not end. A role that none of them lists is served by each of them, so that no work is left
/// lying; but files are only where media is served.
pub fn serving<'a>(members: impl Iterator<Item = &'a Member> + Clone, name: &str) -> Vec<i64> {
    let staying = members.filter(|member| !member.draining);
    let listing = staying.clone().filter(|member| member.pools.iter().any(|pool| pool == name));
    let listing: Vec<i64> = listing.map(|member| member.incarnation).collect();
    if listing.is_empty() && is_role(name) && name != MEDIA {
        return staying.map(|member| member.incarnation).collect();
    }
    listing
}

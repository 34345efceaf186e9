//! The pools and roles a worker can have: a closed list. Pools are those of `routes.yaml`; every
//! worker embeds all endpoints, and its pools say which requests the gateway sends it. Roles are work
//! that no request asks for: who lists one gets a share of its slots, as [`pools`] says.

use colonnade_storage::ownership::pools;

/// A pool of workers, or a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// Its name, as routes use it.
    pub name: &'static str,
    /// What its workers do.
    pub serves: &'static str,
}

const fn role(name: &'static str, serves: &'static str) -> Role {
    Role { name, serves }
}

/// Every pool, in the order of the bundled routes.
pub const ROLES: &[Role] = &[
    role("client", "everything not named below"),
    role(pools::ROOMS, "creating rooms, sending, state, membership, reading rooms"),
    role("sync", "incremental sync"),
    role("initial_sync", "sync without a token"),
    role("sliding_sync", "simplified sliding sync"),
    role("federation_in", "requests of other servers"),
    role(pools::MEDIA, "uploads, downloads, thumbnails"),
    role("keys", "encryption keys, backups, cross-signing"),
    role("to_device", "messages to single devices"),
    role("account_data", "account data and tags"),
    role("push_rules", "push rules"),
    role("presence", "presence"),
    role("typing", "typing notifications"),
    role("receipts", "receipts and read markers"),
    role("device_lists", "devices"),
    role("thread_subscriptions", "thread subscriptions"),
    role("quarantined_media", "reviewing media"),
    role("user_dir", "searching users"),
];

/// What is done without being asked; where nobody lists one, everybody does it.
pub const WITHOUT_REQUESTS: &[Role] = &[
    role(pools::BACKGROUND, "chores, and the index of words"),
    role(pools::PUSHER, "telling push gateways"),
    role(pools::FEDERATION_SENDER, "telling other servers"),
];

/// Every pool and role.
pub fn all() -> impl Iterator<Item = &'static Role> {
    ROLES.iter().chain(WITHOUT_REQUESTS)
}

/// Finds a pool or role by name.
pub fn find(name: &str) -> Option<&'static Role> {
    all().find(|role| role.name == name)
}

/// Finds the pool or role whose name looks most like `name`.
pub fn nearest(name: &str) -> Option<&'static Role> {
    let likeness = |role: &&Role| strsim::jaro_winkler(name, role.name);
    all().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

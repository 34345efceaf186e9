//! The pools a worker can belong to: a closed list, the same names as in `routes.yaml`. Every pool's
//! worker embeds all endpoints today; the role says which requests the gateway sends it.

/// A pool of workers.
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
    role("rooms", "creating rooms, sending, state, membership, reading rooms"),
    role("sync", "incremental sync"),
    role("initial_sync", "sync without a token"),
    role("sliding_sync", "simplified sliding sync"),
    role("federation_in", "requests of other servers"),
    role("media", "uploads, downloads, thumbnails"),
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

/// Finds a pool by name.
pub fn find(name: &str) -> Option<&'static Role> {
    ROLES.iter().find(|role| role.name == name)
}

/// Finds the pool whose name looks most like `name`.
pub fn nearest(name: &str) -> Option<&'static Role> {
    let likeness = |role: &&Role| strsim::jaro_winkler(name, role.name);
    ROLES.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

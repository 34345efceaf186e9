//! Finds the PostgreSQL programs of this machine, and the user they may run as.

use std::path::{Path, PathBuf};

/// The oldest PostgreSQL we support.
const VERSION_MIN: u32 = 15;
/// Where Debian and its kin keep one folder per version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Returns the folder that holds `initdb`, `postgres` and `psql`.
///
/// # Panics
/// When there is none: a test that needs PostgreSQL is not passed by leaving it out.
pub(crate) fn programs() -> PathBuf {
    if let Some(named) = std::env::var_os("COLONNADE_TEST_POSTGRES_BIN") {
        return named.into();
    }
    let mut versions: Vec<u32> = std::fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|version| *version >= VERSION_MIN)
        .filter(|version| folder_of(*version).join("initdb").exists())
        .collect();
    versions.sort_unstable();
    if let Some(newest) = versions.last() {
        return folder_of(*newest);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(|folder| folder.join("initdb").exists());
    found.expect(
        "PostgreSQL 15 or newer is not installed, and these tests run on it: \
         `apt-get install postgresql`, or name its folder in COLONNADE_TEST_POSTGRES_BIN",
    )
}

fn folder_of(version: u32) -> PathBuf {
    Path::new(DEBIAN).join(version.to_string()).join("bin")
}

/// Returns a user and group for the server if this process is root, which PostgreSQL refuses to
/// run as: the package's own user, or nobody.
pub(crate) fn unprivileged() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    // What /proc says about ourselves: asking the system directly would need another crate.
    if std::fs::metadata("/proc/self").ok()?.uid() != 0 {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let account = accounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, user, group, ..] = fields[..] else { return None };
        if name != "postgres" {
            return None;
        }
        Some((user.parse().ok()?, group.parse().ok()?))
    });
    Some(account.unwrap_or((65_534, 65_534)))
}

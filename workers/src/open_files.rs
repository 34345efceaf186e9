//! Lets the process open as many files as the system allows: a waiting client holds three.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Fewer than this, and a busy server refuses clients.
const WANTED_MIN: u64 = 4_096;

/// Raises the limit to the highest the system gives us.
pub(crate) fn allow_many() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let raised = soft >= hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let limit = if raised { hard } else { soft };
    if limit < WANTED_MIN {
        tracing::warn!(limit, "few open files are allowed: raise `ulimit -n` for many clients");
    }
}

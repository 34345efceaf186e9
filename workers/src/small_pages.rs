//! Keeps memory in small pages. The allocator asks the kernel for huge ones, which makes a process
//! resident that has only touched a little of each: with thousands of waiting clients, half as much
//! again (docs/benchmarks.md).

/// Forbids huge pages to this process. Only memory is lost where the system does not know how.
pub(crate) fn prefer() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::debug!(%error, "huge pages stay on");
    }
}

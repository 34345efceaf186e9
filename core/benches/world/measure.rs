//! What benchmarks of a whole server measure: CPU time and memory of the process.
#![allow(dead_code, unreachable_pub, reason = "each benchmark uses its part")]

use std::time::Duration;

use nix::sys::resource::{Usage, UsageWho, getrusage};

/// CPU time of the process.
pub fn cpu() -> Duration {
    of(&getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask about itself"))
}

/// CPU time of this thread.
pub fn cpu_of_thread() -> Duration {
    of(&getrusage(UsageWho::RUSAGE_THREAD).expect("a thread may ask about itself"))
}

fn of(usage: &Usage) -> Duration {
    let micros = |time: nix::sys::time::TimeVal| {
        time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_usec().unsigned_abs()
    };
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

/// Resident memory of this process, in bytes.
pub fn resident() -> usize {
    status("VmRSS:")
}

/// The most that was resident since [`forget_peak`], in bytes.
pub fn peak() -> usize {
    status("VmHWM:")
}

/// Lets the peak begin anew.
pub fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
}

fn status(which: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(which)).expect("a line of it");
    let kilobytes = line.split_whitespace().nth(1).and_then(|text| text.parse::<usize>().ok());
    kilobytes.expect("a number") * 1024
}

//! CPU time of processes, as the kernel counts it. Starts nothing.

use std::{fs, ops::Sub};

/// The unit of `/proc/PID/stat` on every Linux (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of CPU.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) workers: f64,
    pub(crate) postgres: f64,
    pub(crate) gateway: f64,
}

impl Sub for Used {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            workers: self.workers - before.workers,
            postgres: self.postgres - before.postgres,
            gateway: self.gateway - before.gateway,
        }
    }
}

impl Used {
    /// Seconds one process has used, its threads included.
    pub(crate) fn of_process(pid: i32) -> f64 {
        stat(pid).map_or(0.0, |stat| stat.own)
    }

    /// Seconds all processes of our PostgreSQL have used, those that ended included.
    pub(crate) fn of_postgres() -> f64 {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = pids.filter_map(|pid| stat(pid).filter(|stat| stat.name == "postgres"));
        ours.filter(|stat| is_ours(stat.parent)).map(|stat| stat.own + stat.ended).sum()
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    name: String,
    parent: i32,
    /// Seconds of its own.
    own: f64,
    /// Seconds of children that ended and were waited for.
    ended: f64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = after.split_whitespace().collect();
    // Fields 14 to 17 of proc(5); the first here is the third there.
    let seconds =
        |field: usize| Some(fields.get(field - 3)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Stat {
        name,
        parent: fields.get(1)?.parse().ok()?,
        own: seconds(14)? + seconds(15)?,
        ended: seconds(16)? + seconds(17)?,
    })
}

/// Is this process a descendant of ours?
fn is_ours(mut pid: i32) -> bool {
    let me = nix::unistd::getpid().as_raw();
    while pid > 1 {
        if pid == me {
            return true;
        }
        let Some(stat) = stat(pid) else { return false };
        pid = stat.parent;
    }
    false
}

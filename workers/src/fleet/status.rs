//! What `colonnade up --workers` tells `colonnade status`: a small file in the data folder, written anew at
//! every change and gone after a clean end. The table it becomes fits one screen.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use nix::{sys::signal::kill, unistd::Pid};
use serde::{Deserialize, Serialize};

use super::process::{Standing, State};
use crate::{
    failure::Failure,
    gateway::{ADMIN, READY},
    settings::Settings,
    terminal,
};

/// What the file is called in the data folder.
const NAME: &str = "up.json";

/// Everything there is to tell.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) server_name: String,
    /// The process of `colonnade up`, the supervisor.
    pub(crate) pid: u32,
    pub(crate) listen: Vec<String>,
    pub(crate) gateway_admin: Option<String>,
    pub(crate) gateway: Standing,
    pub(crate) workers: Vec<Standing>,
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

impl Status {
    /// That of this process, which supervises a gateway.
    pub(crate) fn of(server_name: String, gateway: Standing) -> Self {
        let mut status = Self {
            server_name,
            pid: std::process::id(),
            listen: Vec::new(),
            gateway_admin: None,
            gateway: gateway.clone(),
            workers: Vec::new(),
        };
        status.see_gateway(gateway);
        status
    }

    /// Takes note of how the gateway stands, and where it said that it listens.
    pub(crate) fn see_gateway(&mut self, gateway: Standing) {
        if let Some(line) = gateway.said.as_deref().and_then(|said| said.strip_prefix(READY)) {
            let (at, admin) =
                line.split_once(ADMIN).map_or((line, None), |(at, on)| (at, Some(on)));
            self.listen = at.split(", ").map(|at| format!("http://{at}")).collect();
            self.gateway_admin = admin.map(str::to_owned);
        }
        self.gateway = gateway;
    }

    /// All processes that are supervised.
    fn all(&self) -> impl Iterator<Item = &Standing> {
        std::iter::once(&self.gateway).chain(&self.workers)
    }

    /// Writes the file: whoever reads it meanwhile sees the old one or the new one.
    pub(crate) fn write(&self, data_dir: &Path) -> std::io::Result<()> {
        let next = data_dir.join(format!("{NAME}.next"));
        colonnade_core::secret_file::write(&next, &serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(next, path(data_dir))
    }

    /// Takes the file away.
    pub(crate) fn forget(data_dir: &Path) {
        let _none_there = std::fs::remove_file(path(data_dir));
    }

    /// Reads the file; `None` when nobody wrote one.
    fn read(data_dir: &Path) -> Result<Option<Self>, Failure> {
        let path = path(data_dir);
        let wrong =
            |why: String| Failure::Running(format!("cannot read {}: {why}", path.display()));
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|why| wrong(why.to_string()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// The table, with colours if wanted.
    pub(crate) fn table(&self, colours: bool) -> String {
        let mut text = format!("{} at {}", self.server_name, self.listen.join(", "));
        let _fits = writeln!(text, "  (process {}, {})", self.pid, memory(Some(self.pid)));
        if let Some(admin) = &self.gateway_admin {
            let _fits = writeln!(text, "gateway admin http://{admin}");
        }
        let up = self.workers.iter().filter(|worker| worker.state == State::Running).count();
        let _fits = writeln!(text, "{up} of {} workers run\n", self.workers.len());
        let heads = ["name", "state", "process", "memory", "restarts", "failures"];
        let [name, state, pid, used, restarts, failures] = heads;
        let _fits = writeln!(
            text,
            "{name:<12}{state:<10}{pid:>9}{used:>10}{restarts:>10}{failures:>10}  last failure"
        );
        for worker in self.all() {
            let state = match worker.state {
                State::Starting => "starting",
                State::Running => "running",
                State::Waiting => "waiting",
                State::Stopping => "stopping",
                State::Stopped => "stopped",
            };
            let colour = if worker.state == State::Running { 32 } else { 31 };
            let state = match colours {
                true => format!("\x1b[{colour}m{state:<10}\x1b[0m"),
                false => format!("{state:<10}"),
            };
            let pid = worker.pid.map_or("-".to_owned(), |pid| pid.to_string());
            let used = memory(worker.pid);
            let Standing { name, restarts, failures, .. } = worker;
            let last = worker.last_end.as_deref().unwrap_or("-");
            let _fits = writeln!(
                text,
                "{name:<12}{state}{pid:>9}{used:>10}{restarts:>10}{failures:>10}  {last}"
            );
        }
        text
    }
}

/// The memory of a process as a person reads it (Linux only).
fn memory(pid: Option<u32>) -> String {
    let kb = pid.and_then(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    kb.map_or("-".to_owned(), |kb| format!("{} MB", kb / 1024))
}

/// `colonnade status`: prints the table; fails when nothing runs, or not everything.
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    let config = settings.load()?;
    let folder = config.data_dir.display();
    let Some(status) = Status::read(&config.data_dir)? else {
        let why = format!("no `colonnade up --workers` runs on the data folder {folder}");
        return Err(Failure::Running(why));
    };
    let lives = i32::try_from(status.pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None).is_ok());
    if !lives {
        return Err(Failure::Running(format!(
            "`colonnade up --workers` on the data folder {folder} ended without a word; start it again"
        )));
    }
    terminal::say(status.table(std::io::stdout().is_terminal()).trim_end());
    match status.all().all(|process| process.state == State::Running) {
        true => Ok(()),
        false => Err(Failure::Running("not every process runs".to_owned())),
    }
}

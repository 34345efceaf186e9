//! One worker process under supervision: started, started again with a growing pause when it ends by
//! itself, stopped when told. Knows nothing of Matrix, nor of the other workers.

use std::{path::PathBuf, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

/// The pause before a process that ended by itself is started again, at first.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The same after many failures in a row; each doubles it.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Who ran for so long has not failed in a row with the time before.
const STEADY: Duration = Duration::from_secs(30);
/// How long a process may take to stop: it hands over, answers what is under way, and leaves. Longer than
/// it allows itself.
const STOP_MAX: Duration = Duration::from_secs(45);
/// Orders that wait; there is one who gives them.
const ORDERS_MAX: usize = 4;
/// What a worker says on standard output once it answers.
const READY: &str = "worker of pool";

/// How a worker is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Variables, for what no list of processes should show.
    pub(crate) environment: Vec<(String, String)>,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Starting,
    Running,
    /// It ended, and is started again after a pause.
    Waiting,
    Stopping,
    Stopped,
}

/// How a worker stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) state: State,
    pub(crate) pid: Option<u32>,
    /// Times it was started after the first.
    pub(crate) restarts: u32,
    /// Times it ended by itself.
    pub(crate) failures: u32,
    /// How it ended last, if by itself.
    pub(crate) last_end: Option<String>,
}

/// What a worker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Restart,
    Stop,
}

/// How a life of the process ended.
enum End {
    Told(Order),
    Itself(String),
}

/// A worker under supervision. Dropping it kills the process.
pub(crate) struct Supervised {
    orders: mpsc::Sender<Order>,
    standing: watch::Receiver<Standing>,
    keeper: JoinHandle<()>,
}

impl Supervised {
    /// Starts the process and keeps it running.
    pub(crate) fn start(name: String, address: String, launch: Launch) -> Self {
        let standing = Standing {
            name,
            address,
            state: State::Starting,
            pid: None,
            restarts: 0,
            failures: 0,
            last_end: None,
        };
        let (said, standing) = watch::channel(standing);
        let (orders, told) = mpsc::channel(ORDERS_MAX);
        let keeper = tokio::spawn(Keeper { launch, told, said }.keep());
        Self { orders, standing, keeper }
    }

    /// How it stands, now and later.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Waits until it answers; false when it ended by itself instead, or is stopped.
    pub(crate) async fn is_up(&self) -> bool {
        let mut standing = self.standing.clone();
        let settled = |now: &Standing| !matches!(now.state, State::Starting | State::Stopping);
        let settled = standing.wait_for(settled).await;
        settled.is_ok_and(|now| now.state == State::Running)
    }

    /// Stops the process and starts it again; returns whether it then answers.
    pub(crate) async fn restart(&self) -> bool {
        let before = self.standing.borrow().restarts;
        if self.orders.send(Order::Restart).await.is_err() {
            return false;
        }
        let mut standing = self.standing.clone();
        // Not a name: what is waited for locks the standing as long as it is held.
        let has_begun = standing.wait_for(|now| now.restarts > before).await.is_ok();
        has_begun && self.is_up().await
    }

    /// Stops the process for good.
    pub(crate) async fn stop(self) {
        let _stopped_already = self.orders.send(Order::Stop).await;
        let _ended = self.keeper.await;
    }
}

/// What keeps the process running.
struct Keeper {
    launch: Launch,
    told: mpsc::Receiver<Order>,
    said: watch::Sender<Standing>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let begun = Instant::now();
            match self.live().await {
                End::Told(Order::Stop) => break,
                End::Told(Order::Restart) => pause = PAUSE_MIN,
                End::Itself(how) => {
                    if begun.elapsed() >= STEADY {
                        pause = PAUSE_MIN;
                    }
                    let name = self.said.borrow().name.clone();
                    tracing::error!(worker = name, how, ?pause, "a worker ended by itself");
                    self.say(|now| {
                        now.state = State::Waiting;
                        now.failures += 1;
                        now.last_end = Some(how);
                    });
                    let order = tokio::time::timeout(pause, self.told.recv()).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    match order {
                        Ok(Some(Order::Stop) | None) => break,
                        Ok(Some(Order::Restart)) | Err(_) => {}
                    }
                }
            }
            self.say(|now| {
                now.state = State::Starting;
                now.restarts += 1;
            });
        }
        self.say(|now| now.state = State::Stopped);
    }

    fn say(&self, change: impl FnOnce(&mut Standing)) {
        self.said.send_modify(change);
    }

    /// From the start of the process to its end.
    async fn live(&mut self) -> End {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => return End::Itself(format!("cannot be started: {error}")),
        };
        // Held as long as we live: `wait` would close it.
        let _stdin = child.stdin.take();
        let pid = child.id();
        self.say(|now| now.pid = pid);
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
        let said = self.said.clone();
        // Reads to the end, so that the process never waits for us.
        let reading = tokio::spawn(async move {
            let Some(mut lines) = lines else { return };
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with(READY) {
                    said.send_modify(|now| now.state = State::Running);
                }
            }
        });
        let end = tokio::select! {
            ended = child.wait() => End::Itself(match ended {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            }),
            order = self.told.recv() => {
                self.say(|now| now.state = State::Stopping);
                self.end(&mut child).await;
                End::Told(order.unwrap_or(Order::Stop))
            }
        };
        reading.abort();
        self.say(|now| now.pid = None);
        end
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let Launch { program, arguments, environment } = &self.launch;
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
        // What a service manager told us is not meant for them.
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        // The pipe to its standard input closes when we are gone, however we end. Ctrl-C reaches us alone.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        command.kill_on_drop(true).spawn()
    }

    /// Stops the process; kills it when that takes too long.
    async fn end(&self, child: &mut Child) {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid {
            let _gone_already = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(STOP_MAX, child.wait()).await.is_err() {
            let name = self.said.borrow().name.clone();
            tracing::error!(worker = name, "does not stop: it is killed");
            let _gone_already = child.kill().await;
        }
    }
}

#[cfg(test)]
mod tests;

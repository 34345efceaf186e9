//! One process under supervision, a worker or the gateway: started, started again with a growing pause
//! when it ends by itself, replaced or stopped when told. Knows nothing of Matrix, nor of the others.

use std::{path::PathBuf, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
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
/// How long a successor may take to take over, before the process that runs is left in its place.
const TAKE_OVER_MAX: Duration = Duration::from_secs(120);

/// How a process is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// How the line begins that it says on standard output once it answers.
    pub(crate) ready: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Variables, for what no list of processes should show.
    pub(crate) environment: Vec<(String, String)>,
}

/// What a process is doing.
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

/// How a process stands.
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
    /// The line it said when it answered.
    #[serde(default, skip)]
    pub(crate) said: Option<String>,
}

/// What a process is told.
#[derive(Debug)]
enum Order {
    Restart,
    /// Begin another, which takes over from the one that runs; the answer says whether it did.
    Replace(oneshot::Sender<bool>),
    Stop,
}

/// How the process came to its end, for good or for another one.
enum End {
    Stopped,
    Restarted,
    Itself(String),
}

/// Processes that were replaced and answer what they have. Dropping this kills them.
pub(crate) type Replaced = JoinSet<()>;

/// A process under supervision. Dropping it kills the process.
pub(crate) struct Supervised {
    orders: mpsc::Sender<Order>,
    standing: watch::Receiver<Standing>,
    keeper: JoinHandle<Replaced>,
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
            said: None,
        };
        let (said, standing) = watch::channel(standing);
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let replaced = Replaced::new();
        let keeper = tokio::spawn(Keeper { launch, inbox, said, replaced }.keep());
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

    /// Starts another process that takes over from the one that runs, which answers what it has and then
    /// ends by itself. Returns whether it did; else the one that runs goes on.
    pub(crate) async fn replace(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order::Replace(answer)).await.is_ok() && answered.await.unwrap_or(false)
    }

    /// Stops the process for good. Those it took over from go on, to their end or until they are dropped.
    pub(crate) async fn stop(self) -> Replaced {
        let _stopped_already = self.orders.send(Order::Stop).await;
        self.keeper.await.unwrap_or_default()
    }
}

/// A process that was started.
struct Life {
    child: Child,
    /// Held as long as it lives: it ends when this closes.
    _stdin: Option<ChildStdin>,
    /// The line that it said when it answered.
    ready: watch::Receiver<Option<String>>,
}

impl Life {
    /// Waits until it answers; false when it ends before.
    async fn is_ready(&mut self) -> bool {
        let mut ready = self.ready.clone();
        tokio::select! {
            line = first(&mut ready) => line.is_some(),
            _ended = self.child.wait() => false,
        }
    }

    async fn wait(self) {
        let Self { mut child, _stdin, .. } = self;
        let _ended = child.wait().await;
    }
}

/// Waits for the line; `None` when it will never come.
async fn first(ready: &mut watch::Receiver<Option<String>>) -> Option<String> {
    ready.wait_for(Option::is_some).await.ok()?.clone()
}

/// What keeps the process running.
struct Keeper {
    launch: Launch,
    inbox: mpsc::Receiver<Order>,
    said: watch::Sender<Standing>,
    replaced: Replaced,
}

impl Keeper {
    async fn keep(mut self) -> Replaced {
        let mut pause = PAUSE_MIN;
        loop {
            let begun = Instant::now();
            match self.live().await {
                End::Stopped => break,
                End::Restarted => pause = PAUSE_MIN,
                End::Itself(how) => {
                    if begun.elapsed() >= STEADY {
                        pause = PAUSE_MIN;
                    }
                    let name = self.name();
                    tracing::error!(process = name, how, ?pause, "a process ended by itself");
                    self.say(|now| {
                        now.state = State::Waiting;
                        now.failures += 1;
                        now.last_end = Some(how);
                    });
                    let order = tokio::time::timeout(pause, self.inbox.recv()).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    match order {
                        Ok(Some(Order::Stop) | None) => break,
                        // Whoever asked for another sees that none runs which could be replaced.
                        Ok(Some(Order::Restart | Order::Replace(_))) | Err(_) => {}
                    }
                }
            }
            self.say(|now| {
                now.state = State::Starting;
                now.restarts += 1;
            });
        }
        self.say(|now| now.state = State::Stopped);
        self.replaced
    }

    fn say(&self, change: impl FnOnce(&mut Standing)) {
        self.said.send_modify(change);
    }

    fn name(&self) -> String {
        self.said.borrow().name.clone()
    }

    /// From the start of the process to its end, or that of the last one that replaced it.
    async fn live(&mut self) -> End {
        let mut life = match self.begin() {
            Ok(life) => life,
            Err(error) => return End::Itself(format!("cannot be started: {error}")),
        };
        self.say(|now| now.pid = life.child.id());
        let end = loop {
            let mut ready = life.ready.clone();
            let is_running = self.said.borrow().state == State::Running;
            tokio::select! {
                ended = life.child.wait() => break End::Itself(match ended {
                    Ok(status) => status.to_string(),
                    Err(error) => error.to_string(),
                }),
                order = self.inbox.recv() => match order {
                    Some(Order::Replace(answer)) => {
                        let has_replaced = self.replace(&mut life).await;
                        let _nobody_waits = answer.send(has_replaced);
                    }
                    order => {
                        self.say(|now| now.state = State::Stopping);
                        self.end(&mut life.child).await;
                        break match order {
                            Some(Order::Restart) => End::Restarted,
                            _ => End::Stopped,
                        };
                    }
                },
                Some(line) = first(&mut ready), if !is_running => {
                    self.say(|now| (now.state, now.said) = (State::Running, Some(line)));
                }
            }
        };
        self.say(|now| now.pid = None);
        end
    }

    /// Starts the next process beside the one that lives, and puts it in its place once it answers.
    async fn replace(&mut self, life: &mut Life) -> bool {
        self.say(|now| now.state = State::Starting);
        let mut failed = None;
        match self.begin() {
            Ok(mut next) => match tokio::time::timeout(TAKE_OVER_MAX, next.is_ready()).await {
                Ok(true) => {
                    let old = std::mem::replace(life, next);
                    self.replaced.spawn(old.wait());
                    // Those that ended in the meantime.
                    while self.replaced.try_join_next().is_some() {}
                }
                Ok(false) => failed = Some("the successor ended at once".to_owned()),
                Err(_) => failed = Some("the successor did not answer".to_owned()),
            },
            Err(error) => failed = Some(format!("the successor cannot be started: {error}")),
        }
        let (pid, line) = (life.child.id(), life.ready.borrow().clone());
        let has_replaced = failed.is_none();
        self.say(|now| {
            now.state = State::Running;
            now.pid = pid;
            now.said = line;
            now.restarts += u32::from(has_replaced);
            if failed.is_some() {
                now.failures += 1;
                now.last_end = failed;
            }
        });
        has_replaced
    }

    /// Starts a process, and reads what it says to its end, so that it never waits for us.
    fn begin(&self) -> std::io::Result<Life> {
        let mut child = self.spawn()?;
        let (says, ready) = watch::channel(None);
        let (stdin, prefix) = (child.stdin.take(), self.launch.ready);
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
        tokio::spawn(async move {
            let Some(mut lines) = lines else { return };
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with(prefix) {
                    says.send_replace(Some(line));
                }
            }
        });
        Ok(Life { child, _stdin: stdin, ready })
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let Launch { program, arguments, environment, .. } = &self.launch;
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
            tracing::error!(process = self.name(), "does not stop: it is killed");
            let _gone_already = child.kill().await;
        }
    }
}

#[cfg(test)]
mod tests;

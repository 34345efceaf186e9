//! Runs the command: to its end, or as a server in a folder of its own on free ports.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long something that must happen may take on a very busy machine: what is waited for longer than
/// this does not come.
pub(crate) const LONG: Duration = Duration::from_secs(600);
/// How long a server may take to start or stop on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the command said when it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Finished {
    /// Checks that the command failed, and that its words have these parts.
    #[track_caller]
    pub(crate) fn failed(self, expected: &[&str]) -> Self {
        assert_eq!(self.code, Some(1), "{self:?}");
        for part in expected {
            assert!(self.err.contains(part), "no `{part}` in {}", self.err);
        }
        self
    }

    /// Checks that a secret is in none of its words.
    #[track_caller]
    pub(crate) fn hides(self, secret: &str) -> Self {
        assert!(!self.err.contains(secret) && !self.out.contains(secret), "{self:?}");
        self
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_colonnade");

/// The command in a folder, with an environment that holds none of our variables.
pub(crate) fn command(folder: &Path) -> Command {
    command_of(Path::new(PROGRAM), folder)
}

/// The same with a copy of the program.
fn command_of(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COLONNADE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the command to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str], input: &str) -> Finished {
    let mut command = command(folder);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

/// Runs a worker that is refused, and returns what it said.
#[track_caller]
pub(crate) fn refused(folder: &Path, settings: &[String], expected: &[&str]) -> Finished {
    let mut arguments = vec!["worker", "--pool", "all", "--bind", "127.0.0.1:0"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    run(folder, &arguments, "").failed(expected)
}

/// A server that runs in a folder. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) url: String,
    /// What it said on standard output so far.
    pub(crate) out: Arc<Mutex<String>>,
    /// What it logged so far.
    pub(crate) log: Arc<Mutex<String>>,
    child: Child,
}

impl Server {
    /// Starts `colonnade up` over a folder, new or used, with rate limits off.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, &["--set", "rate_limits.enabled=false"])
    }

    /// Starts `colonnade up` with further arguments.
    pub(crate) fn start_with(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_copy(Path::new(PROGRAM), folder, arguments)
    }

    /// Starts `colonnade up` over a folder under another umask.
    pub(crate) fn start_with_umask(folder: &Path, umask: &str) -> Self {
        let mut command = command_of(Path::new("/bin/sh"), folder);
        command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh", PROGRAM]);
        command.args(["--listen", "127.0.0.1:0", "--set", "admin.gateway=127.0.0.1:0"]);
        command.args(["--set", "admin.listen=127.0.0.1:0"]);
        Self::run(command, "Stop with")
    }

    /// The same with a copy of the program.
    pub(crate) fn start_copy(program: &Path, folder: &Path, arguments: &[&str]) -> Self {
        let mut command = command_of(program, folder);
        command.args(["--listen", "127.0.0.1:0", "--set", "admin.gateway=127.0.0.1:0"]);
        command.args(["--set", "admin.listen=127.0.0.1:0"]).args(arguments);
        Self::run(command, "Stop with")
    }

    /// Starts `colonnade worker` for some pools, on a free port.
    pub(crate) fn worker(folder: &Path, pools: &str, arguments: &[&str]) -> Self {
        Self::worker_of(command(folder), pools, arguments)
    }

    /// Starts `colonnade worker` by a command with an environment of the caller's own.
    pub(crate) fn worker_of(mut command: Command, pools: &str, arguments: &[&str]) -> Self {
        command.args(["worker", "--pool", pools, "--bind", "127.0.0.1:0"]);
        command.args(["--set", "admin.listen=null"]).args(arguments);
        let mut worker = Self::run(command, "worker of pool");
        worker.url.insert_str(0, "http://");
        worker
    }

    /// Starts `colonnade gateway` with a routes file.
    #[allow(dead_code, reason = "the benchmark of many processes starts one")]
    pub(crate) fn gateway(folder: &Path, routes: &Path) -> Self {
        let mut command = command(folder);
        command.arg("gateway").arg("--routes").arg(routes);
        let mut gateway = Self::run(command, "gateway at");
        gateway.url = format!("http://{}", gateway.url.trim_end_matches(','));
        gateway
    }

    /// Starts a command that says `ready`, and in the same line or before it where it listens.
    fn run(mut command: Command, ready: &str) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = gather(child.stdout.take().unwrap());
        let log = gather(child.stderr.take().unwrap());
        let mut server = Self { url: String::new(), out, log, child };
        let begun = Instant::now();
        while !server.out.lock().unwrap().contains(ready) {
            let ended = server.child.try_wait().unwrap();
            let late = begun.elapsed() > PATIENCE;
            assert!(ended.is_none() && !late, "{ended:?}: {}", server.log.lock().unwrap());
            std::thread::sleep(Duration::from_millis(2));
        }
        let at = server.out.lock().unwrap().split(" at ").nth(1).unwrap().to_owned();
        server.url = at.split_whitespace().next().unwrap().to_owned();
        server
    }

    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for the end and returns the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < PATIENCE, "it does not stop: {}", self.log.lock().unwrap());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills it as a power cut would, as far as the process is concerned.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it cleanly and returns what it logged.
    pub(crate) fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let code = self.wait();
        let log = self.log.lock().unwrap().clone();
        assert_eq!(code, Some(0), "{log}");
        log
    }

    /// Memory of its own, in kB (Linux only): without the program text, which is huge in a debug build.
    pub(crate) fn resident_kb(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("RssAnon"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

/// Reads a pipe to its end beside us, line by line.
pub(crate) fn gather(pipe: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let gathered = Arc::clone(&text);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut gathered = gathered.lock().unwrap();
            gathered.push_str(&line);
            gathered.push('\n');
        }
    });
    text
}

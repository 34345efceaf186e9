//! The third shape: a real gateway before six real workers of different pools, each a process of the
//! built program, over one PostgreSQL and one Redis. The gateway finds them by their slot map.
//!
//! Nothing here waits after a write: what a client sees of its own writes is the program's doing.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use colonnade_model::ruma::ServerName;
use colonnade_rooms::Settings;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// The environment variable that names the program; else it stands where cargo builds it.
const PROGRAM: &str = "COLONNADE_BIN";
/// The pools of each worker. Two own rooms, two sync; who writes what a client reads elsewhere is
/// another one on purpose.
const POOLS: [&str; 6] = [
    "rooms",
    "rooms",
    "sync,initial_sync,sliding_sync",
    "sync,initial_sync,sliding_sync",
    "client,user_dir,federation_in,presence",
    "media,keys,to_device,account_data,push_rules,typing,receipts,device_lists,\
     thread_subscriptions,quarantined_media",
];
/// Workers that own rooms.
const OWNERS: usize = 2;
/// How long something that must happen may take on a very busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Slots of a pool.
const SLOTS: i64 = 1024;
/// What the gateway is called here.
const GATEWAY: &str = "gateway";
/// What stands at the end of what a process said, once it said all.
const ENDED: &str = "[it ended]";
/// Connections to the database a process holds at most.
const CONNECTIONS_MAX: u32 = 4;
/// Runs the program given as arguments until standard input ends: it dies with the test.
const KEEPER: &str = r#""$@" & program=$!; cat >/dev/null; kill -KILL "$program"; wait "$program""#;

/// What all processes of a deployment are given.
pub(crate) struct Deployment<'d> {
    pub(crate) server_name: &'d ServerName,
    pub(crate) data_dir: &'d Path,
    pub(crate) database: &'d str,
    /// The way to it past a pooler.
    pub(crate) direct: Option<&'d str>,
    pub(crate) redis: String,
    /// The sections of `colonnade.yaml` that are the services'.
    pub(crate) settings: Settings,
}

/// The processes of a deployment. Dropping it kills them.
pub(crate) struct Processes {
    /// Where the gateway listens, `http://127.0.0.1:port`.
    pub(crate) url: String,
    config: PathBuf,
    gateway: Process,
    workers: Vec<Process>,
}

impl Processes {
    /// Starts them and waits until the gateway knows every worker and the owner of every slot.
    pub(crate) async fn start(deployment: &Deployment<'_>) -> Self {
        let config = deployment.write();
        let at = config.clone();
        let started = tokio::task::spawn_blocking(move || start(&at)).await;
        let (gateway, workers) = started.expect("every process starts");
        let url = format!("http://{}", gateway.says("gateway at "));
        let processes = Self { url, config, gateway, workers };
        processes.settle().await;
        processes
    }

    /// Tells all workers to stop and waits until they did.
    pub(crate) async fn stop(mut self) {
        for worker in &self.workers {
            worker.signal(Signal::SIGTERM);
        }
        let workers = std::mem::take(&mut self.workers);
        let ended = tokio::task::spawn_blocking(move || {
            for mut worker in workers {
                // Waiting would close it, and that tells a worker a second time.
                let _stdin = worker.child.stdin.take();
                let status = worker.child.wait().expect("a child of ours");
                assert!(status.success(), "{status}: {}", worker.log());
            }
        });
        ended.await.expect("they stop");
    }

    /// Starts another worker for each that syncs, and tells the old ones to stop.
    pub(crate) async fn replace_those_who_sync(&mut self) {
        let old: Vec<usize> = (0..POOLS.len()).filter(|n| POOLS[*n].starts_with("sync")).collect();
        for n in &old {
            self.workers.push(worker(&self.config, POOLS[*n]));
        }
        self.settle().await;
        old.iter().for_each(|n| self.workers[*n].signal(Signal::SIGTERM));
    }

    /// Waits until the gateway knows all of them.
    async fn settle(&self) {
        let admin = self.gateway.says("gateway admin  ");
        let first = format!("http://{}/_colonnade/slots", self.workers[0].says(" at "));
        let wait = async {
            loop {
                let map = asked(&first).await;
                let pools = asked(&format!("{admin}/pools")).await;
                if is_whole(&map, self.workers.len()) && pools["slot_map_epoch"] == map["epoch"] {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let settled = tokio::time::timeout(PATIENCE, wait).await;
        assert!(settled.is_ok(), "the gateway follows the map: {}", self.gateway.log());
    }
}

impl Deployment<'_> {
    /// Writes the configuration all of them read, and returns its path.
    fn write(&self) -> PathBuf {
        let mut config = json!({
            "server_name": self.server_name,
            "data_dir": self.data_dir,
            "database": {
                "url": self.database, "direct_url": self.direct, "connections_max": CONNECTIONS_MAX,
            },
            "redis": { "url": self.redis },
            "admin": { "listen": null, "gateway": null },
            "logging": { "level": "warn" },
        });
        let mut settings = self.settings.clone();
        // As it is for a server elsewhere: the default is for one that is tried out on this machine.
        settings.registration.open.get_or_insert(false);
        let sections = serde_json::to_value(&settings).expect("settings are plain");
        let sections = sections.as_object().expect("sections").clone();
        config.as_object_mut().expect("sections").extend(sections);
        let path = self.data_dir.join("colonnade.yaml");
        std::fs::write(&path, config.to_string()).expect("a file in a folder of ours");
        path
    }
}

/// Starts the first worker, which makes the key and the tables, then the others, then the gateway.
fn start(config: &Path) -> (Process, Vec<Process>) {
    let first = worker(config, POOLS[0]);
    let seed = first.says(" at ");
    let mut workers = vec![first];
    workers.extend(POOLS[1..].iter().map(|pools| worker(config, pools)));
    let gateway = gateway(config, &seed);
    gateway.says("gateway at ");
    for worker in &workers {
        worker.says(" at ");
    }
    (gateway, workers)
}

/// Starts a worker of these pools on a free port.
fn worker(config: &Path, pools: &str) -> Process {
    let mut command = command(config, &program());
    command.args(["worker", "--supervised", "--bind", "127.0.0.1:0", "--pool", pools]);
    // A machine that is busy with many tests is silent for long; nobody dies here.
    command.args(["--patience-ms", "600000"]);
    Process::start(pools, command)
}

/// The routes that ship with us, every pool discovered, with one worker to ask first.
fn gateway(config: &Path, seed: &str) -> Process {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../routes.yaml");
    let bundled = std::fs::read_to_string(bundled).expect("the routes that ship with us");
    let routes = bundled
        .replace("127.0.0.1:8008", "127.0.0.1:0")
        .replace("127.0.0.1:8009", "127.0.0.1:0")
        .replace("workers: []", &format!("discover: true, workers: [\"{seed}\"]"));
    let path = config.with_file_name("routes.yaml");
    std::fs::write(&path, routes).expect("a file in a folder of ours");
    // It does not watch its standard input: a shell beside it does.
    let mut command = command(config, Path::new("sh"));
    command.args(["-c", KEEPER, "keeper"]).arg(program()).args(["gateway", "--routes"]).arg(path);
    Process::start(GATEWAY, command)
}

/// A command in the folder of a configuration, with an environment that holds no other variable of
/// ours.
fn command(config: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COLONNADE_") {
            command.env_remove(name);
        }
    }
    command.current_dir(config.parent().expect("a folder")).env("COLONNADE_CONFIG", config);
    command
}

/// The built program.
///
/// # Panics
/// When it was not built: these tests are of it.
fn program() -> PathBuf {
    let built = || {
        let test = std::env::current_exe().expect("a test runs from a file");
        test.parent().and_then(Path::parent).expect("cargo's folders").join("colonnade")
    };
    let program = std::env::var_os(PROGRAM).map_or_else(built, PathBuf::from);
    assert!(
        program.exists(),
        "{} is not there: `cargo build -p colonnade-workers`, or name the program in {PROGRAM}",
        program.display()
    );
    program
}

/// One of the processes. Dropping it kills it.
struct Process {
    name: String,
    child: Child,
    /// Lines of its standard output.
    out: Arc<Mutex<String>>,
    /// Its log.
    log: Arc<Mutex<String>>,
}

impl Process {
    fn start(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a program that is there");
        let out = gather(child.stdout.take().expect("a pipe"));
        let log = gather(child.stderr.take().expect("a pipe"));
        Self { name: name.to_owned(), child, out, log }
    }

    /// Waits until it says something, and returns the word after it.
    fn says(&self, what: &str) -> String {
        let begun = Instant::now();
        loop {
            let out = self.out.lock().expect("nobody panicked").clone();
            if let Some((_, after)) = out.split_once(what) {
                return after.split_whitespace().next().unwrap_or_default().to_owned();
            }
            let late = begun.elapsed() > PATIENCE;
            assert!(!late && !out.contains(ENDED), "{}: {}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn log(&self) -> String {
        self.log.lock().expect("nobody panicked").clone()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("a child of ours");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The shell beside a gateway ends it when its standard input ends; a worker is killed.
        drop(self.child.stdin.take());
        if self.name != GATEWAY {
            let _gone_already = self.child.kill();
        }
        let _reaped_already = self.child.wait();
    }
}

/// Reads a pipe to its end beside us, line by line.
fn gather(pipe: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let gathered = Arc::clone(&text);
    std::thread::spawn(move || {
        let add = |line: &str| {
            let mut gathered = gathered.lock().expect("nobody panicked");
            gathered.push_str(line);
            gathered.push('\n');
        };
        BufReader::new(pipe).lines().map_while(Result::ok).for_each(|line| add(&line));
        add(ENDED);
    });
    text
}

/// Asks for a document; null when there is none.
async fn asked(url: &str) -> Value {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let Ok(answer) = http.get(url).send().await else { return Value::Null };
    let body = answer.bytes().await.unwrap_or_default();
    serde_json::from_slice(&body).unwrap_or(Value::Null)
}

/// Tells whether everybody is in the map, and every slot of a room has one of the owners.
fn is_whole(map: &Value, workers_wanted: usize) -> bool {
    let workers = map["workers"].as_array().into_iter().flatten();
    let here: BTreeSet<_> = workers.map(|worker| worker["incarnation"].as_i64()).collect();
    let ranges: Vec<_> = map["owners"]["rooms"].as_array().into_iter().flatten().collect();
    let owners: BTreeSet<_> = ranges.iter().map(|range| range[2].as_i64()).collect();
    let length = |range: &Value| Some(range[1].as_i64()? - range[0].as_i64()?);
    let slots: i64 = ranges.iter().filter_map(|range| length(range)).sum();
    here.len() == workers_wanted && owners.len() == OWNERS && slots == SLOTS
}

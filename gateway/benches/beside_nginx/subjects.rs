//! What is measured: a gateway with each engine, an nginx and a HAProxy with the same rules in front of the same
//! worker, and a bare proxy of hyper's without any, each a process of its own with one thread for requests; and
//! what the kernel counts for them.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use colonnade_gateway::config::{Config, Engine};
use colonnade_gateway::{BUNDLED_ROUTES, RunOptions, Source, run};

use crate::trusting::FOLDER as CERTIFICATES;

/// The core that what is measured has for itself, if there is a second one for everything else.
const MEASURED_CORE: &str = "0";

/// Connections each may have open.
const CONNECTIONS_MAX: usize = 32_000;

pub(crate) struct Subject {
    pub(crate) name: &'static str,
    process: Child,
    pub(crate) plain: SocketAddr,
    pub(crate) encrypted: SocketAddr,
    /// Whether it can do no more than HTTP/1 in clear.
    pub(crate) is_bare: bool,
}

pub(crate) struct Setting {
    /// The gateway with its engines first, then nginx, the bare proxy, and HAProxy if it is installed.
    pub(crate) subjects: Vec<Subject>,
    pub(crate) worker_address: SocketAddr,
    worker: Child,
    _folder: tempfile::TempDir,
}

impl Subject {
    /// CPU time of the process so far, in microseconds: of every thread, as the scheduler counts.
    pub(crate) fn cpu_us(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let nanoseconds = tasks.filter_map(|task| {
            let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<f64>().ok()
        });
        nanoseconds.sum::<f64>() / 1e3
    }

    /// Resident memory, in kB.
    pub(crate) fn resident_kb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        for process in self.subjects.iter_mut().map(|s| &mut s.process).chain([&mut self.worker]) {
            let _gone = process.kill();
            let _gone = process.wait();
        }
    }
}

/// A program on the core of what is measured.
fn measured(program: &Path) -> Command {
    if !has_two_cores() {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", MEASURED_CORE]).arg(program);
    command
}

fn has_two_cores() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Without taskset everybody runs everywhere; the counts stay right, only noisier.
    cores > 1 && Command::new("taskset").arg("-V").stdout(Stdio::null()).status().is_ok()
}

/// Moves this process, and the worker it starts later, off the core of what is measured.
fn make_room() {
    if has_two_cores() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let others = format!("1-{}", cores - 1);
        let own = std::process::id().to_string();
        let mut command = Command::new("taskset");
        let moved = command.args(["-a", "-cp", &others, &own]).stdout(Stdio::null()).status();
        assert!(moved.is_ok_and(|moved| moved.success()), "taskset does not move this process");
    }
}

/// Where a program of the system is, if it is installed.
fn installed(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"]
        .map(|folder| Path::new(folder).join(name))
        .into_iter()
        .find(|path| path.exists())
}

pub(crate) fn start() -> Option<Setting> {
    let nginx_program = installed("nginx")?;
    let folder = tempfile::tempdir().unwrap();
    make_room();
    let (worker, lines) =
        this_program(Command::new(std::env::current_exe().unwrap()), &["role-worker"]);
    let worker_address: SocketAddr = lines[0].parse().unwrap();
    let routes = folder.path().join("routes.yaml");
    std::fs::write(&routes, routes_for(worker_address)).unwrap();
    let own = |name: &'static str, arguments: &[&str], is_bare: bool| {
        let program = measured(&std::env::current_exe().unwrap());
        let (process, lines) = this_program(program, arguments);
        let (plain, encrypted) = (lines[0].parse().unwrap(), lines[1].parse().unwrap());
        Subject { name, process, plain, encrypted, is_bare }
    };
    let gateway = |engine: Engine| {
        own(engine.name(), &["role-gateway", routes.to_str().unwrap(), engine.name()], false)
    };
    let mut subjects = vec![gateway(Engine::Direct), gateway(Engine::Pingora)];
    subjects.push(nginx(&nginx_program, folder.path(), worker_address));
    subjects.push(own("bare hyper", &["role-hyper", &worker_address.to_string()], true));
    if let Some(program) = installed("haproxy") {
        subjects.push(haproxy(&program, folder.path(), worker_address));
    }
    Some(Setting { subjects, worker_address, worker, _folder: folder })
}

/// Starts this program in another role; it says its addresses on its first lines, then an empty
/// one.
fn this_program(mut command: Command, arguments: &[&str]) -> (Child, Vec<String>) {
    let mut process = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let lines = lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    (process, lines)
}

fn routes_for(worker: SocketAddr) -> String {
    let certificate = format!("cert: \"{CERTIFICATES}/one.crt\", key: \"{CERTIFICATES}/one.key\"");
    BUNDLED_ROUTES
        .replace("workers: []", &format!("workers: [\"{worker}\"]"))
        .replace("admin: \"127.0.0.1:8009\"", "")
        .replace("limits:\n", &format!("limits:\n  connections: {CONNECTIONS_MAX}\n"))
        .replace(
            "  - { name: public, bind: \"127.0.0.1:8008\" }",
            &format!(
                "  - {{ name: plain, bind: \"127.0.0.1:0\" }}\n\
                 \x20 - {{ name: tls, bind: \"127.0.0.1:0\", tls: {{ certificates: [{{ {certificate} }}] }} }}"
            ),
        )
}

/// The patterns of the bundled file in their order, each once.
fn patterns() -> Vec<String> {
    let config = Config::bundled().unwrap();
    let mut known = std::collections::HashSet::new();
    let patterns = config.routes.iter().map(|route| route.pattern.as_str().to_owned());
    patterns.filter(|pattern| known.insert(pattern.clone())).collect()
}

/// Two ports that are free now.
fn ports() -> (SocketAddr, SocketAddr) {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (plain, encrypted) = (free(), free());
    (plain.local_addr().unwrap(), encrypted.local_addr().unwrap())
}

fn until_it_listens(at: SocketAddr) {
    while TcpStream::connect(at).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn nginx(program: &Path, folder: &Path, worker: SocketAddr) -> Subject {
    let (plain, encrypted) = ports();
    let locations = patterns()
        .into_iter()
        .map(|pattern| format!("location ~ \"{pattern}\" {{ proxy_pass http://w; }}\n"));
    let locations: String = locations.collect();
    let root = folder.display();
    let text = format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
         events {{ worker_connections {CONNECTIONS_MAX}; }}\n\
         http {{ access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p;\n\
         fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
         keepalive_requests 1000000; upstream w {{ server {worker}; keepalive 512; }}\n\
         server {{ listen {plain} backlog=4096; listen {encrypted} ssl http2;\n\
         ssl_certificate {CERTIFICATES}/one.crt; ssl_certificate_key {CERTIFICATES}/one.key;\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         proxy_read_timeout 600s; proxy_send_timeout 600s;\n\
         proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id;\n\
         add_header Access-Control-Allow-Origin *;\n{locations} }} }}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    let mut command = measured(program);
    let process = command.arg("-c").arg(&file).arg("-p").arg(folder).spawn().unwrap();
    until_it_listens(plain);
    Subject { name: "nginx", process, plain, encrypted, is_bare: false }
}

fn haproxy(program: &Path, folder: &Path, worker: SocketAddr) -> Subject {
    let (plain, encrypted) = ports();
    let pair = ["crt", "key"]
        .map(|kind| std::fs::read_to_string(format!("{CERTIFICATES}/one.{kind}")).unwrap());
    let pem = folder.join("one.pem");
    std::fs::write(&pem, pair.concat()).unwrap();
    let rules = patterns().into_iter().map(|pattern| {
        // Inside double quotes only these are special.
        let pattern = pattern.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        format!("  use_backend w if {{ path_reg \"{pattern}\" }}\n")
    });
    let rules: String = rules.collect();
    let text = format!(
        "global\n  nbthread 1\n  maxconn {}\n  tune.h2.max-concurrent-streams 128\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n\
         \x20 timeout http-keep-alive 600s\n  http-reuse always\n  option http-keep-alive\n\
         frontend f\n  bind {plain} backlog 4096\n  bind {encrypted} ssl crt {} alpn h2,http/1.1\n\
         \x20 unique-id-format %[uuid()]\n  http-request set-header X-Forwarded-For %[src]\n\
         \x20 http-request set-header X-Request-Id %[unique-id]\n\
         \x20 http-response set-header Access-Control-Allow-Origin *\n{rules}\
         backend w\n  server w {worker} maxconn {CONNECTIONS_MAX} pool-max-conn 512\n",
        subject_connections(),
        pem.display(),
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let process = measured(program).args(["-q", "-db", "-f"]).arg(&file).spawn().unwrap();
    until_it_listens(plain);
    Subject { name: "HAProxy", process, plain, encrypted, is_bare: false }
}

/// HAProxy refuses to start with more connections than it may have descriptors for.
fn subject_connections() -> u64 {
    let (_, most) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    (most.saturating_sub(100) / 2).min(CONNECTIONS_MAX as u64)
}

/// The gateway with this engine, as a process of its own.
pub(crate) fn gateway(routes: &str, engine: &str) {
    let mut options = RunOptions::new(Source::File(routes.into()));
    let engines = [Engine::Direct, Engine::Pingora];
    options.overrides.engine = engines.into_iter().find(|known| known.name() == engine);
    options.threads = 1;
    options.watch = false;
    let running = run(options).unwrap();
    for address in running.addrs() {
        println!("{address}");
    }
    println!();
    loop {
        std::thread::park();
    }
}

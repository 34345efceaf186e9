//! What is measured: a gateway and an nginx with the same rules in front of the same worker, each a
//! process of its own, and what the kernel counts for them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use colonnade_gateway::config::Config;
use colonnade_gateway::{BUNDLED_ROUTES, RunOptions, Source, run};

const NGINX: &str = "/usr/sbin/nginx";
const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/certificates");

pub(crate) struct Subject {
    process: Child,
    pub(crate) plain: SocketAddr,
    pub(crate) encrypted: SocketAddr,
}

pub(crate) struct Setting {
    /// The gateway, then nginx.
    pub(crate) subjects: [Subject; 2],
    worker: Child,
    _folder: tempfile::TempDir,
}

impl Subject {
    /// CPU time of the process so far, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // The name may hold blanks; what follows it does not.
        let after = stat.rsplit_once(") ").unwrap().1;
        let words: Vec<&str> = after.split(' ').collect();
        let ticks: f64 = words[11].parse::<f64>().unwrap() + words[12].parse::<f64>().unwrap();
        // The kernel's USER_HZ is 100 everywhere.
        ticks * 10_000.0
    }

    /// Resident memory, in kB.
    pub(crate) fn resident_kb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Setting {
    pub(crate) fn stop(&mut self) {
        for process in self.subjects.iter_mut().map(|s| &mut s.process).chain([&mut self.worker]) {
            let _gone = process.kill();
            let _gone = process.wait();
        }
    }
}

pub(crate) fn start() -> Option<Setting> {
    if !Path::new(NGINX).exists() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let (worker, lines) = this_program(&["role-worker"]);
    let worker_address: SocketAddr = lines[0].parse().unwrap();
    let routes = folder.path().join("routes.yaml");
    std::fs::write(&routes, routes_for(worker_address)).unwrap();
    let (process, lines) = this_program(&["role-gateway", routes.to_str().unwrap()]);
    let (plain, encrypted) = (lines[0].parse().unwrap(), lines[1].parse().unwrap());
    let gateway = Subject { process, plain, encrypted };
    let nginx = nginx(folder.path(), worker_address);
    Some(Setting { subjects: [gateway, nginx], worker, _folder: folder })
}

/// Starts this program in another role; it says its addresses on its first lines, then an empty
/// one.
fn this_program(arguments: &[&str]) -> (Child, Vec<String>) {
    let program = std::env::current_exe().unwrap();
    let mut process = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let lines = lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    (process, lines)
}

fn routes_for(worker: SocketAddr) -> String {
    let certificate = format!("cert: \"{CERTIFICATES}/one.crt\", key: \"{CERTIFICATES}/one.key\"");
    BUNDLED_ROUTES
        .replace("workers: []", &format!("workers: [\"{worker}\"]"))
        .replace("admin: \"127.0.0.1:8009\"", "")
        .replace(
            "  - { name: public, bind: \"127.0.0.1:8008\" }",
            &format!(
                "  - {{ name: plain, bind: \"127.0.0.1:0\" }}\n\
                 \x20 - {{ name: tls, bind: \"127.0.0.1:0\", tls: {{ certificates: [{{ {certificate} }}] }} }}"
            ),
        )
}

fn nginx(folder: &Path, worker: SocketAddr) -> Subject {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (plain, encrypted) = (free(), free());
    let config = Config::bundled().unwrap();
    let mut locations = String::new();
    let mut known = std::collections::HashSet::new();
    for route in config.routes.iter().filter(|route| known.insert(route.pattern.as_str())) {
        let pattern = route.pattern.as_str();
        locations.push_str(&format!("location ~ \"{pattern}\" {{ proxy_pass http://w; }}\n"));
    }
    let root = folder.display();
    let text = format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p;\n\
         fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
         keepalive_requests 1000000; upstream w {{ server {worker}; keepalive 512; }}\n\
         server {{ listen {plain}; listen {encrypted} ssl;\n\
         ssl_certificate {CERTIFICATES}/one.crt; ssl_certificate_key {CERTIFICATES}/one.key;\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id;\n\
         add_header Access-Control-Allow-Origin *;\n{locations} }} }}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    let process = Command::new(NGINX).arg("-c").arg(&file).arg("-p").arg(folder).spawn().unwrap();
    while TcpStream::connect(plain).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    Subject { process, plain, encrypted }
}

/// The gateway, as a process of its own.
pub(crate) fn gateway(routes: &str) {
    let mut options = RunOptions::new(Source::File(routes.into()));
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

/// A worker that answers everything with the same 200 bytes.
pub(crate) fn worker() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}\n", listener.local_addr().unwrap());
    while let Ok((stream, _)) = listener.accept() {
        std::thread::spawn(move || serve(stream));
    }
}

fn serve(mut stream: TcpStream) -> Option<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 200\r\n\r\n{}",
        "x".repeat(200)
    );
    stream.set_nodelay(true).ok()?;
    let mut buffer = vec![0; 16 << 10];
    let mut filled = 0;
    loop {
        let head = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n");
        let whole = head.map(|end| {
            let text = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            end + 4 + length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
        });
        match whole.filter(|whole| *whole <= filled) {
            Some(whole) => {
                buffer.copy_within(whole..filled, 0);
                filled -= whole;
                stream.write_all(answer.as_bytes()).ok()?;
            }
            None => match stream.read(&mut buffer[filled..]).ok()? {
                0 => return None,
                read => filled += read,
            },
        }
    }
}

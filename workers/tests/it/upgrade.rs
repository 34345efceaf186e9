//! One gateway process takes the place of another under load, and no client that honours
//! `Connection: close` loses a request.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::process::{command, gather};

/// No step takes longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker that answers everything, `/slow` after a while.
fn worker() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer_all(stream));
        }
    });
    address
}

fn answer_all(mut stream: TcpStream) {
    while let Some(head) = read_head(&mut stream) {
        if head.starts_with("GET /slow") {
            std::thread::sleep(Duration::from_millis(1_200));
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// Reads up to the empty line; `None` when the connection ends before.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).to_lowercase())
}

/// What the clients met.
#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    closing: AtomicU64,
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// A client that keeps its connection until it is told to close it, or for one request.
fn ask_on(to: SocketAddr, path: &str, keep: bool, rest: Duration, tally: &Tally) {
    let mut kept: Option<TcpStream> = None;
    while !tally.stop.load(Ordering::Relaxed) {
        let mut stream = match kept.take().map_or_else(|| TcpStream::connect(to), Ok) {
            Ok(stream) => stream,
            Err(error) => {
                tally.failures.lock().unwrap().push(format!("{path}: no connection: {error}"));
                continue;
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let sent = write!(stream, "GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
        match sent.ok().and_then(|()| read_head(&mut stream)) {
            Some(head) if head.starts_with("http/1.1 200") => {
                tally.answered.fetch_add(1, Ordering::Relaxed);
                let close = head.contains("connection: close");
                tally.closing.fetch_add(u64::from(close), Ordering::Relaxed);
                kept = (keep && !close).then_some(stream);
            }
            other => tally.failures.lock().unwrap().push(format!("{path}: {other:?}")),
        }
        std::thread::sleep(rest);
    }
}

fn start(folder: &Path) -> (Child, SocketAddr) {
    start_with(folder, &[])
}

fn start_with(folder: &Path, environment: &[(&str, &str)]) -> (Child, SocketAddr) {
    let mut command = command(folder);
    command.envs(environment.iter().copied());
    command.args(["gateway", "--routes", "routes.yaml", "--upgrade-socket", "upgrade.sock"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = gather(child.stdout.take().unwrap());
    let log = gather(child.stderr.take().unwrap());
    let begun = Instant::now();
    loop {
        if let Some(at) = out.lock().unwrap().lines().find_map(|l| l.strip_prefix("gateway at ")) {
            return (child, at.parse().unwrap());
        }
        let ended = child.try_wait().unwrap();
        let late = begun.elapsed() > PATIENCE;
        assert!(ended.is_none() && !late, "{ended:?}: {}", log.lock().unwrap());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn wait(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(begun.elapsed() < PATIENCE, "the old process does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_new_gateway_takes_over_and_no_request_fails() {
    let folder = tempfile::tempdir().unwrap();
    let routes = format!(
        "listen: [{{ name: test, bind: \"127.0.0.1:0\" }}]\n\
         pools: {{ all: {{ balance: single, workers: [\"{}\"] }} }}\n\
         routes: [{{ match: \"^/.*$\", pool: all }}]\n",
        worker()
    );
    std::fs::write(folder.path().join("routes.yaml"), routes).unwrap();
    let (mut running, at) = start(folder.path());
    let tally = Arc::new(Tally::default());
    let pause = Duration::from_millis(1);
    // Path, whether the connection is kept, rest between requests; the last one is mostly idle.
    let mut kinds = vec![("/kept", true, pause); 3];
    kinds.extend([("/fresh", false, pause), ("/fresh", false, pause)]);
    kinds.extend([("/slow", true, pause); 3]);
    kinds.push(("/idle", true, Duration::from_millis(1_700)));
    let clients: Vec<_> = kinds
        .into_iter()
        .map(|(path, keep, rest)| {
            let tally = Arc::clone(&tally);
            std::thread::spawn(move || ask_on(at, path, keep, rest, &tally))
        })
        .collect();
    for _ in 0..3 {
        let before = tally.answered.load(Ordering::Relaxed);
        let (next, next_at) = start(folder.path());
        assert_eq!(next_at, at, "the new process has the sockets of the old one");
        assert_eq!(wait(&mut std::mem::replace(&mut running, next)), Some(0));
        // The new one serves, alone.
        while tally.answered.load(Ordering::Relaxed) < before + 200 {
            std::thread::sleep(pause);
        }
    }
    tally.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    running.kill().unwrap();
    running.wait().unwrap();
    let failures = tally.failures.lock().unwrap();
    let answered = tally.answered.load(Ordering::Relaxed);
    assert!(failures.is_empty(), "{} of {answered}: {:?}", failures.len(), &failures[..]);
    // A client may be between two connections just then, but not all of them, three times.
    let closing = tally.closing.load(Ordering::Relaxed);
    assert!(closing >= 3, "{closing} of {answered} answers said that the connection ends");
}

/// The gateway alone sends its spans where the environment says.
#[test]
fn a_gateway_sends_its_spans_to_a_collector() {
    let folder = tempfile::tempdir().unwrap();
    let routes = format!(
        "listen: [{{ name: test, bind: \"127.0.0.1:0\" }}]\n\
         pools: {{ all: {{ balance: single, workers: [\"{}\"] }} }}\n\
         routes: [{{ match: \"^/.*$\", pool: all }}]\n",
        worker()
    );
    std::fs::write(folder.path().join("routes.yaml"), routes).unwrap();
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let got = std::thread::spawn(move || {
        let (mut stream, _) = collector.accept().unwrap();
        let head = read_head(&mut stream).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        (head, body)
    });
    let (mut gateway, address) =
        start_with(folder.path(), &[("COLONNADE_TRACING__OTLP_ENDPOINT", &endpoint)]);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with("http/1.1 200"));
    drop(stream);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(gateway.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let (head, body) = got.join().unwrap();
    assert!(head.starts_with("post /v1/traces"), "{head}");
    for text in [&b"gateway"[..], b"pool", b"all", b"^/.*$"] {
        assert!(body.windows(text.len()).any(|part| part == text), "{body:?}");
    }
    assert_eq!(wait(&mut gateway), Some(0));
}

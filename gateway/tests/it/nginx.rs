//! Agreement with a real nginx: the same keys meet the same workers, and what it closes is closed. Skipped, with a word, where no
//! nginx is installed.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use colonnade_gateway::import_nginx;
use pingora_ketama::{Bucket, Continuum};

use crate::client::{gateway, get};
use crate::worker::{Act, Worker};

struct Nginx {
    process: Child,
    _folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// Starts nginx in the foreground, as one process, with these upstreams and locations.
async fn nginx(upstreams: &str, locations: &str) -> Option<Nginx> {
    let binary = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())?;
    let folder = tempfile::tempdir().unwrap();
    // A port that was free a moment ago; nginx cannot be asked which one it got.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let root = folder.path().display();
    let config = format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n\
         access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p;\n\
         fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
         {upstreams}\n\
         server {{ listen 127.0.0.1:{port};\n\
         {locations} }} }}\n"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let process = Command::new(binary)
        .arg("-c")
        .arg(&file)
        .arg("-p")
        .arg(folder.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let nginx = Nginx { process, _folder: folder, address };
    let listens = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), listens).await.unwrap();
    Some(nginx)
}

/// Compares on four workers at this address; says of how many of 150 keys Pingora's ring thinks as nginx does.
async fn compare(at: &str) -> Option<usize> {
    let at = SocketAddr::new(at.parse().unwrap(), 0);
    let mut workers = Vec::new();
    for name in ["a", "b", "c", "d"] {
        workers.push(Worker::at(at, move |_| Act::Say(name.to_owned())).await);
    }
    let weights = [1, 3, 1, 2];
    let weighed = || workers.iter().map(|worker| worker.address).zip(weights);
    let servers: Vec<String> =
        weighed().map(|(address, weight)| format!("server {address} weight={weight};")).collect();
    let upstream = format!("upstream workers {{ hash $room consistent; {} }}", servers.join(" "));
    let location = "location ~ ^/rooms/(?<room>[^/]+)$ { proxy_pass http://workers; }";
    let nginx = nginx(&upstream, location).await?;
    let listed: Vec<String> =
        weighed().map(|(address, weight)| format!("\"{address} weight={weight}\"")).collect();
    let gateway = gateway(&format!(
        "pools: {{ rooms: {{ balance: {{ hash: room }}, workers: [{}] }} }}\n\
         routes: [{{ match: \"^/rooms/(?<room>[^/]+)$\", pool: rooms }}]\n",
        listed.join(", ")
    ));
    let buckets: Vec<Bucket> =
        weighed().map(|(address, weight)| Bucket::new(address, weight)).collect();
    let pingoras = Continuum::new(&buckets);
    let (mut met, mut same) = (std::collections::HashSet::new(), 0);
    for n in 0..150 {
        // Encoded for both: nginx hashes what it has decoded, and so do we.
        let target = format!("/rooms/%21room{n}%3Aexample.org");
        let theirs = get(nginx.address, &target).await.body;
        let ours = get(gateway.addrs()[0], &target).await.body;
        assert_eq!(theirs, ours, "{target}");
        let third = pingoras.node(format!("!room{n}:example.org").as_bytes());
        let third = weighed().position(|(address, _)| Some(address) == third).unwrap();
        same += usize::from(["a", "b", "c", "d"][third] == theirs);
        met.insert(ours);
    }
    assert_eq!(met.len(), 4);
    Some(same)
}

#[tokio::test]
async fn keys_meet_the_worker_nginx_would_choose() {
    match compare("127.0.0.1").await {
        Some(same) => assert_eq!(same, 150, "Pingora's ring is another one"),
        None => eprintln!("SKIPPED: no nginx on this machine, agreement not checked"),
    }
}

/// As ours do, and Pingora's do not: its ring hashes such an address without the brackets.
#[tokio::test]
async fn keys_meet_the_worker_nginx_would_choose_over_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: no IPv6 on this machine, agreement not checked");
        return;
    }
    match compare("::1").await {
        Some(same) => assert!(same < 150, "Pingora's ring agrees now: decision 34 says otherwise"),
        None => eprintln!("SKIPPED: no nginx on this machine, agreement not checked"),
    }
}

/// Pieces of paths that nginx and rules read in different ways.
const PIECES: [&str; 24] = [
    "/",
    "/",
    "/",
    "//",
    "%2F",
    "%2f",
    ".",
    "..",
    "%2e%2E",
    "%0A",
    "%20",
    "%25",
    "%C3%A9",
    "%21",
    "%23",
    "%3F",
    "[",
    "%5D",
    "a",
    "secret",
    "SECRET",
    "p!q",
    "b.php",
    "per%25cent",
];

const LOCATIONS: &str = r#"
    location "/a b" { deny all; }
    location /é { deny all; }
    location ^~ /per%cent { deny all; }
    location = /p!q { deny all; }
    location /p!q/ { deny all; }
    location =/a { return 403; }
    location ~ \.php$ { deny all; }
    location ~ ^/..secret { deny all; }
    location ~* ^/secret { deny all; }
    location ~ "/[^/]{2}/[a-c]$" { deny all; }
    location ~ "^/(\[|\s|é)+$" { deny all; }
    location / { proxy_pass http://workers; }
"#;

#[tokio::test]
async fn what_nginx_closes_is_closed_here() {
    let worker = Worker::named("open").await;
    let upstream = format!("upstream workers {{ server {}; }}", worker.address);
    let Some(nginx) = nginx(&upstream, LOCATIONS).await else {
        eprintln!("SKIPPED: no nginx on this machine, agreement not checked");
        return;
    };
    let routes = import_nginx("nginx.conf", &format!("{upstream}\n{LOCATIONS}")).unwrap().routes;
    let own = routes.find("limits:").unwrap();
    let gateway = gateway(&routes[own..]);
    let mut random = 7_u64;
    let mut next = |below: usize| {
        // Knuth's MMIX generator: the same paths in every run.
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % below
    };
    let (mut closed, mut open) = (0, 0);
    for _ in 0..600 {
        let pieces = 1 + next(6);
        let rest: String = (0..pieces).map(|_| PIECES[next(PIECES.len())]).collect();
        let target = format!("/{rest}");
        let theirs = get(nginx.address, &target).await;
        let ours = get(gateway.addrs()[0], &target).await;
        if theirs.status == 403 {
            assert_ne!(ours.body, "open", "{target} is open\n{routes}");
            closed += 1;
        }
        open += usize::from(theirs.body == "open" && ours.body == "open");
    }
    assert!(closed > 30 && open > 30, "{closed} closed, {open} open: too few of one kind");
}

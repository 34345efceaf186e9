//! Agreement with a real nginx: the same keys meet the same workers. Skipped, with a word, where no
//! nginx is installed.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::{gateway, get};
use crate::worker::Worker;

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

/// Starts nginx in the foreground, as one process, with this `http` block.
async fn nginx(upstreams: &str) -> Option<Nginx> {
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
         location ~ ^/rooms/(?<room>[^/]+)$ {{ proxy_pass http://workers; }} }} }}\n"
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

#[tokio::test]
async fn keys_meet_the_worker_nginx_would_choose() {
    let workers = [
        Worker::named("a").await,
        Worker::named("b").await,
        Worker::named("c").await,
        Worker::named("d").await,
    ];
    let weights = [1, 3, 1, 2];
    let servers: Vec<String> = workers
        .iter()
        .zip(weights)
        .map(|(worker, weight)| format!("server {} weight={weight};", worker.address))
        .collect();
    let upstream = format!("upstream workers {{ hash $room consistent; {} }}", servers.join(" "));
    let Some(nginx) = nginx(&upstream).await else {
        eprintln!("SKIPPED: no nginx on this machine, agreement not checked");
        return;
    };
    let listed: Vec<String> = workers
        .iter()
        .zip(weights)
        .map(|(worker, weight)| format!("\"{} weight={weight}\"", worker.address))
        .collect();
    let gateway = gateway(&format!(
        "pools: {{ rooms: {{ balance: {{ hash: room }}, workers: [{}] }} }}\n\
         routes: [{{ match: \"^/rooms/(?<room>[^/]+)$\", pool: rooms }}]\n",
        listed.join(", ")
    ));
    let mut met = std::collections::HashSet::new();
    for n in 0..150 {
        // Encoded for both: nginx hashes what it has decoded, and so do we.
        let target = format!("/rooms/%21room{n}%3Aexample.org");
        let theirs = get(nginx.address, &target).await.body;
        let ours = get(gateway.addrs()[0], &target).await.body;
        assert_eq!(theirs, ours, "{target}");
        met.insert(ours);
    }
    assert_eq!(met.len(), 4);
}

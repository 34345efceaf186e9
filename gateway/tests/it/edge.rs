//! What the door does besides handing on: discovery, limits, the access log, the status page.

use std::time::Duration;

use crate::client::{Client, ask, gateway, get, one_pool};
use crate::worker::{Act, Worker};

#[tokio::test]
async fn discovery_is_answered_from_the_file() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&format!(
        "well_known:\n  client: {{ m.homeserver: {{ base_url: \"https://hs.example\" }}, x: [1, true] }}\n\
         \x20 server: {{ m.server: \"hs.example:443\" }}\n{}",
        one_pool("single", &[worker.address])
    ));
    let answer = get(gateway.addrs()[0], "/.well-known/matrix/client").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["m.homeserver"]["base_url"], "https://hs.example");
    assert_eq!(json["x"], serde_json::json!([1, true]));
    let server = get(gateway.addrs()[0], "/.well-known/matrix/server").await;
    assert_eq!(server.body, r#"{"m.server":"hs.example:443"}"#);
    // What the file does not name goes the way of its rule.
    assert_eq!(get(gateway.addrs()[0], "/.well-known/matrix/support").await.body, "w");
    assert_eq!(worker.count(), 1);
}

#[tokio::test]
async fn too_many_requests_are_refused_with_the_time_to_wait() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&format!(
        "rate_limits: {{ per_token: {{ per_second: 2, burst: 3 }} }}\n{}",
        one_pool("single", &[worker.address])
    ));
    let address = gateway.addrs()[0];
    let as_user = |token: &str| {
        format!("GET /a HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\n\r\n")
    };
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(ask(address, &as_user("one")).await.status);
    }
    assert_eq!(statuses[..3], [200, 200, 200]);
    let refused = ask(address, &as_user("one")).await;
    assert_eq!((refused.status, refused.errcode().as_str()), (429, "M_LIMIT_EXCEEDED"));
    let json: serde_json::Value = serde_json::from_str(&refused.body).unwrap();
    assert!((1..=600).contains(&json["retry_after_ms"].as_u64().unwrap()), "{json}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // The same token in the query is the same; another one, and none, are not.
    assert_eq!(get(address, "/a?access_token=one").await.status, 429);
    assert_eq!(ask(address, &as_user("two")).await.status, 200);
    assert_eq!(get(address, "/a").await.status, 200);
}

#[tokio::test]
async fn an_address_has_its_rate_and_its_connections() {
    let worker = Worker::named("w").await;
    let rest = one_pool("single", &[worker.address]);
    let limited = gateway(&format!(
        "rate_limits: {{ per_ip: {{ per_second: 1, burst: 2 }} }}\n\
         trusted_proxies: [\"127.0.0.1\"]\n{rest}"
    ));
    let from = |ip: &str| format!("GET /a HTTP/1.1\r\nhost: h\r\nx-forwarded-for: {ip}\r\n\r\n");
    let mut statuses = Vec::new();
    for ip in ["9.9.9.1", "9.9.9.1", "9.9.9.1", "9.9.9.2"] {
        statuses.push(ask(limited.addrs()[0], &from(ip)).await.status);
    }
    assert_eq!(statuses, [200, 200, 429, 200]);
    let few = gateway(&format!("limits: {{ connections_per_ip: 2 }}\n{rest}"));
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(few.addrs()[0]).await;
        assert_eq!(client.get("/a").await.unwrap().status, 200);
        held.push(client);
    }
    assert_eq!(Client::connect(few.addrs()[0]).await.rest().await, "");
    let denied = gateway(&format!("deny_ips: [\"127.0.0.0/8\"]\n{rest}"));
    assert_eq!(Client::connect(denied.addrs()[0]).await.rest().await, "");
    let metrics = get(denied.admin_addr().unwrap(), "/metrics").await;
    assert!(metrics.body.contains("reason=\"denied\"} 1"), "{}", metrics.body);
}

#[tokio::test]
async fn the_access_log_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let worker = Worker::named("w").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = format!("access_log: \"{}\"\n", path.display());
    let _gateway = gateway(&format!("{log}{}", one_pool("single", &[worker.address])));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(format!("{:o}", mode & 0o777), "600");
}

#[tokio::test]
async fn the_access_log_tells_everything_but_secrets() {
    let worker = Worker::named("w").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let gateway = gateway(&format!(
        "access_log: \"{}\"\n{}",
        path.display(),
        one_pool("single", &[worker.address])
    ));
    let address = gateway.addrs()[0];
    let request = "GET /sync?since=1&access_token=SECRET HTTP/1.1\r\nhost: h\r\n\
         user-agent: \"odd\" agent\r\nx-request-id: r-7\r\n\r\n";
    ask(address, request).await;
    let header = "GET /a HTTP/1.1\r\nhost: h\r\nauthorization: Bearer SECRET\r\n\r\n";
    ask(address, header).await;
    // What is refused before it is read is not written down, either.
    assert_eq!(get(address, "/sync?access%5Ftoken=SECRET").await.status, 400);
    let lines = async {
        loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.lines().count() >= 2 {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let text = tokio::time::timeout(Duration::from_secs(10), lines).await.unwrap();
    assert!(!text.contains("SECRET"), "{text}");
    let line = text.lines().find(|line| line.contains("\"r-7\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["target"], "/sync?since=1&access_token=<redacted>");
    assert_eq!(line["status"], 200);
    assert_eq!(line["bytes"], 1);
    assert_eq!(line["pool"], "all");
    assert_eq!(line["worker"], worker.address.to_string());
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["user_agent"], "\"odd\" agent");
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    // After rotation and a reload, lines go to the new file.
    std::fs::rename(&path, folder.path().join("access.log.1")).unwrap();
    gateway.reload().unwrap();
    get(address, "/after").await;
    let rotated = async {
        while !std::fs::read_to_string(&path).unwrap_or_default().contains("/after") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), rotated).await.unwrap();
}

#[tokio::test]
async fn the_status_page_shows_a_person_what_happens() {
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("single", &[worker.address]));
    get(gateway.addrs()[0], "/a").await;
    let page = get(gateway.admin_addr().unwrap(), "/").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let worker = worker.address.to_string();
    for part in
        ["http-equiv=refresh", "requests/s", "1 rules", "<h2>all", worker.as_str(), ">open<"]
    {
        assert!(page.body.contains(part), "{part} is not in {}", page.body);
    }
}

#[tokio::test]
async fn answers_are_compressed_where_that_is_wanted() {
    let body = "{\"chunk\":[]}".repeat(400);
    let said = body.clone();
    let worker = Worker::start(move |_| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            said.len()
        );
        Act::Raw([head.as_bytes(), said.as_bytes()].concat())
    })
    .await;
    let rest = one_pool("single", &[worker.address]);
    let request = "GET /a HTTP/1.1\r\nhost: h\r\naccept-encoding: gzip\r\n\r\n";
    let plain = gateway(&rest);
    let answer = ask(plain.addrs()[0], request).await;
    assert_eq!((answer.header("content-encoding"), answer.body.len()), (None, body.len()));
    let compressing = gateway(&format!("compression: true\n{rest}"));
    let answer = ask(compressing.addrs()[0], request).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.body.len() < body.len() / 4, "{}", answer.body.len());
    let answer = ask(compressing.addrs()[0], &request.replace("gzip", "zstd, gzip")).await;
    assert_eq!(answer.header("content-encoding"), Some("zstd"));
    assert!(answer.body.len() < body.len() / 4, "{}", answer.body.len());
    let answer = get(compressing.addrs()[0], "/a").await;
    assert_eq!(answer.body, body);
}

#[tokio::test]
async fn a_folder_is_shown_where_no_rule_takes_a_path() {
    let worker = Worker::named("worker").await;
    let folder = tempfile::tempdir().unwrap();
    let large = "x".repeat(200_000);
    for (name, text) in [("index.html", "<p>home"), ("app.js", &large), ("empty.css", "")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::write(folder.path().join("denied.html"), "no").unwrap();
    let gateway = gateway(&format!(
        "static_folder: {}\n\
         pools: {{ all: {{ balance: single, workers: [\"{}\"] }} }}\n\
         routes:\n\
         \x20 - {{ match: \"^/_matrix/.*$\", pool: all }}\n\
         \x20 - {{ match: \"^/denied.html$\", deny: true }}\n",
        folder.path().display(),
        worker.address
    ));
    let mut client = Client::connect(gateway.addrs()[0]).await;
    let home = client.get("/?a=b").await.unwrap();
    assert_eq!((home.status, home.body.as_str()), (200, "<p>home"));
    assert_eq!(home.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(client.get("/app.js").await.unwrap().body, large);
    assert_eq!(client.get("/empty.css").await.unwrap().body, "");
    let head = client.head("/app.js").await.unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("200000")));
    let etag = head.header("etag").unwrap();
    client.send(format!("GET /app.js HTTP/1.1\r\nhost: h\r\nif-none-match: {etag}\r\n\r\n")).await;
    assert_eq!(client.answer().await.unwrap().status, 304);
    assert_eq!(client.get("/_matrix/a").await.unwrap().body, "worker");
    for path in ["/denied.html", "/nothing", "/..%2FCargo.toml", "/.hidden"] {
        assert_eq!(client.get(path).await.unwrap().status, 404, "{path}");
    }
    for path in ["/../Cargo.toml", "/%2e%2e/etc/passwd"] {
        assert_eq!(get(gateway.addrs()[0], path).await.status, 400, "{path}");
    }
    let post = "POST /app.js HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(ask(gateway.addrs()[0], post).await.status, 404);
}

/// Tokens that do not tell their user: a worker is asked once, and the user is the key and has the rate.
#[tokio::test]
async fn the_user_of_a_foreign_token_is_asked_for_and_remembered() {
    let served = |name: &'static str| {
        Worker::start(move |seen| match seen.target.starts_with("/_matrix") {
            false => Act::Say(name.to_owned()),
            true => match seen.header("authorization") {
                Some("Bearer mat_a1" | "Bearer mat_a2") => {
                    Act::Say("{\"user_id\":\"@a:h\"}".into())
                }
                Some("Bearer mat_b") => Act::Say("{\"user_id\":\"@b:h\"}".into()),
                _ => Act::Raw(b"HTTP/1.1 401 no\r\ncontent-length: 0\r\n\r\n".to_vec()),
            },
        })
    };
    let (one, two, client) = (served("one").await, served("two").await, served("client").await);
    let gateway = gateway(&format!(
        "whoami: client\n\
         rate_limits: {{ per_user: {{ per_second: 0.01, burst: 6 }} }}\n\
         pools:\n\
         \x20 client: {{ balance: single, workers: [\"{}\"] }}\n\
         \x20 users: {{ balance: {{ hash: user }}, workers: [\"{}\", \"{}\"] }}\n\
         routes:\n\
         \x20 - {{ match: \"^/of/(?<user>[^/]+)$\", pool: users }}\n\
         \x20 - {{ match: \"^/.*$\", pool: users }}\n",
        client.address, one.address, two.address
    ));
    let front = gateway.addrs()[0];
    let as_user = async |token: &str, target: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}");
        ask(front, &format!("{head}\r\n\r\n")).await
    };
    // Where the user herself hashes to; her tokens would each go their own way.
    let home = get(front, "/of/@a:h").await.body;
    for token in ["mat_a1", "mat_a2", "mat_a1", "mat_a2", "mat_a1", "mat_a2"] {
        assert_eq!(as_user(token, "/x").await.body, home);
    }
    assert_eq!(client.count(), 2, "each token is asked about once");
    // All devices of a user use one rate.
    for token in ["mat_a1", "mat_a2"] {
        let refused = as_user(token, "/x").await;
        assert_eq!((refused.status, refused.errcode().as_str()), (429, "M_LIMIT_EXCEEDED"));
    }
    assert_eq!(as_user("mat_b", "/x").await.status, 200);
    // A token nobody knows stands for itself, and is not asked about each time.
    for _ in 0..3 {
        assert_eq!(as_user("mat_unknown", "/x").await.status, 200);
    }
    assert_eq!(client.count(), 4);
}

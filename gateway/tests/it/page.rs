//! The status page as a browser shows it.

use std::process::{Command, Stdio};

use crate::client::{PATIENCE, gateway, get, one_pool};
use crate::worker::Worker;

/// Names under which systems install it.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

fn browser() -> Option<&'static str> {
    BROWSERS.into_iter().find(|name| {
        let mut ask = Command::new(name);
        ask.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        ask.status().is_ok_and(|status| status.success())
    })
}

#[tokio::test]
async fn a_browser_shows_pools_workers_and_the_table() {
    let Some(browser) = browser() else {
        println!("SKIPPED: no Chromium here; apt-get install chromium");
        return;
    };
    let worker = Worker::named("w").await;
    let gateway = gateway(&one_pool("round_robin", &[worker.address]));
    for _ in 0..3 {
        assert_eq!(get(gateway.addrs()[0], "/a").await.status, 200);
    }
    let page = format!("http://{}/", gateway.admin_addr().unwrap());
    let profile = tempfile::tempdir().unwrap();
    let mut show = tokio::process::Command::new(browser);
    show.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--dump-dom", &page])
        .stdin(Stdio::null());
    let shown = tokio::time::timeout(PATIENCE, show.kill_on_drop(true).output());
    let shown = shown.await.unwrap().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for part in ["all", "open", &worker.address.to_string()] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}

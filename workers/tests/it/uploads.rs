//! Files whose upload was answered are there, whole, after the server was killed at any moment.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use colonnade_testkit::Client;

use crate::process::Server;

/// How often the server is killed.
const ROUNDS: u64 = 6;
/// Users that upload at the same time.
const UPLOADERS: u64 = 3;
/// The largest file: several pieces of what the server reads at once.
const BYTES_MAX: u64 = 700_000;

/// An answered upload: its address, and from which number its bytes were made.
type Answered = Arc<Mutex<Vec<(String, u64)>>>;

/// Bytes that are different for every number; every fourth file has been uploaded before.
fn file(number: u64) -> Vec<u8> {
    let number = if number % 4 == 3 { 3 } else { number };
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let length = state % BYTES_MAX;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

async fn upload_until_it_breaks(url: String, token: String, first: u64, answered: Answered) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for number in first.. {
        let request = http.post(format!("{url}/_matrix/media/v3/upload")).bearer_auth(&token);
        let Ok(answer) = request.body(file(number)).send().await else { return };
        let Ok(text) = answer.text().await else { return };
        let Ok(body) = serde_json::from_str::<serde_json::Value>(&text) else { return };
        let Some(uri) = body["content_uri"].as_str() else { return };
        let place = uri.trim_start_matches("mxc://").to_owned();
        answered.lock().unwrap().push((place, number));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_upload_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let alice = Client::register(&server.url, "alice").await;
    let token = alice.token.clone().unwrap();
    server.stop();
    let answered = Answered::default();
    for round in 0..ROUNDS {
        let server = Server::start(folder.path());
        let mut work = tokio::task::JoinSet::new();
        for uploader in 0..UPLOADERS {
            let first = (round * UPLOADERS + uploader) * 1_000;
            let (url, token) = (server.url.clone(), token.clone());
            work.spawn(upload_until_it_breaks(url, token, first, Arc::clone(&answered)));
        }
        tokio::time::sleep(Duration::from_millis(150 + round * 70)).await;
        server.kill();
        work.join_all().await;
    }
    let server = Server::start(folder.path());
    let alice = alice.at(&server.url);
    let answered = answered.lock().unwrap().clone();
    assert!(!answered.is_empty(), "no upload was answered in time");
    for (place, number) in &answered {
        let path = format!("/_matrix/client/v1/media/download/{place}");
        let found = alice.raw(colonnade_testkit::Method::GET, &path, &[], Vec::new()).await;
        assert_eq!(found.status, 200, "{place}");
        assert!(found.bytes == file(*number), "{place} is not what was uploaded");
    }
    server.stop();
}

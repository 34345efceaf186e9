//! What dashboard and alerts in docs/operating name is what the program exports; rules and units are ones
//! their programs accept.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use colonnade_testkit::Client;
use serde_json::json;

use crate::process::{Server, run};

/// A file of the operating documents.
fn document(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", "operating", name].iter().collect()
}

/// The names of our metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter| !is_part(letter));
    words.filter(|word| word.starts_with("colonnade_")).map(ToOwned::to_owned).collect()
}

/// Where the server says one of its admin listeners is.
fn admin(server: &Server, which: &str) -> String {
    let said = server.out.lock().unwrap().clone();
    let line = said.lines().find(|line| line.contains(which)).unwrap();
    line.split_whitespace().last().unwrap().to_owned()
}

async fn metrics(admin: &str) -> String {
    reqwest::get(format!("{admin}/metrics")).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn every_metric_in_the_documents_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let alice = Client::register(&server.url, "alice").await;
    let made = alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
    assert!(made["room_id"].is_string());
    let gateway = admin(&server, "gateway admin");
    let reload = reqwest::Client::new().post(format!("{gateway}/reload")).send().await.unwrap();
    assert!(reload.status().is_success());
    let exported = metrics(&admin(&server, "worker admin")).await + &metrics(&gateway).await;
    let exported = names(&exported);
    server.stop();
    for file in ["grafana.json", "alerts.yaml", "watching.md"] {
        let named = names(&std::fs::read_to_string(document(file)).unwrap());
        assert!(named.len() > 5, "{file} names {named:?}");
        let unknown: Vec<_> = named.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file} names what is not exported: {unknown:?}");
    }
}

#[test]
fn the_dashboard_is_json_with_a_query_in_each_panel() {
    let text = std::fs::read_to_string(document("grafana.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let asks = |panel: &serde_json::Value| panel["targets"][0]["expr"].as_str().is_some();
    assert!(panels.len() > 5 && panels.iter().all(asks), "{board}");
}

#[test]
fn promtool_accepts_the_alerts() {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "rules"]).arg(document("alerts.yaml"));
    match promtool.output() {
        Ok(said) => assert!(said.status.success(), "{said:?}"),
        Err(_) => println!("SKIPPED: the alert rules by promtool: apt-get install prometheus"),
    }
}

#[test]
fn systemd_accepts_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let units = ["colonnade.service", "colonnade-gateway@.service", "colonnade-worker@.service"];
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify");
    for unit in units.iter().chain(&["colonnade.target"]) {
        let text = std::fs::read_to_string(document("systemd").join(unit)).unwrap();
        // The program is where it was built; users and folders of an installation are not asked for.
        let text = text.replace("/usr/local/bin/colonnade", env!("CARGO_BIN_EXE_colonnade"));
        std::fs::write(folder.path().join(unit), text).unwrap();
        verify.arg(folder.path().join(unit));
    }
    match verify.output() {
        Ok(said) => {
            // Units of the machine may be complained of, too.
            let complaints = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(said.status.success() && !complaints.contains("colonnade"), "{said:?}");
        }
        Err(_) => println!("SKIPPED: the units by systemd-analyze, which is not here"),
    }
    // The command lines in them are ones the program understands.
    let help = run(folder.path(), &["worker", "--help"], "");
    for flag in ["--name", "--pool", "--bind", "--set", "--config"] {
        assert!(help.out.contains(flag), "{flag}: {help:?}");
    }
}

/// A gateway killed while it drains would be started again, and take over from its successor.
#[test]
fn the_gateways_unit_lets_it_drain() {
    let unit = std::fs::read_to_string(document("systemd/colonnade-gateway@.service")).unwrap();
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec="));
    let stop: u64 = stop.unwrap().parse().unwrap();
    let help = run(tempfile::tempdir().unwrap().path(), &["gateway", "--help"], "").out;
    let drain = help.split_once("--drain-seconds").unwrap().1.split_once("[default: ").unwrap().1;
    let drain: u64 = drain.split_once(']').unwrap().0.parse().unwrap();
    assert!(stop > drain, "killed after {stop} s, drains for {drain} s");
    // The one that ends must leave the folder of the socket to the other.
    assert!(unit.lines().any(|line| line == "RuntimeDirectoryPreserve=yes"));
}

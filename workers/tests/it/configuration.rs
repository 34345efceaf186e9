//! Mistakes in the configuration, and a data folder that cannot be used: said before anything starts.

use crate::process::{Server, run};

#[test]
fn an_unknown_key_names_its_place_and_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let text = "server_name: localhost\nregistraton:\n  open: true\n";
    std::fs::write(folder.path().join("colonnade.yaml"), text).unwrap();
    for command in ["up", "check"] {
        let said = run(folder.path(), &[command], "");
        assert_eq!(said.code, Some(2), "{said:?}");
        let expected = "colonnade.yaml:2:1: registraton: there is no such key; did you mean \
                        `registration`?";
        assert!(said.err.contains(expected), "{said:?}");
    }
    let said = run(folder.path(), &["up", "--set", "loging.level=info"], "");
    assert!(said.err.contains("--set loging.level=info: "), "{said:?}");
    assert!(said.err.contains("did you mean `logging.level`?"), "{said:?}");
    let said = run(folder.path(), &["check", "--config", "elsewhere.yaml"], "");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("there is no file elsewhere.yaml"), "{said:?}");
    assert!(!folder.path().join("data").exists(), "nothing was started");
}

#[test]
fn two_servers_cannot_share_a_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = Server::start(folder.path());
    let said = run(folder.path(), &["up", "--listen", "127.0.0.1:0"], "");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("another process has this data folder open"), "{said:?}");
    // The one that runs is not disturbed.
    assert!(first.log.lock().unwrap().is_empty());
    first.stop();
}

#[test]
fn a_server_name_cannot_change() {
    let folder = tempfile::tempdir().unwrap();
    Server::start(folder.path()).stop();
    let said = run(folder.path(), &["--server-name", "example.org"], "");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("belongs to the server localhost"), "{said:?}");
}

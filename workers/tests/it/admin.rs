//! Accounts by hand, on a running server and on a stopped one.

use colonnade_testkit::Client;
use serde_json::json;

use crate::process::{Server, run};

async fn log_in(url: &str, user: &str, password: &str) -> u16 {
    let body = json!({
        "type": "m.login.password", "password": password,
        "identifier": { "type": "m.id.user", "user": user },
    });
    Client::new(url).post("/_matrix/client/v3/login", body).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_made_changed_and_closed() {
    let folder = tempfile::tempdir().unwrap();
    let closed = ["--set", "registration.open=false"];
    let server = Server::start_with(folder.path(), &closed);
    assert!(server.out.lock().unwrap().contains("Registration is closed"));
    let said = run(folder.path(), &["admin", "create-user", "alice"], "first password\n");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(log_in(&server.url, "alice", "first password").await, 200);
    let said = run(folder.path(), &["admin", "create-user", "alice"], "another password\n");
    assert_eq!(said.code, Some(1), "a name is taken once: {said:?}");
    let said = run(folder.path(), &["admin", "create-user", "bob"], "");
    assert_eq!(said.code, Some(2), "no password, no account: {said:?}");
    server.stop();

    // Nobody runs: the database itself.
    let said = run(folder.path(), &["admin", "reset-password", "alice"], "second password\n");
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = run(folder.path(), &["admin", "reset-password", "nobody"], "x y z x y z\n");
    assert_eq!(said.code, Some(1), "{said:?}");

    let server = Server::start_with(folder.path(), &closed);
    assert_eq!(log_in(&server.url, "alice", "first password").await, 403);
    assert_eq!(log_in(&server.url, "alice", "second password").await, 200);
    let said = run(folder.path(), &["admin", "deactivate", "@alice:localhost"], "");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(log_in(&server.url, "alice", "second password").await, 403);
    let log = server.stop();
    assert!(!log.contains("password\""), "{log}");
}

#[tokio::test]
async fn the_signing_key_is_replaced_whether_the_server_runs_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Server::start_with(folder.path(), &["--set", "server_name=hs.example"]);
    let keys = async |server: &Server| {
        let told = Client::new(&server.url).get("/_matrix/key/v2/server").await.ok();
        let names =
            |of: &str| -> Vec<String> { told[of].as_object().unwrap().keys().cloned().collect() };
        (names("verify_keys"), names("old_verify_keys"))
    };
    let server = start();
    let (first, none) = keys(&server).await;
    assert!(first.len() == 1 && none.is_empty(), "{first:?} {none:?}");
    let said = run(folder.path(), &["admin", "rotate-signing-key"], "");
    assert_eq!(said.code, Some(0), "{said:?}");
    let (second, old) = keys(&server).await;
    assert!(second != first && old == first, "{second:?} {old:?}");
    server.stop();
    let said = run(folder.path(), &["admin", "rotate-signing-key"], "");
    assert_eq!(said.code, Some(0), "{said:?}");
    let server = start();
    let (third, mut old) = keys(&server).await;
    old.sort();
    let mut before = [first, second].concat();
    before.sort();
    assert!(!before.contains(&third[0]) && old == before, "{third:?} {old:?}");
    assert!(said.out.contains(&third[0]), "{said:?}");
    server.stop();
}

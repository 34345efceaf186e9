//! The commands that answer and end: check, explain, version, help, and wrong command lines.

use crate::process::run;

#[test]
fn check_says_yes_or_names_each_problem() {
    let folder = tempfile::tempdir().unwrap();
    let said = run(folder.path(), &["check"], "");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("routes.yaml (bundled): right"), "{said:?}");
    let said = run(folder.path(), &["check", "--table"], "");
    assert!(said.out.contains("GET,HEAD ^/_matrix/client/versions$ → client"), "{said:?}");
    std::fs::write(
        folder.path().join("routes.yaml"),
        "pools:\n  all: { balance: least_conn, workers: [] }\nroutes:\n  \
         - { match: \"^/_matrix/client/versions$\", pool: al }\n",
    )
    .unwrap();
    let said = run(folder.path(), &["check"], "");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("routes.yaml:4:"), "{said:?}");
    std::fs::write(
        folder.path().join("routes.yaml"),
        "pools:\n  all: { balance: least_conn, workers: [] }\nroutes:\n  \
         - { match: \"^/_matrix/client/versions$\", pool: all }\n",
    )
    .unwrap();
    let said = run(folder.path(), &["check"], "");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("no rule takes"), "endpoints without a route are named: {said:?}");
    assert!(!said.err.contains("/_matrix/client/versions"), "{said:?}");
}

#[test]
fn check_and_explain_ask_a_gateway_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let routes = folder.path().join("routes.yaml");
    let text = colonnade_gateway::BUNDLED_ROUTES
        .replace("127.0.0.1:8008", "127.0.0.1:0")
        .replace("127.0.0.1:8009", "127.0.0.1:0")
        .replace("workers: []", "workers: [\"127.0.0.1:1\"]");
    std::fs::write(&routes, &text).unwrap();
    let mut options =
        colonnade_gateway::RunOptions::new(colonnade_gateway::Source::File(routes.clone()));
    options.watch = false;
    let gateway = colonnade_gateway::run(options).unwrap();
    let url = format!("http://{}", gateway.admin_addr().unwrap());
    let said = run(folder.path(), &["check", "--admin", &url], "");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("version 1 of ") && said.out.contains("endpoints"), "{said:?}");
    let said =
        run(folder.path(), &["explain", "GET", "/_matrix/client/v3/sync", "--admin", &url], "");
    assert!(said.out.contains("worker  127.0.0.1:1"), "{said:?}");
    // The file says something else than what is in force, and nobody has told the gateway.
    let more = text.replacen("workers: [\"127.0.0.1:1\"]", "workers: [\"127.0.0.1:2\"]", 1);
    std::fs::write(&routes, more).unwrap();
    let said = run(folder.path(), &["check", "--admin", &url], "");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("pool changed: client"), "{said:?}");
    // What is in force lacks endpoints of this server.
    let few = "pools: { all: { balance: single, workers: [\"127.0.0.1:1\"] } }\n\
         routes: [{ match: \"^/_matrix/client/versions$\", pool: all }]\n";
    let listens = "listen: [{ name: a, bind: \"127.0.0.1:0\" }]\nadmin: \"127.0.0.1:0\"\n";
    std::fs::write(&routes, format!("{listens}{few}")).unwrap();
    gateway.reload().unwrap();
    std::fs::remove_file(&routes).unwrap();
    let said = run(folder.path(), &["check", "--admin", &url], "");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.err.contains("has in force is wrong") && said.err.contains("no rule takes"),
        "{said:?}"
    );
    drop(gateway);
    let said = run(folder.path(), &["check", "--admin", &url], "");
    assert_eq!((said.code, said.err.contains("does not answer")), (Some(1), true), "{said:?}");
    let said = run(folder.path(), &["check", "--admin", "nowhere"], "");
    assert_eq!(
        (said.code, said.err.contains("http://127.0.0.1:8009")),
        (Some(2), true),
        "{said:?}"
    );
}

/// No listeners of admins, whose usual ports another server may have.
const NO_ADMIN: [&str; 4] = ["--set", "admin.gateway=null", "--set", "admin.listen=null"];

#[test]
fn up_says_at_once_what_it_does_not_do_of_the_routes_file() {
    let folder = tempfile::tempdir().unwrap();
    let routes = folder.path().join("routes.yaml");
    let bundled = include_str!("../../../routes.yaml");
    let with = |listener: &str| {
        let listen = "listen:\n  - { name: public, bind: \"127.0.0.1:8008\" }";
        let text = bundled.replacen(listen, &format!("listen:\n  - {listener}"), 1);
        assert_ne!(text, bundled);
        std::fs::write(&routes, text).unwrap();
    };
    let settings = ["--set", "routes=routes.yaml"];
    let up = [&["up", "--listen", "127.0.0.1:0"][..], &settings, &NO_ADMIN].concat();
    let check = ["check", settings[0], settings[1]];
    // On a trial server, where anybody may register, nobody else comes in.
    with("{ name: a, bind: \"0.0.0.0:18998\", proxy_protocol: true }");
    let said = run(folder.path(), &up, "");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("a at 0.0.0.0:18998 lets others in"), "{said:?}");
    let said = run(folder.path(), &check, "");
    assert!(said.out.contains("lets others in"), "{said:?}");
    // Certificates that are not there.
    let tls =
        "{ name: a, bind: \"127.0.0.1:0\", tls: { certificates: [{ cert: c.pem, key: k.pem }] } }";
    with(tls);
    let said = run(folder.path(), &up, "");
    assert!(said.code != Some(0) && said.err.contains("c.pem"), "{said:?}");
    with("{ name: a, bind: \"127.0.0.1:18999\" }");
    let said = run(folder.path(), &check, "");
    assert!(said.out.contains("and not at 127.0.0.1:18999"), "{said:?}");
}

#[test]
fn explain_names_route_pool_key_and_worker() {
    let folder = tempfile::tempdir().unwrap();
    let path = "/_matrix/client/v3/rooms/%21r%3Alocalhost/send/m.room.message/typing";
    let said = run(folder.path(), &["explain", "put", path], "");
    assert_eq!(said.code, Some(0), "{said:?}");
    for part in ["→ rooms by room", "pool    rooms", "key     !r:localhost", "worker  unix:"] {
        assert!(said.out.contains(part), "{part}: {said:?}");
    }
    let said = run(folder.path(), &["explain", "GET", "/nowhere"], "");
    assert!(said.out.contains("404"), "{said:?}");
}

#[test]
fn a_wrong_command_line_is_answered_with_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let said = run(folder.path(), &["version"], "");
    assert_eq!((said.code, said.out.starts_with("colonnade ")), (Some(0), true), "{said:?}");
    let said = run(folder.path(), &["worker", "--pool", "synch"], "");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("did you mean sync?"), "{said:?}");
    let said = run(folder.path(), &["chekc"], "");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("check"), "{said:?}");
    let said = run(folder.path(), &["--help"], "");
    for taught in ["Examples:", "admin create-user", "COLONNADE_LOGGING__LEVEL"] {
        assert!(said.out.contains(taught), "{taught}: {}", said.out);
    }
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing was written");
}

#[test]
fn routes_files_are_checked_compared_and_imported() {
    let folder = tempfile::tempdir().unwrap();
    let old = "pools: { a: { balance: { hash: room }, workers: [\"127.0.0.1:1\"] } }\n\
         routes: [{ match: \"^/(?<room>[^/]+)$\", pool: a }]\n";
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("old.yaml"), old).unwrap();
    let new = old.replace("\"127.0.0.1:1\"", "\"127.0.0.1:1\", \"127.0.0.1:2\"");
    std::fs::write(path("new.yaml"), new).unwrap();
    let said = run(folder.path(), &["routes", "check", &path("old.yaml")], "");
    assert_eq!((said.code, said.out.contains("right, 1 rules")), (Some(0), true), "{said:?}");
    let said = run(folder.path(), &["routes", "diff", &path("old.yaml"), &path("new.yaml")], "");
    assert!(said.out.starts_with("pool changed: a, "), "{said:?}");
    std::fs::write(path("bad.yaml"), old.replace("balance", "balanse")).unwrap();
    let said = run(folder.path(), &["routes", "check", &path("bad.yaml")], "");
    assert_eq!((said.code, said.err.contains("did you mean")), (Some(2), true), "{said:?}");
    let nginx = "upstream w { hash $remote_addr; server 127.0.0.1:1; }\n\
         server { location ~ ^/_matrix/ { proxy_pass http://w; } }\n";
    std::fs::write(path("nginx.conf"), nginx).unwrap();
    let said = run(folder.path(), &["routes", "import-nginx", &path("nginx.conf")], "");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("nginx.conf:1: `w` hashes consistently now"), "{said:?}");
    std::fs::write(path("imported.yaml"), &said.out).unwrap();
    let said = run(folder.path(), &["routes", "check", &path("imported.yaml")], "");
    assert_eq!(said.code, Some(0), "{said:?}");
}

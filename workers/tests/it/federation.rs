//! `colonnade up` listens for other servers itself, encrypted: by its configuration, and by its routes file. The
//! certificate is read again when it is told to.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    authority::{Authority, Certificate},
    process::{PATIENCE, Server},
};

/// Asks for the keys of the server behind an address, over TLS as `name`; returns all that openssl says.
fn ask(address: &str, name: &str, authority: &Authority) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", address, "-servername", name, "-verify_hostname", name]);
    command.arg("-CAfile").arg(authority.file()).args(["-verify_return_error", "-ign_eof"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("these tests use openssl");
    let request =
        format!("GET /_matrix/key/v2/server HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    let _refused_already = child.stdin.take().unwrap().write_all(request.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Where a server says it listens besides.
fn also(server: &Server) -> String {
    let said = server.out.lock().unwrap().clone();
    let line = said.lines().find(|line| line.trim_start().starts_with("also"));
    line.unwrap_or_else(|| panic!("{said}")).split_whitespace().nth(1).unwrap().to_owned()
}

fn put(shown: &Certificate, folder: &Path) {
    std::fs::copy(&shown.certificate, folder.join("c.pem")).unwrap();
    std::fs::copy(&shown.key, folder.join("k.pem")).unwrap();
}

#[test]
fn up_listens_for_other_servers_and_reads_its_certificate_again() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    put(&authority.certificate("DNS:hs.example"), folder.path());
    let listen = "federation.listen=[{ bind: \"127.0.0.1:0\", certificate: c.pem, key: k.pem }]";
    let settings = ["--set", listen, "--set", "server_name=hs.example"];
    let server = Server::start_with(folder.path(), &settings);
    let at = also(&server);
    let said = ask(&at, "hs.example", &authority);
    assert!(said.contains("\"server_name\":\"hs.example\""), "{said}");
    let said = ask(&at, "other.example", &authority);
    assert!(said.contains("ostname mismatch") && !said.contains("verify_keys"), "{said}");

    put(&authority.certificate("DNS:hs.example,DNS:other.example"), folder.path());
    server.signal(Signal::SIGHUP);
    let begun = Instant::now();
    while !ask(&at, "other.example", &authority).contains("verify_keys") {
        assert!(begun.elapsed() < PATIENCE, "{}", server.log.lock().unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    server.stop();
}

#[test]
fn up_listens_encrypted_where_its_routes_file_says() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    put(&authority.certificate("DNS:hs.example"), folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let listener = format!(
        "listen:\n  - {{ name: federation, bind: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert: \"{}\", key: \
         \"{}\" }}] }} }}",
        path("c.pem"),
        path("k.pem")
    );
    let bundled = include_str!("../../../routes.yaml");
    let clear = "listen:\n  - { name: public, bind: \"127.0.0.1:8008\" }";
    std::fs::write(path("routes.yaml"), bundled.replacen(clear, &listener, 1)).unwrap();
    let server = Server::start_with(folder.path(), &["--set", "server_name=hs.example"]);
    let said = ask(&also(&server), "hs.example", &authority);
    assert!(said.contains("\"server_name\":\"hs.example\""), "{said}");
    server.stop();
}

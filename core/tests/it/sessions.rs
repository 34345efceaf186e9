//! What strangers can do to the sessions of others: guess at passwords, end what others have begun, use
//! up their keys; and what ends with a session.

use std::os::unix::fs::PermissionsExt as _;

use colonnade_rooms::{Settings, settings::Rate};
use colonnade_testkit::{Answer, Client, Method, TestServer, server::open_settings};
use futures_util::future::join_all;
use serde_json::{Value, json};

const V3: &str = "/_matrix/client/v3";
const GET_TOKEN: &str = "/_matrix/client/v1/login/get_token";
const VALIDITY: &str = "/_matrix/client/v1/register/m.login.registration_token/validity";

fn by_password(user: &str, password: &str) -> Value {
    let identifier = json!({ "type": "m.id.user", "user": user });
    json!({ "type": "m.login.password", "password": password, "identifier": identifier })
}

fn own_proof(client: &Client) -> Value {
    let name = client.user_id[1..].split(':').next().unwrap();
    by_password(name, &format!("password-{name}"))
}

/// Logs in from an address, as a proxy on this machine says.
async fn login_from(client: &Client, address: &str, user: &str, password: &str) -> Answer {
    let headers = [("x-forwarded-for", address), ("content-type", "application/json")];
    let body = by_password(user, password).to_string().into_bytes();
    client.raw(Method::POST, &format!("{V3}/login"), &headers, body).await.answer()
}

/// Limits so that three failures are too many.
fn strict() -> Settings {
    let mut settings = open_settings();
    settings.rate_limits.enabled = true;
    settings.rate_limits.login = Rate { per_second: 0.001, burst: 3 };
    settings
}

#[tokio::test]
async fn right_passwords_are_never_too_many() {
    let server = TestServer::with_settings(strict()).await;
    let alice = server.user("alice").await;
    for _ in 0..5 {
        login_from(&server.anonymous(), "192.0.2.1", "alice", "password-alice").await.ok();
    }
    let keep = json!({ "new_password": "password-alice", "logout_devices": false });
    for _ in 0..5 {
        let mut request = keep.clone();
        request["auth"] = own_proof(&alice);
        alice.post(&format!("{V3}/account/password"), request).await.ok();
    }
}

#[tokio::test]
async fn an_account_has_one_limit_however_its_name_is_spelled() {
    let server = TestServer::with_settings(strict()).await;
    if server.takes_turns() {
        // Others hear of it in a moment (docs/operating/cluster.md), and here they take turns.
        return;
    }
    server.user("alice").await;
    let client = server.anonymous();
    // Known and unknown names alike: nobody learns which there are.
    for name in ["alice", "nobody"] {
        let spellings = [name.to_owned(), format!("@{name}:localhost"), name.to_uppercase()];
        for (n, spelling) in spellings.iter().enumerate() {
            let address = format!("192.0.2.{n}");
            login_from(&client, &address, spelling, "guess").await.err(403, "M_FORBIDDEN");
        }
        for (n, spelling) in spellings.iter().enumerate() {
            let address = format!("198.51.100.{n}");
            let refused = login_from(&client, &address, spelling, "guess").await;
            refused.err(429, "M_LIMIT_EXCEEDED");
        }
    }
    // The address that failed once has two tries left for others.
    for _ in 0..1 {
        login_from(&client, "192.0.2.1", "carol", "guess").await.err(403, "M_FORBIDDEN");
    }
    login_from(&client, "192.0.2.1", "carol", "guess").await.err(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn strangers_who_guess_do_not_keep_a_user_out() {
    let server = TestServer::with_settings(strict()).await;
    if server.takes_turns() {
        return;
    }
    let alice = server.user("alice").await;
    let client = server.anonymous();
    let (home, train) = ("192.0.2.10", "192.0.2.20");
    login_from(&client, home, "alice", "password-alice").await.ok();
    for n in 0..3 {
        let address = format!("203.0.113.{n}");
        login_from(&client, &address, "alice", "guess").await.err(403, "M_FORBIDDEN");
    }
    login_from(&client, train, "alice", "password-alice").await.err(429, "M_LIMIT_EXCEEDED");
    login_from(&client, home, "alice", "password-alice").await.ok();
    login_from(&alice, train, "alice", "password-alice").await.ok();
    // The train is known now, and home is remembered when nobody is logged in any more.
    alice.post(&format!("{V3}/logout/all"), json!({})).await.ok();
    login_from(&client, train, "alice", "password-alice").await.ok();
    login_from(&client, home, "alice", "password-alice").await.ok();
    // A known address is no way to guess for ever.
    for _ in 0..3 {
        login_from(&client, home, "alice", "guess").await.err(403, "M_FORBIDDEN");
    }
    login_from(&client, home, "alice", "guess").await.err(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn who_guesses_at_others_from_an_address_keeps_nobody_out_who_is_known_there() {
    let server = TestServer::with_settings(strict()).await;
    if server.takes_turns() {
        return;
    }
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let client = server.anonymous();
    let school = "192.0.2.30";
    login_from(&client, school, "alice", "password-alice").await.ok();
    let guess = async |name: &str| login_from(&client, school, name, "guess").await;
    for n in 0..40 {
        let answer = guess(&format!("pupil{n}")).await;
        assert_eq!(answer.status, if n < 3 { 403 } else { 429 });
    }
    // Known by the address, known by the device, not known.
    login_from(&client, school, "alice", "password-alice").await.ok();
    login_from(&bob, school, "carol", "password-bob").await.err(429, "M_LIMIT_EXCEEDED");
    login_from(&client, school, "bob", "password-bob").await.err(429, "M_LIMIT_EXCEEDED");
    login_from(&bob, school, "bob", "password-bob").await.ok();
    // Being known is no way to guess, neither at the user nor at others.
    for _ in 0..3 {
        guess("alice").await.err(403, "M_FORBIDDEN");
    }
    guess("alice").await.err(429, "M_LIMIT_EXCEEDED");
    login_from(&client, school, "alice", "password-alice").await.err(429, "M_LIMIT_EXCEEDED");
    login_from(&alice, school, "alice", "password-alice").await.ok();
    guess("pupil41").await.err(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn a_user_who_opens_many_sessions_of_stages_ends_his_own() {
    let server = TestServer::start().await;
    let (alice, mallory) = (server.user("alice").await, server.user("mallory").await);
    let open =
        async |client: &Client| client.post(GET_TOKEN, json!({})).await.body["session"].clone();
    let (of_alice, first) = (open(&alice).await, open(&mallory).await);
    let registering = json!({ "username": "bob", "password": "x" });
    let register = format!("{V3}/register");
    let of_bob = server.anonymous().post(&register, registering.clone()).await;
    for _ in 0..50 {
        open(&mallory).await;
    }
    let with = |client: &Client, session: &Value| {
        let mut auth = own_proof(client);
        auth["session"] = session.clone();
        json!({ "auth": auth })
    };
    mallory.post(GET_TOKEN, with(&mallory, &first)).await.err(400, "M_UNKNOWN");
    alice.post(GET_TOKEN, with(&alice, &of_alice)).await.ok();
    let mut request = registering;
    request["auth"] = json!({ "type": "m.login.dummy", "session": of_bob.body["session"] });
    server.anonymous().post(&register, request).await.ok();
}

/// Makes a login token.
async fn login_token(client: &Client) -> Value {
    let answer = client.post(GET_TOKEN, json!({ "auth": own_proof(client) })).await.ok();
    json!({ "type": "m.login.token", "token": answer["login_token"] })
}

#[tokio::test]
async fn a_login_token_dies_with_the_session_that_made_it() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let login = format!("{V3}/login");
    let anybody = server.anonymous();
    let out = alice.another_device().await;
    let token = login_token(&out).await;
    out.post(&format!("{V3}/logout"), json!({})).await.ok();
    anybody.post(&login, token).await.err(403, "M_FORBIDDEN");

    let gone = alice.another_device().await;
    let token = login_token(&gone).await;
    let auth = json!({ "auth": own_proof(&alice) });
    alice.delete(&format!("{V3}/devices/{}", gone.device_id), Some(auth)).await.ok();
    anybody.post(&login, token).await.err(403, "M_FORBIDDEN");

    let again = alice.another_device().await;
    let token = login_token(&again).await;
    let mut request = own_proof(&alice);
    request["device_id"] = json!(again.device_id);
    anybody.post(&login, request).await.ok();
    anybody.post(&login, token).await.err(403, "M_FORBIDDEN");

    let token = login_token(&alice).await;
    let request = json!({ "new_password": "password-alice", "auth": own_proof(&alice) });
    alice.post(&format!("{V3}/account/password"), request).await.ok();
    anybody.post(&login, token).await.err(403, "M_FORBIDDEN");

    let (kept, token) = (login_token(&alice).await, login_token(&alice).await);
    anybody.post(&login, kept.clone()).await.ok();
    anybody.post(&login, kept).await.err(403, "M_FORBIDDEN");
    let request = json!({ "auth": own_proof(&alice) });
    alice.post(&format!("{V3}/account/deactivate"), request).await.ok();
    anybody.post(&login, token).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn only_who_knows_the_password_hears_that_an_account_is_closed() {
    let server = TestServer::start().await;
    for (name, erase) in [("alice", false), ("bob", true)] {
        let user = server.user(name).await;
        let request = json!({ "auth": own_proof(&user), "erase": erase });
        user.post(&format!("{V3}/account/deactivate"), request).await.ok();
        let (login, client) = (format!("{V3}/login"), server.anonymous());
        client.post(&login, by_password(name, "guess")).await.err(403, "M_FORBIDDEN");
        let right = by_password(name, &format!("password-{name}"));
        client.post(&login, right).await.err(403, "M_USER_DEACTIVATED");
    }
}

fn with_token(token: Value) -> Settings {
    let mut settings = open_settings();
    settings.registration.open = Some(false);
    settings.registration.tokens = vec![serde_json::from_value(token).unwrap()];
    settings
}

async fn is_valid(client: &Client) -> bool {
    let answer = client.get(&format!("{VALIDITY}?token=spring")).await.ok();
    answer["valid"].as_bool().unwrap()
}

#[tokio::test]
async fn a_registration_token_is_good_for_so_many_accounts() {
    let settings = with_token(json!({ "token": "spring", "uses_allowed": 2 }));
    let server = TestServer::with_settings(settings).await;
    let (client, path) = (server.anonymous(), format!("{V3}/register"));
    let request = |name: String| {
        let auth = json!({ "type": "m.login.registration_token", "token": "spring" });
        json!({ "username": name, "password": "x", "auth": auth })
    };
    assert!(is_valid(&client).await);
    // A name that is taken, or cannot be one, uses nothing up.
    client.post(&path, request("a b".to_owned())).await.err(400, "M_INVALID_USERNAME");
    let many = (0..6).map(|n| client.post(&path, request(format!("user{n}"))));
    let answers = join_all(many).await;
    let made = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(made, 2);
    for answer in answers.into_iter().filter(|answer| answer.status != 200) {
        answer.err(401, "M_FORBIDDEN");
    }
    assert!(!is_valid(&client).await);
    client.post(&path, request("late".to_owned())).await.err(401, "M_FORBIDDEN");
    // It stays used up.
    let server = server.restart().await;
    assert!(!is_valid(&server.anonymous()).await);
}

#[tokio::test]
async fn a_registration_token_is_held_by_the_session_that_showed_it() {
    let settings = with_token(json!({ "token": "spring", "uses_allowed": 1 }));
    let server = TestServer::with_settings(settings).await;
    let (client, path) = (server.anonymous(), format!("{V3}/register"));
    client.post(&path, json!({ "username": "taken", "password": "x" })).await;
    let demand = client.post(&path, json!({ "username": "first", "password": "x" })).await;
    let session = &demand.body["session"];
    let shown =
        json!({ "type": "m.login.registration_token", "token": "spring", "session": session });
    // The password is one that cannot be: the stage is done, the account is not made.
    let long = "x".repeat(1_000);
    let request = json!({ "username": "first", "password": long, "auth": shown });
    client.post(&path, request).await.err(400, "M_INVALID_PARAM");
    assert!(!is_valid(&client).await, "its one use is pending");
    let other = json!({ "type": "m.login.registration_token", "token": "spring" });
    let request = json!({ "username": "second", "password": "x", "auth": other });
    client.post(&path, request).await.err(401, "M_FORBIDDEN");
    let request = json!({ "username": "first", "password": "x", "auth": { "session": session } });
    client.post(&path, request.clone()).await.ok();
    // Whoever lost the answer asks again, and no other account comes of it.
    assert_eq!(client.post(&path, request).await.ok()["user_id"], "@first:localhost");
    assert!(!is_valid(&client).await);
}

#[tokio::test]
async fn a_registration_token_expires() {
    let settings = with_token(json!({ "token": "spring", "expiry_time_ms": 1_000 }));
    let server = TestServer::with_settings(settings).await;
    let client = server.anonymous();
    assert!(!is_valid(&client).await);
    let auth = json!({ "type": "m.login.registration_token", "token": "spring" });
    let request = json!({ "username": "alice", "password": "x", "auth": auth });
    client.post(&format!("{V3}/register"), request).await.err(401, "M_FORBIDDEN");
    let settings =
        with_token(json!({ "token": "spring", "expiry_time_ms": 253_402_300_799_000_i64 }));
    let server = TestServer::with_settings(settings).await;
    assert!(is_valid(&server.anonymous()).await);
}

#[tokio::test]
async fn nobody_uses_up_the_one_time_keys_of_others() {
    let mut settings = open_settings();
    settings.rate_limits.enabled = true;
    settings.rate_limits.claim = Rate { per_second: 0.001, burst: 3 };
    let server = TestServer::with_settings(settings).await;
    if server.takes_turns() {
        return;
    }
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let mallory = server.user("mallory").await;
    let key =
        |n: usize| (format!("signed_curve25519:KEY{n}"), json!({ "key": "k", "signatures": {} }));
    let keys: serde_json::Map<String, Value> = (0..10).map(key).collect();
    let fallback = json!({ "signed_curve25519:LAST": { "key": "f", "signatures": {} } });
    let body = json!({ "one_time_keys": keys, "fallback_keys": fallback });
    bob.post(&format!("{V3}/keys/upload"), body).await.ok();
    let request = json!({ bob.device_id.clone(): "signed_curve25519" });
    let request = json!({ "one_time_keys": { bob.user_id.clone(): request } });
    let claim = async |client: &Client| {
        let body = client.post(&format!("{V3}/keys/claim"), request.clone()).await.ok();
        let keys = body["one_time_keys"][&bob.user_id][&bob.device_id].as_object().unwrap().clone();
        keys.keys().next().unwrap().clone()
    };
    for _ in 0..3 {
        assert_ne!(claim(&mallory).await, "signed_curve25519:LAST");
    }
    for _ in 0..5 {
        assert_eq!(claim(&mallory).await, "signed_curve25519:LAST");
    }
    assert_ne!(claim(&alice).await, "signed_curve25519:LAST");
}

#[tokio::test]
async fn what_a_server_stores_is_for_its_own_user_alone() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let upload = "/_matrix/media/v3/upload";
    alice.raw(Method::POST, upload, &[("content-type", "text/plain")], b"x".to_vec()).await;
    // The folder itself is the test's.
    let inside = std::fs::read_dir(&server.data_dir).unwrap();
    let mut open: Vec<_> = inside.map(|entry| entry.unwrap().path()).collect();
    let mut looked_at = 0;
    while let Some(path) = open.pop() {
        if path.extension().is_some_and(|ending| ending == "yaml") {
            // Configuration, which the test writes where servers are processes.
            continue;
        }
        let facts = std::fs::symlink_metadata(&path).unwrap();
        let mode = facts.permissions().mode() & 0o777;
        if facts.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let wanted = if facts.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(format!("{mode:o}"), format!("{wanted:o}"), "{}", path.display());
        looked_at += 1;
    }
    assert!(looked_at >= 4, "{looked_at}");
}

/// What the log of this test binary holds of logins.
static LOGGED: parking_lot::Mutex<Vec<u8>> = parking_lot::Mutex::new(Vec::new());

struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_failed_login_is_a_line_that_the_documented_filter_reads() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating/fail2ban.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    assert!(docs.contains(r#"failregex = failed login from <HOST> for [^\s"]+"#));
    let server = TestServer::start().await;
    if server.has_gateway() {
        // Their log is that of other processes.
        return;
    }
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log);
    log.with_env_filter("colonnade::login=warn").try_init().unwrap();
    let alice = server.user("logged.alice").await;
    let client = server.anonymous();
    login_from(&client, "192.0.2.77", "LOGGED.ALICE", "guess").await.err(403, "M_FORBIDDEN");
    login_from(&client, "2001:db8::77", "no body\nfailed", "guess").await.err(403, "M_FORBIDDEN");
    login_from(&client, "192.0.2.78", "logged.alice", "password-logged.alice").await.ok();
    let mut auth = own_proof(&alice);
    auth["password"] = json!("guess");
    alice.post(GET_TOKEN, json!({ "auth": auth })).await.err(401, "M_FORBIDDEN");
    let logged = String::from_utf8(LOGGED.lock().clone()).unwrap();
    // Read as the filter does: what stands between, and no spaces to the end.
    let failures = logged.lines().filter_map(|line| line.split_once("failed login from "));
    let failures = failures.filter_map(|(_, rest)| rest.split_once(" for "));
    let failures: Vec<(&str, &str)> = failures.collect();
    for wanted in [
        ("192.0.2.77", "@logged.alice:localhost"),
        ("2001:db8::77", "no?body?failed"),
        ("127.0.0.1", "@logged.alice:localhost"),
    ] {
        let (address, account) = wanted;
        let is_it = |found: &(&str, &str)| found.0 == address && found.1.contains(account);
        assert!(failures.iter().any(is_it), "{wanted:?}: {logged}");
    }
    assert!(!logged.contains("192.0.2.78"), "{logged}");
    assert!(failures.iter().all(|(_, account)| !account.contains([' ', '"'])), "{logged}");
}

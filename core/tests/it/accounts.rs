//! Registering, logging in and out, tokens, user-interactive authentication, devices.

use colonnade_testkit::{Client, TestServer, server::open_settings};
use serde_json::{Value, json};

const REGISTER: &str = "/_matrix/client/v3/register";
const LOGIN: &str = "/_matrix/client/v3/login";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";
const DEVICES: &str = "/_matrix/client/v3/devices";

fn dummy(name: &str) -> Value {
    json!({ "username": name, "password": "secret", "auth": { "type": "m.login.dummy" } })
}

fn by_password(user: &str, password: &str) -> Value {
    json!({
        "type": "m.login.password", "password": password,
        "identifier": { "type": "m.id.user", "user": user },
    })
}

fn proof(client: &Client, session: &Value) -> Value {
    let name = client.user_id[1..].split(':').next().unwrap();
    json!({
        "type": "m.login.password", "password": format!("password-{name}"), "session": session,
        "identifier": { "type": "m.id.user", "user": client.user_id },
    })
}

fn with_token(server: &TestServer, token: &Value) -> Client {
    let mut client = server.anonymous();
    client.token = Some(token.as_str().unwrap().to_owned());
    client
}

#[tokio::test]
async fn registering_makes_an_account_and_a_session() {
    let server = TestServer::start().await;
    let client = server.anonymous();
    let demand = client.post(REGISTER, json!({ "username": "alice", "password": "x" })).await;
    assert_eq!(demand.status, 401);
    assert_eq!(demand.body["flows"], json!([{ "stages": ["m.login.dummy"] }]));
    let auth = json!({ "type": "m.login.dummy", "session": demand.body["session"] });
    let request = json!({
        "username": "Alice", "password": "x", "auth": auth, "device_id": "PHONE",
        "initial_device_display_name": "Phone",
    });
    let answer = client.post(REGISTER, request.clone()).await.ok();
    assert_eq!(answer["user_id"], "@alice:localhost");
    assert_eq!(answer["device_id"], "PHONE");
    let alice = with_token(&server, &answer["access_token"]);
    let who = alice.get(WHOAMI).await.ok();
    assert_eq!((&who["user_id"], &who["device_id"]), (&answer["user_id"], &json!("PHONE")));
    let devices = alice.get(DEVICES).await.ok();
    assert_eq!(devices["devices"][0]["display_name"], "Phone");
    client.post(REGISTER, dummy("alice")).await.err(400, "M_USER_IN_USE");
    let quiet = json!({
        "username": "bob", "password": "x", "inhibit_login": true,
        "auth": { "type": "m.login.dummy" },
    });
    assert_eq!(client.post(REGISTER, quiet).await.ok(), json!({ "user_id": "@bob:localhost" }));
    let nameless = json!({ "password": "x", "auth": { "type": "m.login.dummy" } });
    assert!(client.post(REGISTER, nameless).await.ok()["user_id"].as_str().unwrap().len() > 12);
}

#[tokio::test]
async fn a_session_of_stages_remembers_what_was_asked_and_answers_twice_the_same() {
    let server = TestServer::start().await;
    let client = server.anonymous();
    let request = json!({ "username": "carla", "password": "geh\u{e4}use", "device_id": "DESK",
        "initial_device_display_name": "Desk" });
    let session = client.post(REGISTER, request).await.body["session"].clone();
    let done = json!({ "auth": { "type": "m.login.dummy", "session": session } });
    let made = client.post(REGISTER, done.clone()).await.ok();
    assert_eq!(
        (&made["user_id"], &made["device_id"]),
        (&json!("@carla:localhost"), &json!("DESK"))
    );
    let carla = with_token(&server, &made["access_token"]);
    let devices = carla.get(DEVICES).await.ok();
    assert_eq!(devices["devices"][0]["display_name"], "Desk");
    client.post(LOGIN, by_password("carla", "geh\u{e4}use")).await.ok();
    let again = client.post(REGISTER, done).await.ok();
    assert_eq!(again["user_id"], made["user_id"]);
    let auth = json!({ "type": "m.login.dummy", "session": session });
    let named = json!({ "username": "carla", "password": "geh\u{e4}use", "auth": auth });
    assert_eq!(client.post(REGISTER, named).await.ok()["user_id"], made["user_id"]);
    with_token(&server, &again["access_token"]).get(WHOAMI).await.ok();
    // What is said later counts, and a session may remember that no device is wanted.
    let request = json!({ "username": "dora", "password": "x", "inhibit_login": true });
    let session = client.post(REGISTER, request).await.body["session"].clone();
    let auth = json!({ "type": "m.login.dummy", "session": session });
    let made = client.post(REGISTER, json!({ "username": "dorothy", "auth": auth })).await.ok();
    assert_eq!(made, json!({ "user_id": "@dorothy:localhost" }));
    // Whoever never named a password has to.
    let session = client.post(REGISTER, json!({ "username": "eve" })).await.body["session"].clone();
    let auth = json!({ "type": "m.login.dummy", "session": session });
    client.post(REGISTER, json!({ "auth": auth })).await.err(400, "M_MISSING_PARAM");
    let late = json!({ "auth": auth, "password": "x" });
    assert_eq!(client.post(REGISTER, late).await.ok()["user_id"], "@eve:localhost");
}

#[tokio::test]
async fn registering_refuses_what_cannot_be() {
    let server = TestServer::start().await;
    let client = server.anonymous();
    for name in ["", "a b", "émile", "a:b", "a\u{0}b", &"x".repeat(300)] {
        client.post(REGISTER, dummy(name)).await.err(400, "M_INVALID_USERNAME");
    }
    client.post(&format!("{REGISTER}?kind=cat"), json!({})).await.err(400, "M_INVALID_PARAM");
    let appservice = json!({ "type": "m.login.application_service", "username": "bridge" });
    client.post(REGISTER, appservice).await.err(400, "M_UNKNOWN");
    let no_password = json!({ "username": "carol", "auth": { "type": "m.login.dummy" } });
    client.post(REGISTER, no_password).await.err(400, "M_MISSING_PARAM");
    let wrong_type = json!({ "username": 7 });
    client.post(REGISTER, wrong_type).await.err(400, "M_BAD_JSON");
    let available = "/_matrix/client/v3/register/available?username=";
    assert_eq!(client.get(&format!("{available}dora")).await.ok()["available"], true);
    server.user("dora").await;
    client.get(&format!("{available}dora")).await.err(400, "M_USER_IN_USE");
    client.get(&format!("{available}do%20ra")).await.err(400, "M_INVALID_USERNAME");
    client.get("/_matrix/client/v3/register/available").await.err(400, "M_MISSING_PARAM");
}

#[tokio::test]
async fn registration_may_be_closed_or_ask_for_a_token() {
    let mut settings = open_settings();
    settings.registration.open = None;
    let server = TestServer::with_settings(settings.clone()).await;
    server.anonymous().post(REGISTER, dummy("alice")).await.err(403, "M_FORBIDDEN");
    settings.registration.tokens = vec!["open-sesame".into()];
    let server = TestServer::with_settings(settings).await;
    let client = server.anonymous();
    let validity = "/_matrix/client/v1/register/m.login.registration_token/validity?token=";
    assert_eq!(client.get(&format!("{validity}open-sesame")).await.ok()["valid"], true);
    assert_eq!(client.get(&format!("{validity}open")).await.ok()["valid"], false);
    let request = |token: &str| {
        let auth = json!({ "type": "m.login.registration_token", "token": token });
        json!({ "username": "alice", "password": "x", "auth": auth })
    };
    let refused = client.post(REGISTER, request("sesame")).await.err(401, "M_FORBIDDEN");
    assert_eq!(refused["flows"], json!([{ "stages": ["m.login.registration_token"] }]));
    client.post(REGISTER, dummy("alice")).await.err(401, "M_FORBIDDEN");
    client.post(REGISTER, request("open-sesame")).await.ok();
}

#[tokio::test]
async fn logging_in_takes_the_right_proof() {
    let server = TestServer::start().await;
    server.user("alice").await;
    let client = server.anonymous();
    let flows = client.get(LOGIN).await.ok();
    assert_eq!(flows["flows"][0]["type"], "m.login.password");
    for name in ["alice", "@alice:localhost", "ALICE"] {
        client.post(LOGIN, by_password(name, "password-alice")).await.ok();
    }
    let old = json!({ "type": "m.login.password", "user": "alice", "password": "password-alice" });
    client.post(LOGIN, old).await.ok();
    for (name, password) in [("alice", "wrong"), ("nobody", "x"), ("@alice:other.org", "x")] {
        client.post(LOGIN, by_password(name, password)).await.err(403, "M_FORBIDDEN");
    }
    client.post(LOGIN, json!({})).await.err(400, "M_BAD_JSON");
    client.post(LOGIN, json!({ "type": "m.login.password" })).await.err(400, "M_MISSING_PARAM");
    client.post(LOGIN, json!({ "type": "m.login.magic" })).await.err(400, "M_UNKNOWN");
    let appservice = json!({ "type": "m.login.application_service" });
    client.post(LOGIN, appservice).await.err(400, "M_UNKNOWN");
    let mail = json!({ "type": "m.id.thirdparty", "medium": "email", "address": "a@b.c" });
    let by_mail = json!({ "type": "m.login.password", "password": "x", "identifier": mail });
    client.post(LOGIN, by_mail).await.err(403, "M_FORBIDDEN");
    let stale = with_token(&server, &json!("cln_aa_stale"));
    stale.post(LOGIN, by_password("alice", "password-alice")).await.ok();
}

#[tokio::test]
async fn tokens_work_in_both_places_until_logout() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let token = alice.token.clone().unwrap();
    let anonymous = server.anonymous();
    anonymous.get(&format!("{WHOAMI}?access_token={token}")).await.ok();
    anonymous.get(WHOAMI).await.err(401, "M_MISSING_TOKEN");
    for forged in ["", "x", "cln_", &token[..46], &format!("{token}x")] {
        let client = with_token(&server, &json!(forged));
        assert_eq!(client.get(WHOAMI).await.status, 401, "{forged:?}");
    }
    let other = alice.another_device().await;
    let third = alice.another_device().await;
    other.post("/_matrix/client/v3/logout", json!({})).await.ok();
    let gone = other.get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
    assert_ne!(gone["soft_logout"], json!(true));
    alice.get(WHOAMI).await.ok();
    let server = server.restart().await;
    let alice = alice.at(&server.url);
    let third = third.at(&server.url);
    alice.get(WHOAMI).await.ok();
    third.get(WHOAMI).await.ok();
    alice.post("/_matrix/client/v3/logout/all", json!({})).await.ok();
    alice.get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
    third.get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn the_database_holds_no_token() {
    let mut server = TestServer::start().await;
    let alice = server.user("alice").await;
    let token = alice.token.clone().unwrap();
    server.close().await;
    let bytes = server.stored();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("@alice:localhost"));
    assert!(!holds(&token) && !holds("password-alice"));
}

#[tokio::test]
async fn a_known_device_loses_its_old_tokens() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut request = by_password("alice", "password-alice");
    request["device_id"] = json!(alice.device_id);
    request["initial_device_display_name"] = json!("ignored");
    let answer = server.anonymous().post(LOGIN, request).await.ok();
    assert_eq!(answer["device_id"], json!(alice.device_id));
    alice.get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
    let again = with_token(&server, &answer["access_token"]);
    let devices = again.get(DEVICES).await.ok();
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
    assert_eq!(devices["devices"][0]["display_name"], "unnamed");
}

#[tokio::test]
async fn refreshing_replaces_tokens_once_the_new_ones_are_used() {
    let mut settings = open_settings();
    settings.sessions.access_token_ms = 60_000;
    let server = TestServer::with_settings(settings).await;
    server.user("alice").await;
    let client = server.anonymous();
    let mut request = by_password("alice", "password-alice");
    request["refresh_token"] = json!(true);
    let first = client.post(LOGIN, request).await.ok();
    assert_eq!(first["expires_in_ms"], 60_000);
    let refresh = |body: &Value| {
        let body = json!({ "refresh_token": body["refresh_token"] });
        let client = server.anonymous();
        async move { client.post("/_matrix/client/v3/refresh", body).await }
    };
    let lost = refresh(&first).await.ok();
    let second = refresh(&first).await.ok();
    with_token(&server, &lost["access_token"]).get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
    with_token(&server, &first["access_token"]).get(WHOAMI).await.ok();
    with_token(&server, &second["access_token"]).get(WHOAMI).await.ok();
    with_token(&server, &first["access_token"]).get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
    refresh(&first).await.err(401, "M_UNKNOWN_TOKEN");
    refresh(&lost).await.err(401, "M_UNKNOWN_TOKEN");
    let third = refresh(&second).await.ok();
    let together = with_token(&server, &third["access_token"]);
    let (a, b, c) = tokio::join!(together.get(WHOAMI), together.get(WHOAMI), together.get(WHOAMI));
    assert_eq!([a.status, b.status, c.status], [200; 3]);
    together.get(WHOAMI).await.ok();
    let fourth = refresh(&third).await.ok();
    with_token(&server, &second["access_token"]).get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
    with_token(&server, &fourth["access_token"]).get(WHOAMI).await.ok();
    refresh(&json!({ "refresh_token": "clr_forged" })).await.err(401, "M_UNKNOWN_TOKEN");
    refresh(&json!({})).await.err(400, "M_BAD_JSON");
}

#[tokio::test]
async fn an_expired_token_is_a_soft_logout() {
    let mut settings = open_settings();
    settings.sessions.access_token_ms = 0;
    let server = TestServer::with_settings(settings).await;
    server.user("alice").await;
    let mut request = by_password("alice", "password-alice");
    request["refresh_token"] = json!(true);
    let answer = server.anonymous().post(LOGIN, request).await.ok();
    let expired = with_token(&server, &answer["access_token"]);
    let error = expired.get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
    assert_eq!(error["soft_logout"], true);
}

#[tokio::test]
async fn a_login_token_works_once() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let path = "/_matrix/client/v1/login/get_token";
    let demand = alice.post(path, json!({})).await;
    assert_eq!(demand.status, 401);
    let auth = proof(&alice, &demand.body["session"]);
    let answer = alice.post(path, json!({ "auth": auth })).await.ok();
    assert!(answer["expires_in_ms"].as_u64().unwrap() > 0);
    let login = json!({ "type": "m.login.token", "token": answer["login_token"] });
    let client = server.anonymous();
    assert_eq!(client.post(LOGIN, login.clone()).await.ok()["user_id"], "@alice:localhost");
    client.post(LOGIN, login).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_session_of_stages_fits_one_request_of_one_user_once() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let other = alice.another_device().await;
    let mallory = server.user("mallory").await;
    let path = format!("{DEVICES}/{}", other.device_id);
    let demand = alice.delete(&path, None).await;
    assert_eq!(demand.status, 401);
    assert_eq!(demand.body["flows"], json!([{ "stages": ["m.login.password"] }]));
    let session = &demand.body["session"];
    let mut wrong = proof(&alice, session);
    wrong["password"] = json!("wrong");
    let again = alice.delete(&path, Some(json!({ "auth": wrong }))).await.err(401, "M_FORBIDDEN");
    assert_eq!(&again["session"], session);
    let auth = json!({ "auth": proof(&alice, session) });
    let elsewhere = format!("{DEVICES}/{}", alice.device_id);
    alice.delete(&elsewhere, Some(auth.clone())).await.err(403, "M_FORBIDDEN");
    mallory.delete(&path, Some(auth.clone())).await.err(403, "M_FORBIDDEN");
    let not_hers = json!({ "auth": proof(&mallory, session) });
    alice.delete(&path, Some(not_hers)).await.err(403, "M_FORBIDDEN");
    let dummy = json!({ "auth": { "type": "m.login.dummy", "session": session } });
    alice.delete(&path, Some(dummy)).await.err(401, "M_FORBIDDEN");
    let only_session = json!({ "auth": { "session": session } });
    assert_eq!(alice.delete(&path, Some(only_session)).await.status, 401);
    alice.delete(&path, Some(auth.clone())).await.ok();
    other.get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
    alice.delete(&path, Some(auth)).await.err(400, "M_UNKNOWN");
    let unknown = json!({ "auth": proof(&alice, &json!("invented")) });
    alice.delete(&path, Some(unknown)).await.err(400, "M_UNKNOWN");
}

#[tokio::test]
async fn devices_can_be_named_and_deleted_together() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let (second, third) = (alice.another_device().await, alice.another_device().await);
    let path = format!("{DEVICES}/{}", second.device_id);
    alice.put(&path, json!({ "display_name": "Tablet" })).await.ok();
    let device = alice.get(&path).await.ok();
    assert_eq!(device["display_name"], "Tablet");
    let too_long = json!({ "display_name": "x".repeat(101) });
    alice.put(&path, too_long).await.err(400, "M_TOO_LARGE");
    alice.get(&format!("{DEVICES}/NONE")).await.err(404, "M_NOT_FOUND");
    alice.put(&format!("{DEVICES}/NONE"), json!({})).await.err(404, "M_NOT_FOUND");
    let mallory = server.user("mallory").await;
    mallory.get(&path).await.err(404, "M_NOT_FOUND");
    let seen = alice.get(&format!("{DEVICES}/{}", alice.device_id)).await.ok();
    assert_eq!(seen["last_seen_ip"], "127.0.0.1");
    assert!(seen["last_seen_ts"].as_i64().unwrap() > 1_600_000_000_000);
    let server = server.restart().await;
    let (alice, second) = (alice.at(&server.url), second.at(&server.url));
    let seen = alice.get(&path).await.ok();
    assert_eq!(seen["display_name"], "Tablet");
    let mine = server.inside().await.services.context.db.clone();
    let user_id = colonnade_model::ruma::UserId::parse(&alice.user_id).unwrap();
    let user = server.inside().await.services.context.interned.find_user(&user_id).await.unwrap();
    let rows = colonnade_storage::users::devices::list(&mine, user.unwrap()).await.unwrap();
    assert_eq!(rows[0].last_seen_ip.as_deref(), Some("127.0.0.1"));
    let names = json!([third.device_id, second.device_id, "NONE"]);
    let bulk = "/_matrix/client/v3/delete_devices";
    let demand = alice.post(bulk, json!({ "devices": names })).await;
    assert_eq!(demand.status, 401);
    let auth = proof(&alice, &demand.body["session"]);
    let fewer = json!({ "devices": [third.device_id], "auth": auth });
    alice.post(bulk, fewer).await.err(403, "M_FORBIDDEN");
    alice.post(bulk, json!({ "devices": names, "auth": auth })).await.ok();
    let devices = alice.get(DEVICES).await.ok();
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
    second.get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn a_new_password_logs_the_others_out_unless_asked_not_to() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let other = alice.another_device().await;
    let path = "/_matrix/client/v3/account/password";
    let auth = proof(&alice, &Value::Null);
    let keep = json!({ "new_password": "second", "logout_devices": false, "auth": auth });
    alice.post(path, keep).await.ok();
    other.get(WHOAMI).await.ok();
    let client = server.anonymous();
    client.post(LOGIN, by_password("alice", "password-alice")).await.err(403, "M_FORBIDDEN");
    client.post(LOGIN, by_password("alice", "second")).await.ok();
    let mut auth = proof(&alice, &Value::Null);
    auth["password"] = json!("second");
    alice.post(path, json!({ "new_password": "third", "auth": auth })).await.ok();
    other.get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
    alice.get(WHOAMI).await.ok();
    client.post(path, json!({ "new_password": "x" })).await.err(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn a_deactivated_account_stays_closed() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let path = "/_matrix/client/v3/account/deactivate";
    assert_eq!(alice.post(path, json!({})).await.status, 401);
    let auth = proof(&alice, &Value::Null);
    let answer = alice.post(path, json!({ "auth": auth, "erase": true })).await.ok();
    assert_eq!(answer["id_server_unbind_result"], "success");
    alice.get(WHOAMI).await.err(401, "M_UNKNOWN_TOKEN");
    let server = server.restart().await;
    let client = server.anonymous();
    let login = by_password("alice", "password-alice");
    client.post(LOGIN, login).await.err(403, "M_USER_DEACTIVATED");
    client.post(REGISTER, dummy("alice")).await.err(400, "M_USER_IN_USE");
}

#[tokio::test]
async fn a_script_with_the_secret_may_register() {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let path = "/_synapse/admin/v1/register";
    let closed = TestServer::start().await;
    closed.anonymous().get(path).await.err(400, "M_UNKNOWN");
    let mut settings = open_settings();
    settings.registration.open = None;
    settings.registration.shared_secret = Some("shared".to_owned());
    let server = TestServer::with_settings(settings).await;
    let client = server.anonymous();
    let request = |nonce: &Value, secret: &str| {
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{}\0root\0toor\0admin", nonce.as_str().unwrap()).as_bytes());
        let mac = mac.finalize().into_bytes();
        let mac: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "nonce": nonce, "username": "root", "password": "toor", "admin": true, "mac": mac })
    };
    let nonce = client.get(path).await.ok()["nonce"].clone();
    client.post(path, request(&nonce, "guess")).await.err(403, "M_FORBIDDEN");
    client.post(path, request(&nonce, "shared")).await.err(400, "M_UNKNOWN");
    let nonce = client.get(path).await.ok()["nonce"].clone();
    let answer = client.post(path, request(&nonce, "shared")).await.ok();
    assert_eq!(answer["user_id"], "@root:localhost");
    with_token(&server, &answer["access_token"]).get(WHOAMI).await.ok();
    client.post(path, request(&nonce, "shared")).await.err(400, "M_UNKNOWN");
    client.post(LOGIN, by_password("root", "toor")).await.ok();
}

#[tokio::test]
async fn logging_in_is_limited() {
    let mut settings = open_settings();
    settings.rate_limits.enabled = true;
    settings.rate_limits.login.burst = 3;
    settings.rate_limits.login.per_second = 0.01;
    let server = TestServer::with_settings(settings).await;
    if server.takes_turns() {
        // Others hear of it in a moment (docs/operating/cluster.md), and here they take turns.
        return;
    }
    let client = server.anonymous();
    for _ in 0..3 {
        client.post(LOGIN, by_password("nobody", "x")).await.err(403, "M_FORBIDDEN");
    }
    let error = client.post(LOGIN, by_password("nobody", "x")).await.err(429, "M_LIMIT_EXCEEDED");
    assert!(error["retry_after_ms"].as_u64().unwrap() > 50_000);
    let alice = server.user("alice").await;
    let mut auth = proof(&alice, &Value::Null);
    auth["password"] = json!("guess");
    let path = "/_matrix/client/v3/account/password";
    let request = json!({ "new_password": "x", "auth": auth });
    for _ in 0..3 {
        alice.post(path, request.clone()).await.err(401, "M_FORBIDDEN");
    }
    alice.post(path, request).await.err(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn no_account_has_addresses() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let v3 = "/_matrix/client/v3";
    let request = json!({ "client_secret": "secret", "email": "a@b.example", "send_attempt": 1 });
    for (client, path) in [
        (Client::new(&alice.url), "register/email/requestToken"),
        (Client::new(&alice.url), "account/password/email/requestToken"),
        (alice.clone(), "account/3pid/email/requestToken"),
    ] {
        let asked = client.post(&format!("{v3}/{path}"), request.clone()).await;
        asked.err(403, "M_THREEPID_DENIED");
    }
    let address = json!({ "medium": "email", "address": "a@b.example" });
    let gone = alice.post(&format!("{v3}/account/3pid/delete"), address).await.ok();
    assert_eq!(gone["id_server_unbind_result"], "success");
    let list = alice.get(&format!("{v3}/account/3pid")).await.ok();
    assert_eq!(list["threepids"], json!([]));
}

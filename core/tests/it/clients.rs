//! What real clients trip over: requests in an older or shorter form that are legal, and what a client
//! looks for that nobody told it of.

use colonnade_api::{client_features, routes};
use colonnade_testkit::{Client, Method, TestServer, server::open_settings};
use serde_json::{Value, json};

const V3: &str = "/_matrix/client/v3";

#[tokio::test]
async fn a_push_rule_needs_its_actions_and_no_more() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let rules = format!("{V3}/pushrules/global");
    let room = "!r:localhost";
    for (path, body) in [
        ("override/a", json!({ "actions": ["notify"] })),
        ("underride/b", json!({ "actions": [] })),
        ("override/c", json!({ "actions": ["notify", { "set_tweak": "sound" }] })),
        ("underride/d", json!({ "actions": ["notify", { "set_tweak": "highlight" }] })),
        ("content/e", json!({ "actions": ["notify", { "set_tweak": "sound" }], "pattern": "x" })),
        (&format!("room/{room}"), json!({ "actions": [{ "set_tweak": "sound" }] })),
        ("sender/@bob:localhost", json!({ "actions": [{ "set_tweak": "x.y", "value": [1] }] })),
    ] {
        let path = format!("{rules}/{path}");
        alice.put(&path, body.clone()).await.ok();
        let rule = alice.get(&path).await.ok();
        let (wanted, found) = (body["actions"].as_array(), rule["actions"].as_array());
        assert_eq!(wanted.map(Vec::len), found.map(Vec::len), "{path}: {rule}");
    }
    let own = format!("{rules}/override/a");
    assert_eq!(alice.get(&own).await.ok()["conditions"], json!([]));
    let sound = json!({ "actions": [{ "set_tweak": "sound" }] });
    alice.put(&format!("{own}/actions"), sound).await.ok();
    let actions = alice.get(&format!("{own}/actions")).await.ok();
    assert_eq!(actions["actions"][0]["set_tweak"], "sound");
    for (path, body) in [
        ("override/x", json!({})),
        ("override/x", json!({ "actions": "notify" })),
        ("override/x", json!({ "actions": [], "conditions": {} })),
        ("content/x", json!({ "actions": [] })),
    ] {
        let answer = alice.put(&format!("{rules}/{path}"), body).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
    }
}

/// The requests that ask for a password once more, with a body of each beside `auth`.
fn guarded(client: &Client) -> Vec<(Method, String, Value)> {
    let public = "o0MuRDdo4ZmDLM2xUMJPXhUdR1Sjg3sHbcs7EbtuRGU";
    let keys = json!({ format!("ed25519:{public}"): public });
    let master = json!({ "user_id": client.user_id, "usage": ["master"], "keys": keys });
    vec![
        (Method::POST, "/_matrix/client/v1/login/get_token".to_owned(), json!({})),
        (Method::DELETE, format!("{V3}/devices/NONE"), json!({})),
        (Method::POST, format!("{V3}/delete_devices"), json!({ "devices": ["NONE"] })),
        (Method::POST, format!("{V3}/keys/device_signing/upload"), json!({ "master_key": master })),
        (
            Method::POST,
            format!("{V3}/account/password"),
            json!({ "new_password": "password-alice", "logout_devices": false }),
        ),
        (Method::POST, format!("{V3}/account/deactivate"), json!({})),
    ]
}

#[tokio::test]
async fn a_password_proves_who_one_is_in_its_old_form_too() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let first = "JYJ3ZWdHkvnwOEWQh2SKQwmwJkuGdHF0b3wXvKJxKLA";
    let keys = json!({ format!("ed25519:{first}"): first });
    let master = json!({ "user_id": alice.user_id, "usage": ["master"], "keys": keys });
    let upload = format!("{V3}/keys/device_signing/upload");
    alice.post(&upload, json!({ "master_key": master })).await.ok();
    for (method, path, body) in guarded(&alice) {
        let send = async |auth: Value| {
            let mut body = body.clone();
            body["auth"] = auth;
            alice.send(method.clone(), &path, Some(body.to_string().into_bytes())).await
        };
        // Stages that are not offered, whole or not, and proofs that lack something: what is, is told.
        for auth in [
            json!({ "type": "m.login.recaptcha" }),
            json!({ "type": "m.login.recaptcha", "response": "x" }),
            json!({ "type": "m.login.email.identity" }),
            json!({ "type": "m.login.terms" }),
            json!({ "type": "org.example.dance", "steps": 3 }),
            json!({ "type": "m.login.password", "user": "alice" }),
            json!({ "type": "m.login.password", "user": "alice", "password": "wrong" }),
        ] {
            let answer = send(auth.clone()).await;
            assert_eq!(answer.status, 401, "{path} {auth}: {}", answer.body);
            assert!(answer.body["errcode"].is_string(), "{path} {auth}: {}", answer.body);
            assert_eq!(answer.body["flows"], json!([{ "stages": ["m.login.password"] }]));
            assert_eq!(answer.body["completed"], json!([]));
            assert_eq!(answer.body["params"], json!({}));
            assert!(answer.body["session"].is_string());
        }
        let other = json!({ "type": "m.login.password", "user": "bob", "password": "x" });
        send(other).await.err(403, "M_FORBIDDEN");
        send(json!("x")).await.err(400, "M_BAD_JSON");
        let old =
            json!({ "type": "m.login.password", "user": "alice", "password": "password-alice" });
        send(old).await.ok();
    }
}

#[tokio::test]
async fn a_new_account_is_called_by_its_localpart_unless_configured_otherwise() {
    for (named, wanted) in [(true, json!({ "displayname": "alice" })), (false, json!({}))] {
        let mut settings = open_settings();
        settings.registration.localpart_as_displayname = named;
        let server = TestServer::with_settings(settings).await;
        let alice = server.user("alice").await;
        let profile = format!("{V3}/profile/{}", alice.user_id);
        assert_eq!(server.anonymous().get(&profile).await.ok(), wanted);
    }
    assert!(open_settings().registration.tokens.is_empty());
    assert!(colonnade_rooms::Settings::default().registration.localpart_as_displayname);
}

#[tokio::test]
async fn a_session_is_named_by_its_client() {
    let server = TestServer::start().await;
    let anybody = server.anonymous();
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    let headers = [("user-agent", agent), ("content-type", "application/json")];
    let auth = json!({ "type": "m.login.dummy" });
    let body = json!({ "username": "alice", "password": "password-alice", "auth": auth });
    let path = format!("{V3}/register");
    let made = anybody.raw(Method::POST, &path, &headers, body.to_string().into_bytes()).await;
    let mut alice = server.anonymous();
    let made = made.answer().ok();
    alice.user_id = "@alice:localhost".to_owned();
    alice.token = Some(made["access_token"].as_str().unwrap().to_owned());
    let second = alice.another_device().await;
    let devices = second.get(&format!("{V3}/devices")).await.ok();
    let names: Vec<&str> = devices["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["display_name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Firefox on Linux", "unnamed"]);
}

#[tokio::test]
async fn a_trial_server_says_where_it_was_asked_at() {
    let mut settings = open_settings();
    settings.is_local_trial = true;
    let server = TestServer::with_settings(settings).await;
    let path = "/.well-known/matrix/client";
    let answer = server.anonymous().get(path).await.ok();
    assert_eq!(answer["m.homeserver"]["base_url"], json!(server.url));
    // A proxy on this machine that speaks TLS says so.
    let by_tls = [("x-forwarded-proto", "https")];
    let answer = server.anonymous().raw(Method::GET, path, &by_tls, vec![]).await.answer().ok();
    if !server.has_gateway() {
        let base_url = json!(server.url.replace("http://", "https://"));
        assert_eq!(answer["m.homeserver"]["base_url"], base_url);
    }
    let server = server.restart_with(|settings| settings.is_local_trial = false).await;
    if !server.has_gateway() {
        // Processes know by themselves that they are a trial.
        server.anonymous().get(path).await.err(404, "M_NOT_FOUND");
    }
}

#[tokio::test]
async fn the_list_of_no_server_is_our_own() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let request = json!({ "visibility": "public", "name": "here" });
    alice.post(&format!("{V3}/createRoom"), request).await.ok();
    for answer in [
        alice.get(&format!("{V3}/publicRooms?server=")).await,
        alice.post(&format!("{V3}/publicRooms?server="), json!({})).await,
        alice.get(&format!("{V3}/publicRooms?server=localhost")).await,
    ] {
        assert_eq!(answer.ok()["chunk"][0]["name"], "here");
    }
    alice.get(&format!("{V3}/publicRooms?server=elsewhere.org")).await.err(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn unstable_features_are_those_that_are_mounted() {
    let server = TestServer::start().await;
    let answer = server.anonymous().get("/_matrix/client/versions").await.ok();
    let features = answer["unstable_features"].as_object().unwrap().clone();
    let mounted = routes::of_clients().routes;
    for (name, path) in client_features() {
        assert_eq!(features.get(*name), Some(&json!(true)), "{name}");
        assert!(mounted.iter().any(|route| route.path == *path), "{name}: {path}");
    }
    assert_eq!(features.len(), client_features().len());
    // Whatever is mounted under the name of a proposal is told.
    for route in mounted {
        let Some((_, rest)) = route.path.split_once("/unstable/") else { continue };
        let prefix = rest.split('/').next().unwrap();
        // Paths of before, and parts of what is told by another name.
        let is_feature = prefix.contains('.');
        let known = ["org.matrix.msc2918", "org.matrix.msc3231"];
        if is_feature && !known.contains(&prefix) {
            let is_named = features.keys().any(|name| name.starts_with(prefix));
            assert!(is_named, "{} is mounted and not named", route.path);
        }
    }
}

#[tokio::test]
async fn rooms_in_common_are_found_by_the_name_of_before() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room =
        alice.post(&format!("{V3}/createRoom"), json!({ "preset": "public_chat" })).await.ok();
    let room = room["room_id"].as_str().unwrap();
    bob.post(&format!("{V3}/join/{room}"), json!({})).await.ok();
    let path = "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms";
    let found = alice.get(&format!("{path}?user_id={}", bob.user_id)).await.ok();
    assert_eq!(found["joined"], json!([room]));
}

#[tokio::test]
async fn fields_of_a_profile_change_together_or_not_at_all() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let whole = format!("{V3}/profile/{}", alice.user_id);
    // matrix-js-sdk asks at the second, since the specification has the rest of the proposal.
    for prefix in ["/_matrix/client/unstable/uk.tcpip.msc4133", V3] {
        let path = format!("{prefix}/profile/{}", alice.user_id);
        let patch = async |client: &Client, body: Value| {
            client.send(Method::PATCH, &path, Some(body.to_string().into_bytes())).await
        };
        let both = json!({ "displayname": "Alice", "org.example.mood": "fine" });
        let first = json!({ "displayname": "Alice", "org.example.mood": "fine", "m.tz": null });
        assert_eq!(patch(&alice, first).await.ok(), both, "{path}");
        assert_eq!(alice.get(&whole).await.ok(), both);
        patch(&alice, json!({ "org.example.mood": "bad", "displayname": 7 }))
            .await
            .err(400, "M_BAD_JSON");
        assert_eq!(alice.get(&whole).await.ok(), both);
        let wanted = json!({ "displayname": "Alice", "m.tz": "Europe/Berlin" });
        let second = json!({ "org.example.mood": null, "m.tz": "Europe/Berlin" });
        assert_eq!(patch(&alice, second).await.ok(), wanted);
        assert_eq!(alice.get(&whole).await.ok(), wanted);
        patch(&bob, json!({})).await.err(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn a_new_server_shows_no_file_at_the_old_addresses() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let upload = "/_matrix/media/v3/upload";
    let sent =
        alice.raw(Method::POST, upload, &[("content-type", "text/plain")], b"x".to_vec()).await;
    let uri = sent.answer().ok()["content_uri"].as_str().unwrap().to_owned();
    let place = uri.strip_prefix("mxc://").unwrap();
    let old = format!("/_matrix/media/v3/download/{place}");
    let get =
        async |server: &TestServer| server.anonymous().raw(Method::GET, &old, &[], vec![]).await;
    get(&server).await.answer().err(404, "M_NOT_FOUND");
    let new = format!("/_matrix/client/v1/media/download/{place}");
    assert_eq!(alice.raw(Method::GET, &new, &[], vec![]).await.status, 200);
    // Every process and every later start has the same instant.
    let server = server.restart().await;
    get(&server).await.answer().err(404, "M_NOT_FOUND");
    // The operator has the last word.
    let far = 253_402_300_799_000;
    let server =
        server.restart_with(|settings| settings.media.unauthenticated_until_ms = Some(far));
    assert_eq!(get(&server.await).await.status, 200);
}

#[tokio::test]
async fn whom_people_turn_to_is_told_where_it_is_configured() {
    let path = "/.well-known/matrix/support";
    let server = TestServer::start().await;
    server.anonymous().get(path).await.err(404, "M_NOT_FOUND");
    let mut settings = open_settings();
    settings.support.page = Some("https://example.org/help".to_owned());
    let contact = json!({ "role": "m.role.security", "matrix_id": "@a:example.org" });
    settings.support.contacts = vec![serde_json::from_value(contact.clone()).unwrap()];
    let server = TestServer::with_settings(settings).await;
    let told = server.anonymous().get(path).await.ok();
    assert_eq!(told, json!({ "support_page": "https://example.org/help", "contacts": [contact] }));
}

//! Who may ask what of the server-server API: another server with its signature over the very request, and
//! nobody else.

use colonnade_api::routes;
use colonnade_federation::transport::{
    Request,
    authorization::{Signed, XMatrix},
};
use colonnade_model::ruma::{OwnedServerName, server_name, signatures::Ed25519KeyPair};
use colonnade_testkit::{
    Answer, Method, TestServer, federation::Federation, server::open_settings,
};
use serde_json::{Value, json};

const PROFILE: &str = "/_matrix/federation/v1/query/profile?user_id=%40bob%3Ahs2";

/// A key that nobody published.
fn strange_key(version: &str) -> Ed25519KeyPair {
    Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), version.to_owned()).unwrap()
}

async fn ask(server: &TestServer, method: Method, path: &str, headers: &[XMatrix]) -> Answer {
    let headers: Vec<String> = headers.iter().map(XMatrix::to_header).collect();
    let headers: Vec<_> = headers.iter().map(|text| ("authorization", text.as_str())).collect();
    server.anonymous().raw(method, path, &headers, Vec::new()).await.answer()
}

/// What is signed of a GET of hs1 to hs2.
fn get(uri: &str) -> Signed<'_> {
    let (origin, destination) = (server_name!("hs1"), server_name!("hs2"));
    Signed { method: "GET", uri, origin, destination, content: None }
}

#[tokio::test]
async fn a_server_asks_another_and_is_answered() {
    let servers = Federation::start(2).await;
    let bob = servers[1].user("bob").await;
    let name = json!({ "displayname": "Bob" });
    bob.put("/_matrix/client/v3/profile/@bob:hs2/displayname", name.clone()).await.ok();
    let transport = &servers[0].inside().await.services.transport;
    let answer = transport.send(server_name!("hs2"), Request::get(PROFILE)).await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap(), name);
    let one = format!("{PROFILE}&field=displayname");
    let answer = transport.send(server_name!("hs2"), Request::get(one)).await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap(), name);
    let version = Request::get("/_matrix/federation/v1/version");
    let version = transport.send(server_name!("hs2"), version).await.unwrap();
    assert_eq!(version.json::<Value>().await.unwrap()["server"]["name"], "Colonnade");
}

#[tokio::test]
async fn whoever_forges_a_request_is_refused() {
    let servers = Federation::start(2).await;
    servers[1].user("bob").await;
    let homeserver = servers[0].inside().await;
    let key = &homeserver.services.context.signing_key.current();
    let right = get(PROFILE).sign(key).unwrap();
    let two = &servers[1];
    ask(two, Method::GET, PROFILE, std::slice::from_ref(&right)).await.ok();
    // Of several signatures one is enough.
    let with_another = [get(PROFILE).sign(&strange_key("old")).unwrap(), right.clone()];
    ask(two, Method::GET, PROFILE, &with_another).await.ok();

    let named = |destination: Option<OwnedServerName>| XMatrix { destination, ..right.clone() };
    let of = |origin: &str| XMatrix { origin: origin.try_into().unwrap(), ..right.clone() };
    let forged = [
        ("another key by its name", get(PROFILE).sign(&strange_key(key.version())).unwrap()),
        ("a key that is not published", get(PROFILE).sign(&strange_key("other")).unwrap()),
        ("another destination", named(Some(server_name!("hs1").to_owned()))),
        ("another path", get("/_matrix/federation/v1/version").sign(key).unwrap()),
        ("another query", get(&format!("{PROFILE}&field=displayname")).sign(key).unwrap()),
        ("another method", Signed { method: "PUT", ..get(PROFILE) }.sign(key).unwrap()),
        ("a body", Signed { content: Some("{}"), ..get(PROFILE) }.sign(key).unwrap()),
        ("a server that is not there", of("nowhere.invalid")),
        ("the server itself", of("hs2")),
        ("no signature", XMatrix { signature: String::new(), ..right.clone() }),
    ];
    for (what, header) in forged {
        let answer = ask(two, Method::GET, PROFILE, &[header]).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.body);
        assert_eq!(answer.body["errcode"], "M_UNAUTHORIZED", "{what}");
    }
    // An older server does not say for whom.
    ask(two, Method::GET, PROFILE, &[named(None)]).await.ok();
    let other_way = Signed { destination: server_name!("hs3"), ..get(PROFILE) }.sign(key).unwrap();
    let unsaid = XMatrix { destination: None, ..other_way };
    ask(two, Method::GET, PROFILE, &[unsaid]).await.err(401, "M_UNAUTHORIZED");
}

#[tokio::test]
async fn every_endpoint_of_servers_asks_for_a_signature() {
    let servers = Federation::start(2).await;
    let user = servers[1].user("bob").await;
    let open = ["version", "openid/userinfo", "3pid/onbind"];
    let open = open.map(|end| format!("/_matrix/federation/v1/{end}"));
    for route in routes::of_servers().routes {
        let is_open = open.contains(&route.path) || !route.path.contains("/federation/");
        if is_open {
            continue;
        }
        let segments =
            route.path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
        let path = segments.collect::<Vec<_>>().join("/");
        let body = matches!(route.method, Method::PUT | Method::POST).then(|| b"{}".to_vec());
        let what = format!("{} {path}", route.method);
        for client in [servers[1].anonymous(), user.clone()] {
            let answer = client.send(route.method.clone(), &path, body.clone()).await;
            let errcode = answer.body["errcode"].as_str();
            assert_eq!((answer.status, errcode), (401, Some("M_UNAUTHORIZED")), "{what}");
        }
        let forged = get(&path).sign(&strange_key("a")).unwrap();
        let answer = ask(&servers[1], route.method.clone(), &path, &[forged]).await;
        assert_eq!((answer.status, answer.body["errcode"].as_str()), (401, Some("M_UNAUTHORIZED")));
    }
}

#[tokio::test]
async fn a_server_that_does_not_federate_answers_and_asks_nobody() {
    let mut settings = open_settings();
    settings.federation.enabled = Some(false);
    let server = TestServer::with_settings(settings).await;
    for route in routes::of_servers().routes {
        let segments =
            route.path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
        let path = segments.collect::<Vec<_>>().join("/");
        // A body that would be read, and a query that would be one.
        let path = format!("{path}?user_id=@a:b");
        let body = json!({ "server_keys": {} }).to_string().into_bytes();
        let body = matches!(route.method, Method::PUT | Method::POST).then_some(body);
        let answer = server.anonymous().send(route.method.clone(), &path, body).await;
        let errcode = answer.body["errcode"].as_str();
        assert_eq!((answer.status, errcode), (404, Some("M_UNRECOGNIZED")), "{path}");
    }
    let transport = &server.inside().await.services.transport;
    let asked = transport.send(server_name!("hs2"), Request::get(PROFILE)).await;
    assert!(asked.unwrap_err().to_string().contains("does not federate"));
}

#[tokio::test]
async fn servers_that_are_denied_or_not_allowed_are_neither_asked_nor_answered() {
    let servers = Federation::with(3, |number, settings| match number {
        0 => settings.federation.deny = vec!["HS2".to_owned()],
        1 => settings.federation.allow = vec!["hs?".to_owned()],
        _ => settings.federation.allow = vec!["hs2".to_owned()],
    })
    .await;
    let allowed = [[true, false, true], [true, true, true], [false, true, true]];
    let names = [server_name!("hs1"), server_name!("hs2"), server_name!("hs3")];
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let path =
            format!("/_matrix/federation/v1/query/profile?user_id=%40nobody%3A{}", names[to]);
        let services = &servers[from].inside().await.services;
        let asked = services.transport.send(names[to], Request::get(path.as_str())).await;
        let told = format!("{:?}", asked.unwrap_err());
        let expected = match (allowed[from][to], allowed[to][from]) {
            (false, _) => "Refused",
            (true, false) => "M_FORBIDDEN",
            (true, true) => "M_NOT_FOUND",
        };
        assert!(told.contains(expected), "{from} asks {to}: {told}");
    }
}

#[tokio::test]
async fn keys_are_told_by_their_server_and_by_others() {
    let mut servers = Federation::start(3).await;
    let own = servers[0].anonymous().get("/_matrix/key/v2/server").await.ok();
    assert_eq!(own["server_name"], "hs1");
    let names: Vec<_> = own["verify_keys"].as_object().unwrap().keys().cloned().collect();
    assert!(names.len() == 1 && names[0].starts_with("ed25519:"), "{names:?}");
    assert!(own["signatures"]["hs1"][&names[0]].is_string());

    let notary = servers[1].anonymous();
    let told = notary.get("/_matrix/key/v2/query/hs1").await.ok();
    assert_eq!(told["server_keys"][0]["verify_keys"], own["verify_keys"]);
    assert!(told["server_keys"][0]["signatures"]["hs1"].is_object());
    assert!(told["server_keys"][0]["signatures"]["hs2"].is_object());
    let both =
        json!({ "server_keys": { "hs1": {}, "hs2": { "ed25519:x": {} }, "none.invalid": {} } });
    let told = notary.post("/_matrix/key/v2/query", both).await.ok();
    let named: Vec<_> = told["server_keys"].as_array().unwrap().iter().collect();
    let named: Vec<_> = named.iter().map(|keys| keys["server_name"].as_str().unwrap()).collect();
    assert_eq!(named, ["hs1", "hs2"]);
    let none = notary.post("/_matrix/key/v2/query", json!({ "server_keys": {} })).await.ok();
    assert_eq!(none["server_keys"], json!([]));

    // Who trusts it finds the keys of a server that is away.
    servers.cut(0);
    let change = |settings: &mut colonnade_rooms::Settings| {
        settings.federation.key_perspectives = vec![server_name!("hs2").to_owned()];
    };
    servers.restart_with(2, change).await;
    servers[2].user("bob").await;
    let homeserver = servers[0].inside().await;
    let path = "/_matrix/federation/v1/query/profile?user_id=%40bob%3Ahs3";
    let to_three = Signed { destination: server_name!("hs3"), ..get(path) };
    let header = to_three.sign(&homeserver.services.context.signing_key.current()).unwrap();
    ask(&servers[2], Method::GET, path, &[header]).await.ok();
}

#[tokio::test]
async fn a_token_says_who_made_it_until_it_expires() {
    let servers = Federation::start(1).await;
    let bob = servers[0].user("bob").await;
    let made = "/_matrix/client/v3/user/@bob:hs1/openid/request_token";
    let made = bob.post(made, json!({})).await.ok();
    assert_eq!(made["matrix_server_name"], "hs1");
    let userinfo = "/_matrix/federation/v1/openid/userinfo";
    let token = made["access_token"].as_str().unwrap();
    let anybody = servers[0].anonymous();
    let told = anybody.get(&format!("{userinfo}?access_token={token}")).await.ok();
    assert_eq!(told, json!({ "sub": "@bob:hs1" }));
    let other = format!("{userinfo}?access_token={}", bob.token.clone().unwrap());
    anybody.get(&other).await.err(401, "M_UNKNOWN_TOKEN");
    anybody.get(userinfo).await.err(401, "M_MISSING_TOKEN");
}

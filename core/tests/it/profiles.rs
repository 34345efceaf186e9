//! Profiles, finding users, account data, tags, filters, push rules, pushers, reports, and what a
//! server says of itself.

use colonnade_testkit::{Client, TestServer, server::open_settings};
use colonnade_users::account_data::{Changes, Scope};
use serde_json::{Value, json};

fn profile(client: &Client, field: &str) -> String {
    format!("/_matrix/client/v3/profile/{}/{field}", client.user_id)
}

fn own(client: &Client, rest: &str) -> String {
    format!("/_matrix/client/v3/user/{}/{rest}", client.user_id)
}

async fn room(client: &Client, body: Value) -> String {
    let answer = client.post("/_matrix/client/v3/createRoom", body).await.ok();
    answer["room_id"].as_str().unwrap().to_owned()
}

/// Returns what a room shows of a member: membership and name.
async fn member(server: &TestServer, room: &str, user: &Client) -> (String, Option<String>) {
    let services = &server.inside().await.services;
    let room = colonnade_model::ruma::RoomId::parse(room).unwrap();
    let user_id = colonnade_model::ruma::UserId::parse(&user.user_id).unwrap();
    let user = services.context.interned.find_user(&user_id).await.unwrap().unwrap();
    let room = services.rooms.find(&room).await.unwrap().unwrap();
    let member = services.rooms.member(room.nid, user).await.unwrap().unwrap();
    (member.membership.state().to_string(), member.display_name)
}

#[tokio::test]
async fn a_profile_has_fields_of_any_kind() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let anyone = server.anonymous();
    let all = format!("/_matrix/client/v3/profile/{}", alice.user_id);
    assert_eq!(anyone.get(&all).await.ok(), json!({}));
    let name = profile(&alice, "displayname");
    anyone.get(&name).await.err(404, "M_NOT_FOUND");
    alice.put(&name, json!({ "displayname": "Alice A." })).await.ok();
    let picture = profile(&alice, "avatar_url");
    alice.put(&picture, json!({ "avatar_url": "mxc://localhost/a" })).await.ok();
    let pronouns = json!({ "org.example.pronouns": [{ "subject": "she" }] });
    alice.put(&profile(&alice, "org.example.pronouns"), pronouns.clone()).await.ok();
    assert_eq!(anyone.get(&profile(&alice, "org.example.pronouns")).await.ok(), pronouns);
    let server = server.restart().await;
    let (alice, bob) = (alice.at(&server.url), bob.at(&server.url));
    let whole = server.anonymous().get(&all).await.ok();
    assert_eq!(whole["displayname"], "Alice A.");
    assert_eq!(whole["avatar_url"], "mxc://localhost/a");
    bob.put(&name, json!({ "displayname": "Evil" })).await.err(403, "M_FORBIDDEN");
    bob.delete(&name, None).await.err(403, "M_FORBIDDEN");
    alice.delete(&name, None).await.ok();
    alice.put(&picture, json!({ "avatar_url": "" })).await.ok();
    let left = alice.get(&all).await.ok();
    assert_eq!(left, pronouns);
    alice.get("/_matrix/client/v3/profile/@nobody:localhost").await.err(404, "M_NOT_FOUND");
    alice.get("/_matrix/client/v3/profile/nobody").await.err(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn a_profile_has_limits() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let long = "a".repeat(256);
    let put = |field: &str, value: Value| {
        let (path, body) = (profile(&alice, field), json!({ field: value }));
        let alice = alice.clone();
        async move { alice.put(&path, body).await }
    };
    put(&long, json!(1)).await.err(400, "M_KEY_TOO_LARGE");
    put("org.example.big", json!("x".repeat(65_536))).await.err(400, "M_PROFILE_TOO_LARGE");
    for n in 0..2 {
        put(&format!("org.example.half{n}"), json!("x".repeat(30_000))).await.ok();
    }
    put("org.example.third", json!("x".repeat(30_000))).await.err(400, "M_PROFILE_TOO_LARGE");
    put("displayname", json!("x".repeat(2_000))).await.err(400, "M_INVALID_PARAM");
    put("displayname", json!(7)).await.err(400, "M_BAD_JSON");
    put("notafield!", json!(7)).await.err(400, "M_INVALID_PARAM");
    alice.put(&profile(&alice, "displayname"), json!({})).await.err(400, "M_MISSING_PARAM");
}

#[tokio::test]
async fn rooms_hear_of_a_new_name() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = room(&alice, json!({})).await;
    alice.put(&profile(&alice, "displayname"), json!({ "displayname": "Alice" })).await.ok();
    let seen = member(&server, &room, &alice).await;
    assert_eq!(seen, ("join".to_owned(), Some("Alice".to_owned())));
}

#[tokio::test]
async fn users_are_found_by_who_could_meet_them() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bobby.tables").await);
    let carol = server.user("carol").await;
    bob.put(&profile(&bob, "displayname"), json!({ "displayname": "Robert Müller" })).await.ok();
    let search = |client: &Client, term: &str, limit: u32| {
        let body = json!({ "search_term": term, "limit": limit });
        let client = client.clone();
        async move {
            let answer = client.post("/_matrix/client/v3/user_directory/search", body).await.ok();
            let results = answer["results"].as_array().unwrap().clone();
            let ids = results.iter().map(|user| user["user_id"].as_str().unwrap().to_owned());
            (ids.collect::<Vec<_>>(), answer["limited"].as_bool().unwrap())
        }
    };
    assert_eq!(search(&alice, "bobby", 10).await.0, Vec::<String>::new());
    let invite = json!({ "invite": [bob.user_id], "preset": "private_chat" });
    let private = room(&alice, invite).await;
    bob.post(&format!("/_matrix/client/v3/join/{private}"), json!({})).await.ok();
    for term in ["bob", "BOBBY tab", "robert", "Mül", "müller robert", "@bobby.tables:localhost"]
    {
        assert_eq!(search(&alice, term, 10).await.0, std::slice::from_ref(&bob.user_id), "{term}");
    }
    for term in ["", "xyz", "obby", "robert x", "%", "_"] {
        assert_eq!(search(&alice, term, 10).await.0, Vec::<String>::new(), "{term}");
    }
    assert_eq!(search(&carol, "bobby", 10).await.0, Vec::<String>::new());
    room(&bob, json!({ "preset": "public_chat" })).await;
    assert_eq!(search(&carol, "bobby", 10).await.0, std::slice::from_ref(&bob.user_id));
    let extra = server.user("bobina").await;
    room(&extra, json!({ "preset": "public_chat" })).await;
    assert_eq!(
        search(&carol, "bob", 10).await,
        (vec![extra.user_id.clone(), bob.user_id.clone()], false)
    );
    let (first, limited) = search(&carol, "bob", 1).await;
    assert_eq!((first.len(), limited), (1, true));
    let mutual = "/_matrix/client/v1/mutual_rooms?user_id=";
    let shared = alice.get(&format!("{mutual}{}", bob.user_id)).await.ok();
    assert_eq!(shared, json!({ "joined": [private], "count": 1 }));
    alice.get(&format!("{mutual}{}", alice.user_id)).await.err(400, "M_INVALID_PARAM");
    let nobody = alice.get(&format!("{mutual}@nobody:localhost")).await.ok();
    assert_eq!(nobody, json!({ "joined": [], "count": 0 }));
}

#[tokio::test]
async fn account_data_is_kept_for_its_owner() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let path = own(&alice, "account_data/org.example.x");
    alice.get(&path).await.err(404, "M_NOT_FOUND");
    let body = json!({ "deep": { "\u{0}nul": [1, 2.5, null] } });
    alice.put(&path, body.clone()).await.ok();
    let server = server.restart().await;
    let (alice, bob) = (alice.at(&server.url), bob.at(&server.url));
    assert_eq!(alice.get(&path).await.ok(), body);
    bob.get(&path).await.err(403, "M_FORBIDDEN");
    bob.put(&path, json!({})).await.err(403, "M_FORBIDDEN");
    for own_endpoint in ["m.push_rules", "m.fully_read"] {
        let path = own(&alice, &format!("account_data/{own_endpoint}"));
        alice.put(&path, json!({})).await.err(405, "M_BAD_JSON");
    }
    let big = json!({ "x": "y".repeat(600_000) });
    alice.put(&path, big).await.err(413, "M_TOO_LARGE");
    let room = room(&alice, json!({})).await;
    let of_room = own(&alice, &format!("rooms/{room}/account_data/org.example.x"));
    alice.get(&of_room).await.err(404, "M_NOT_FOUND");
    alice.put(&of_room, json!({ "n": 1 })).await.ok();
    assert_eq!(alice.get(&of_room).await.ok(), json!({ "n": 1 }));
    assert_eq!(alice.get(&path).await.ok(), body);
    let unknown = own(&alice, "rooms/!unknown:localhost/account_data/org.example.x");
    alice.put(&unknown, json!({})).await.err(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn the_ignore_list_is_read_as_written() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let inside = async || std::sync::Arc::clone(&server.inside().await.services);
    let user_id = colonnade_model::ruma::UserId::parse(&alice.user_id).unwrap();
    let services = inside().await;
    let user = services.context.interned.find_user(&user_id).await.unwrap().unwrap();
    assert!(services.account_data.ignored(user).await.unwrap().is_empty());
    let path = own(&alice, "account_data/m.ignored_user_list");
    alice.put(&path, json!({ "ignored_users": { "@spam:localhost": {} } })).await.ok();
    let ignored = inside().await.account_data.ignored(user).await.unwrap();
    assert!(ignored.iter().any(|user| user == "@spam:localhost"));
    alice.put(&path, json!({ "ignored_users": {} })).await.ok();
    assert!(inside().await.account_data.ignored(user).await.unwrap().is_empty());
    let all = Changes { scope: Scope::All, after: 0, upto: i64::MAX, is_first: true };
    let changes = services.account_data.page(user, all).await.unwrap();
    let types: Vec<&str> = changes.data.iter().map(|data| data.event_type.as_str()).collect();
    assert_eq!(types, ["m.ignored_user_list", "m.push_rules"]);
}

#[tokio::test]
async fn tags_come_and_go() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = room(&alice, json!({})).await;
    let tags = own(&alice, &format!("rooms/{room}/tags"));
    assert_eq!(alice.get(&tags).await.ok(), json!({ "tags": {} }));
    alice.put(&format!("{tags}/m.favourite"), json!({ "order": 0.25, "x": 1 })).await.ok();
    alice.put(&format!("{tags}/u.work%2Fhome"), json!({})).await.ok();
    let known = json!({ "m.favourite": { "order": 0.25, "x": 1 }, "u.work/home": {} });
    assert_eq!(alice.get(&tags).await.ok(), json!({ "tags": known }));
    let data = own(&alice, &format!("rooms/{room}/account_data/m.tag"));
    assert_eq!(alice.get(&data).await.ok(), json!({ "tags": known }));
    alice.delete(&format!("{tags}/m.favourite"), None).await.ok();
    alice.delete(&format!("{tags}/m.favourite"), None).await.ok();
    assert_eq!(alice.get(&tags).await.ok(), json!({ "tags": { "u.work/home": {} } }));
    let long = format!("{tags}/{}", "t".repeat(256));
    alice.put(&long, json!({})).await.err(400, "M_INVALID_PARAM");
    let unknown = own(&alice, "rooms/!unknown:localhost/tags/u.x");
    alice.put(&unknown, json!({})).await.err(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_filter_comes_back_as_it_was() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let path = own(&alice, "filter");
    let filter = json!({ "room": { "timeline": { "limit": 7, "org.example": true } } });
    let first = alice.post(&path, filter.clone()).await.ok()["filter_id"].clone();
    let again = alice.post(&path, filter.clone()).await.ok()["filter_id"].clone();
    assert_eq!(first, again);
    let other = alice.post(&path, json!({})).await.ok()["filter_id"].clone();
    assert_ne!(first, other);
    let get = format!("{path}/{}", first.as_str().unwrap());
    assert_eq!(alice.get(&get).await.ok(), filter);
    bob.get(&get).await.err(403, "M_FORBIDDEN");
    for unknown in ["99", "x", "-1", "99999999999999999999"] {
        alice.get(&format!("{path}/{unknown}")).await.err(404, "M_NOT_FOUND");
    }
    for wrong in [
        json!({ "room": 7 }),
        json!({ "room": { "timeline": { "limit": "many" } } }),
        json!({ "room": { "rooms": ["nonsense"] } }),
        json!({ "presence": { "senders": [7] } }),
    ] {
        alice.post(&path, wrong).await.err(400, "M_BAD_JSON");
    }
    alice.post(&path, json!({ "x": "y".repeat(70_000) })).await.err(413, "M_TOO_LARGE");
}

const RULES: &str = "/_matrix/client/v3/pushrules/";

#[tokio::test]
async fn push_rules_can_be_added_moved_and_switched() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let all = alice.get(RULES).await.ok();
    assert_eq!(all["global"]["override"][0]["rule_id"], ".m.rule.master");
    assert_eq!(all["global"]["room"], json!([]));
    assert_eq!(alice.get(&format!("{RULES}global/")).await.ok(), all["global"]);
    let content = |id: &str| format!("{RULES}global/content/{id}");
    let rule = json!({ "pattern": "cake", "actions": ["notify"] });
    for id in ["c", "b", "a"] {
        alice.put(&content(id), rule.clone()).await.ok();
    }
    alice.put(&format!("{}?after=c", content("a")), rule.clone()).await.ok();
    alice.put(&format!("{}?before=b", content("c")), rule.clone()).await.ok();
    let stored = alice.get(RULES).await.ok()["global"]["content"].clone();
    let ids: Vec<&str> =
        stored.as_array().unwrap().iter().map(|rule| rule["rule_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["c", "b", "a"]);
    let own = alice.get(&content("a")).await.ok();
    assert_eq!((&own["pattern"], &own["default"]), (&json!("cake"), &json!(false)));
    for wrong in ["?before=x", "?after=x", "?before=.m.rule.master", "?after=a"] {
        alice.put(&format!("{}{wrong}", content("a")), rule.clone()).await.err(400, "M_UNKNOWN");
    }
    alice.put(&content(".dot"), rule.clone()).await.err(400, "M_INVALID_PARAM");
    alice.put(&content("a%2Fb"), rule.clone()).await.err(400, "M_INVALID_PARAM");
    alice.put(&content("a"), json!({ "actions": [] })).await.err(400, "M_BAD_JSON");
    let master = format!("{RULES}global/override/.m.rule.master");
    alice.put(&format!("{master}/enabled"), json!({ "enabled": true })).await.ok();
    assert_eq!(alice.get(&format!("{master}/enabled")).await.ok(), json!({ "enabled": true }));
    let actions = json!({ "actions": ["notify", { "set_tweak": "sound", "value": "x" }] });
    alice.put(&format!("{}/actions", content("b")), actions.clone()).await.ok();
    assert_eq!(alice.get(&format!("{}/actions", content("b"))).await.ok(), actions);
    alice.delete(&content("b"), None).await.ok();
    alice.delete(&content("b"), None).await.err(404, "M_NOT_FOUND");
    alice.delete(&master, None).await.err(400, "M_UNKNOWN");
    for path in [content("b"), format!("{RULES}global/nonsense/x"), format!("{master}x")] {
        alice.get(&path).await.err(404, "M_NOT_FOUND");
        alice.get(&format!("{path}/enabled")).await.err(404, "M_NOT_FOUND");
        let switch = json!({ "enabled": true });
        alice.put(&format!("{path}/enabled"), switch).await.err(404, "M_NOT_FOUND");
    }
    let server = server.restart().await;
    let alice = alice.at(&server.url);
    let data = format!("/_matrix/client/v3/user/{}/account_data/m.push_rules", alice.user_id);
    let seen = alice.get(&data).await.ok();
    assert_eq!(seen["global"]["override"][0]["enabled"], true);
    assert_eq!(seen, alice.get(RULES).await.ok());
}

#[tokio::test]
async fn pushers_belong_to_a_device() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let phone = alice.another_device().await;
    let pusher = |key: &str| {
        json!({
            "app_id": "org.example", "pushkey": key, "kind": "http", "lang": "en",
            "app_display_name": "App", "device_display_name": "Phone",
            "data": { "url": "https://push.example.org/_matrix/push/v1/notify" },
        })
    };
    let (set, list) = ("/_matrix/client/v3/pushers/set", "/_matrix/client/v3/pushers");
    phone.post(set, pusher("one")).await.ok();
    alice.post(set, pusher("two")).await.ok();
    alice.post(set, pusher("two")).await.ok();
    assert_eq!(alice.get(list).await.ok()["pushers"].as_array().unwrap().len(), 2);
    let gone = json!({ "app_id": "org.example", "pushkey": "two", "kind": null });
    alice.post(set, gone).await.ok();
    let left = alice.get(list).await.ok();
    assert_eq!(left, json!({ "pushers": [pusher("one")] }));
    phone.post("/_matrix/client/v3/logout", json!({})).await.ok();
    assert_eq!(alice.get(list).await.ok(), json!({ "pushers": [] }));
    let bob = server.user("bob").await;
    bob.post(set, pusher("shared")).await.ok();
    let mut append = pusher("shared");
    append["append"] = json!(true);
    alice.post(set, append).await.ok();
    assert_eq!(bob.get(list).await.ok()["pushers"].as_array().unwrap().len(), 1);
    alice.post(set, pusher("shared")).await.ok();
    assert_eq!(bob.get(list).await.ok(), json!({ "pushers": [] }));
    let mut wrong = pusher("x");
    wrong["data"]["url"] = json!("https://example.org/elsewhere");
    alice.post(set, wrong).await.err(400, "M_INVALID_PARAM");
    alice.post(set, pusher(&"k".repeat(513))).await.err(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn reports_reach_the_administrators() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room(&alice, json!({})).await;
    let send = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/1");
    let event = alice.put(&send, json!({ "msgtype": "m.text", "body": "x" })).await.ok();
    let event = event["event_id"].as_str().unwrap();
    let report = format!("/_matrix/client/v3/rooms/{room}/report");
    bob.post(&report, json!({ "reason": "noise" })).await.ok();
    alice.post(&format!("{report}/{event}"), json!({ "reason": "spam", "score": -50 })).await.ok();
    bob.post(&format!("{report}/{event}"), json!({})).await.err(404, "M_NOT_FOUND");
    let nowhere = "/_matrix/client/v3/rooms/!nowhere:localhost/report";
    // One need not be in a room to report it, and is not told whether it exists.
    bob.post(nowhere, json!({ "reason": "" })).await.ok();
    let user = format!("/_matrix/client/v3/users/{}/report", alice.user_id);
    bob.post(&user, json!({ "reason": "rude" })).await.ok();
    let nobody = "/_matrix/client/v3/users/@nobody:localhost/report";
    bob.post(nobody, json!({ "reason": "rude" })).await.err(404, "M_NOT_FOUND");
    bob.post(&user, json!({ "reason": "x".repeat(20_000) })).await.err(400, "M_TOO_LARGE");
    let reports = server.inside().await.services.reports.newest(10).await.unwrap();
    let reasons: Vec<&str> = reports.iter().map(|report| report.reason.as_str()).collect();
    assert_eq!(reasons, ["rude", "spam", "noise"]);
    assert_eq!(reports[1].event_id.as_deref(), Some(event));
}

#[tokio::test]
async fn a_deactivated_user_leaves_rooms_and_is_not_found() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room(&bob, json!({ "preset": "public_chat" })).await;
    alice.post(&format!("/_matrix/client/v3/join/{room}"), json!({})).await.ok();
    alice.put(&profile(&alice, "displayname"), json!({ "displayname": "Alice" })).await.ok();
    let auth = json!({
        "type": "m.login.password", "password": "password-alice",
        "identifier": { "type": "m.id.user", "user": "alice" },
    });
    alice.post("/_matrix/client/v3/account/deactivate", json!({ "auth": auth })).await.ok();
    assert_eq!(member(&server, &room, &alice).await.0, "leave");
    let term = json!({ "search_term": "alice" });
    let found = bob.post("/_matrix/client/v3/user_directory/search", term).await.ok();
    assert_eq!(found["results"], json!([]));
    bob.get(&profile(&alice, "displayname")).await.err(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn the_server_says_what_it_can() {
    let mut settings = open_settings();
    settings.public_base_url = Some("https://matrix.example.org/".to_owned());
    settings.voip.turn_uris = vec!["turn:turn.example.org".to_owned()];
    settings.voip.turn_shared_secret = Some("secret".to_owned());
    let server = TestServer::with_settings(settings).await;
    let alice = server.user("alice").await;
    let capabilities = alice.get("/_matrix/client/v3/capabilities").await.ok();
    let versions = &capabilities["capabilities"]["m.room_versions"];
    assert_eq!(versions["default"], "12");
    assert_eq!(versions["available"]["6"], "stable");
    let known = server.anonymous().get("/.well-known/matrix/client").await.ok();
    assert_eq!(known["m.homeserver"]["base_url"], "https://matrix.example.org");
    let turn = alice.get("/_matrix/client/v3/voip/turnServer").await.ok();
    assert!(turn["username"].as_str().unwrap().ends_with(":@alice:localhost"));
    let path = own(&alice, "openid/request_token");
    let openid = alice.post(&path, json!({})).await.ok();
    assert_eq!(openid["token_type"], "Bearer");
    assert_eq!(openid["matrix_server_name"], "localhost");
    assert_eq!(alice.get("/_matrix/client/v3/thirdparty/protocols").await.ok(), json!({}));
    let addresses = alice.get("/_matrix/client/v3/account/3pid").await.ok();
    assert_eq!(addresses, json!({ "threepids": [] }));
    let who = format!("/_matrix/client/v3/admin/whois/{}", alice.user_id);
    let devices = alice.get(&who).await.ok()["devices"].clone();
    assert_eq!(devices.as_object().unwrap().len(), 1);
    let bob = server.user("bob").await;
    bob.get(&who).await.err(403, "M_FORBIDDEN");
    bob.post(&path, json!({})).await.err(403, "M_FORBIDDEN");
    bob.get("/_matrix/client/v1/auth_metadata").await.err(404, "M_UNRECOGNIZED");
}

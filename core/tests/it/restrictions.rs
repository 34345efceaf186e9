//! Locked and suspended accounts, and who may restrict them.

use colonnade_testkit::{Client, TestServer};
use serde_json::json;

use crate::sync::{encode, in_room, now, room_of, say};

fn path(kind: &str, user_id: &str) -> String {
    format!("/_matrix/client/v1/admin/{kind}/{}", encode(user_id))
}

/// A server with an administrator.
async fn server() -> (TestServer, Client) {
    let server = TestServer::start().await;
    let accounts = &server.inside().await.services.accounts;
    accounts.create_user("root", "password-root", true).await.unwrap();
    let mut root = server.anonymous();
    root.user_id = "@root:localhost".to_owned();
    let root = root.another_device().await;
    (server, root)
}

#[tokio::test]
async fn a_locked_user_may_log_out_and_nothing_else_until_unlocked() {
    let (server, root) = server().await;
    let alice = server.user("alice").await;
    let lock = path("lock", &alice.user_id);
    assert_eq!(root.get(&lock).await.ok()["locked"], false);
    assert_eq!(root.put(&lock, json!({ "locked": true })).await.ok()["locked"], true);
    assert_eq!(root.get(&lock).await.ok()["locked"], true);
    let refused = alice.get("/_matrix/client/v3/sync").await.err(401, "M_USER_LOCKED");
    assert_eq!(refused["soft_logout"], true);
    alice.get("/_matrix/client/v3/account/whoami").await.err(401, "M_USER_LOCKED");
    let login = json!({ "type": "m.login.password", "password": "password-alice",
        "identifier": { "type": "m.id.user", "user": "alice" } });
    let anybody = server.anonymous();
    anybody.post("/_matrix/client/v3/login", login.clone()).await.err(401, "M_USER_LOCKED");
    root.put(&lock, json!({ "locked": false })).await.ok();
    alice.get("/_matrix/client/v3/account/whoami").await.ok();
    anybody.post("/_matrix/client/v3/login", login).await.ok();
    root.put(&lock, json!({ "locked": true })).await.ok();
    alice.post("/_matrix/client/v3/logout", json!({})).await.ok();
    root.put(&lock, json!({ "locked": false })).await.ok();
    alice.get("/_matrix/client/v3/account/whoami").await.err(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn a_suspended_user_reads_leaves_and_takes_back_his_words() {
    let (server, root) = server().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room_of(&[&bob, &alice]).await;
    let (own, other) = (say(&alice, &room, "mine").await, say(&bob, &room, "yours").await);
    let suspend = path("suspend", &alice.user_id);
    root.put(&suspend, json!({ "suspended": true })).await.ok();
    assert_eq!(root.get(&suspend).await.ok()["suspended"], true);
    let message = json!({ "msgtype": "m.text", "body": "x" });
    let sent = alice.put(&in_room(&room, "send/m.room.message/1"), message).await;
    sent.err(403, "M_USER_SUSPENDED");
    let create = alice.post("/_matrix/client/v3/createRoom", json!({})).await;
    create.err(403, "M_USER_SUSPENDED");
    let name = format!("/_matrix/client/v3/profile/{}/displayname", encode(&alice.user_id));
    alice.put(&name, json!({ "displayname": "A" })).await.err(403, "M_USER_SUSPENDED");
    let invite = json!({ "user_id": root.user_id });
    alice.post(&in_room(&room, "invite"), invite).await.err(403, "M_USER_SUSPENDED");
    let redact = |event: &str| in_room(&room, &format!("redact/{}/1", encode(event)));
    alice.put(&redact(&other), json!({})).await.err(403, "M_USER_SUSPENDED");
    alice.put(&redact(&own), json!({})).await.ok();
    now(&alice).await;
    alice.get(&in_room(&room, "messages?dir=b")).await.ok();
    alice.post(&in_room(&room, "leave"), json!({})).await.ok();
    let join = alice.post(&in_room(&room, "join"), json!({})).await;
    join.err(403, "M_USER_SUSPENDED");
    root.put(&suspend, json!({ "suspended": false })).await.ok();
    alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
}

#[tokio::test]
async fn only_administrators_restrict_and_none_of_themselves() {
    let (server, root) = server().await;
    let alice = server.user("alice").await;
    for (kind, body) in
        [("lock", json!({ "locked": true })), ("suspend", json!({ "suspended": true }))]
    {
        // Whether there is such a user is not said to everybody.
        for user in ["@root:localhost", "@nobody:localhost", "@x:elsewhere"] {
            alice.get(&path(kind, user)).await.err(403, "M_FORBIDDEN");
            alice.put(&path(kind, user), body.clone()).await.err(403, "M_FORBIDDEN");
        }
        root.put(&path(kind, &root.user_id), body.clone()).await.err(403, "M_FORBIDDEN");
        root.put(&path(kind, "@nobody:localhost"), body.clone()).await.err(404, "M_NOT_FOUND");
        root.put(&path(kind, "@x:elsewhere"), body).await.err(400, "M_INVALID_PARAM");
    }
    let able = async |client: &Client| {
        let answer = client.get("/_matrix/client/v3/capabilities").await.ok();
        answer["capabilities"]["m.account_moderation"].clone()
    };
    assert_eq!(able(&root).await, json!({ "suspend": true, "lock": true }));
    assert!(able(&alice).await.is_null());
}

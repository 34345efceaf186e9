//! Cross-signing keys and signatures.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use super::{QUERY, Signer, changed_since, positions, upload_device};

const UPLOAD_SIGNING: &str = "/_matrix/client/v3/keys/device_signing/upload";
pub(super) const UPLOAD_SIGNATURES: &str = "/_matrix/client/v3/keys/signatures/upload";

/// A user's cross-signing keys.
pub(crate) struct Keys {
    pub(crate) master: Signer,
    pub(crate) self_signing: Signer,
    pub(crate) user_signing: Signer,
}

impl Keys {
    fn new() -> Self {
        Self { master: Signer::new(), self_signing: Signer::new(), user_signing: Signer::new() }
    }

    fn upload(&self, user_id: &str) -> Value {
        let mut self_signing = self.self_signing.as_key(user_id, "self_signing");
        self.master.sign(&mut self_signing, user_id, &self.master.public);
        let mut user_signing = self.user_signing.as_key(user_id, "user_signing");
        self.master.sign(&mut user_signing, user_id, &self.master.public);
        json!({
            "master_key": self.master.as_key(user_id, "master"),
            "self_signing_key": self_signing,
            "user_signing_key": user_signing,
        })
    }
}

pub(crate) async fn bootstrap(client: &Client) -> Keys {
    let keys = Keys::new();
    client.post(UPLOAD_SIGNING, keys.upload(&client.user_id)).await.ok();
    keys
}

pub(super) async fn query(client: &Client, of: &Client) -> Value {
    client.post(QUERY, json!({ "device_keys": { &of.user_id: [] } })).await.ok()
}

#[tokio::test]
async fn the_first_keys_are_free_and_the_next_are_not() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let before = positions(&server).await;
    let keys = bootstrap(&alice).await;
    assert_eq!(changed_since(&server, &alice, &before).await, [alice.user_id.as_str()]);
    // The same keys once more need nothing and change nothing.
    let after = positions(&server).await;
    alice.post(UPLOAD_SIGNING, keys.upload(&alice.user_id)).await.ok();
    assert!(changed_since(&server, &alice, &after).await.is_empty());

    let new = Keys::new();
    let mut body = new.upload(&alice.user_id);
    let demand = alice.post(UPLOAD_SIGNING, body.clone()).await;
    assert_eq!(demand.status, 401);
    assert_eq!(demand.body["flows"], json!([{ "stages": ["m.login.password"] }]));
    body["auth"] = json!({
        "type": "m.login.password",
        "session": demand.body["session"],
        "identifier": { "type": "m.id.user", "user": alice.user_id },
        "password": "wrong",
    });
    assert_eq!(alice.post(UPLOAD_SIGNING, body.clone()).await.status, 401);
    let found = query(&bob, &alice).await;
    let master = &found["master_keys"][&alice.user_id];
    let shown = |key: Value| {
        let mut shown = key;
        shown["signatures"] = json!({});
        shown
    };
    assert_eq!(*master, shown(keys.master.as_key(&alice.user_id, "master")));
    body["auth"]["password"] = "password-alice".into();
    alice.post(UPLOAD_SIGNING, body).await.ok();
    let found = query(&bob, &alice).await;
    let master = &found["master_keys"][&alice.user_id];
    assert_eq!(*master, shown(new.master.as_key(&alice.user_id, "master")));
    assert!(found["self_signing_keys"][&alice.user_id].is_object());
    assert_eq!(found["user_signing_keys"], json!({}), "only the owner sees it");
    let own = query(&alice, &alice).await;
    let expected = &new.upload(&alice.user_id)["user_signing_key"];
    assert_eq!(own["user_signing_keys"][&alice.user_id], *expected);
}

#[tokio::test]
async fn keys_that_do_not_hold_together_are_refused() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let keys = Keys::new();
    let full = keys.upload(&alice.user_id);
    let without_master = json!({ "self_signing_key": full["self_signing_key"] });
    alice.post(UPLOAD_SIGNING, without_master).await.err(400, "M_MISSING_PARAM");
    alice.post(UPLOAD_SIGNING, json!({})).await.err(400, "M_MISSING_PARAM");

    let check = async |edit: &dyn Fn(&mut Value), code: &str| {
        let mut body = full.clone();
        edit(&mut body);
        alice.post(UPLOAD_SIGNING, body).await.err(400, code);
    };
    let other = Signer::new();
    check(&|body| body["self_signing_key"]["signatures"] = json!({}), "M_INVALID_SIGNATURE").await;
    check(
        &|body| {
            let mut key = keys.self_signing.as_key(&alice.user_id, "self_signing");
            other.sign(&mut key, &alice.user_id, &keys.master.public);
            body["self_signing_key"] = key;
        },
        "M_INVALID_SIGNATURE",
    )
    .await;
    check(&|body| body["user_signing_key"]["more"] = 1.into(), "M_INVALID_SIGNATURE").await;
    check(&|body| body["master_key"] = other.as_key("@bob:localhost", "master"), "M_INVALID_PARAM")
        .await;
    check(&|body| body["master_key"]["usage"] = json!(["self_signing"]), "M_INVALID_PARAM").await;
    check(&|body| body["master_key"]["keys"] = json!({}), "M_INVALID_PARAM").await;
    check(&|body| body["master_key"]["keys"] = json!({ "ed25519:a": "b" }), "M_INVALID_PARAM")
        .await;
    check(&|body| body["master_key"]["keys"]["ed25519:x"] = "y".into(), "M_INVALID_PARAM").await;
    check(&|body| body["master_key"] = json!({ "user_id": 3 }), "M_BAD_JSON").await;
    assert_eq!(query(&alice, &alice).await["master_keys"], json!({}), "nothing was stored");
}

#[tokio::test]
async fn signatures_are_checked_and_shown_to_whom_they_concern() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let (device, device_keys) = upload_device(&alice).await;
    let keys = bootstrap(&alice).await;
    let id = &alice.user_id;
    let mut signed_device = device_keys.clone();
    signed_device.as_object_mut().unwrap().remove("signatures");
    keys.self_signing.sign(&mut signed_device, id, &keys.self_signing.public);
    let mut signed_master = keys.master.as_key(id, "master");
    device.sign(&mut signed_master, id, &alice.device_id);
    let body = json!({ id: {
        &alice.device_id: signed_device, &keys.master.public: signed_master,
    } });
    assert_eq!(alice.post(UPLOAD_SIGNATURES, body).await.ok(), json!({ "failures": {} }));
    let found = query(&bob, &alice).await;
    let signatures = &found["device_keys"][id][&alice.device_id]["signatures"][id];
    assert_eq!(signatures.as_object().unwrap().len(), 2);
    let by_device = &found["master_keys"][id]["signatures"][id];
    assert!(by_device[format!("ed25519:{}", alice.device_id)].is_string());

    // Bob verifies Alice: only Bob sees that.
    let bobs = bootstrap(&bob).await;
    let before = positions(&server).await;
    let mut verified = keys.master.as_key(id, "master");
    bobs.user_signing.sign(&mut verified, &bob.user_id, &bobs.user_signing.public);
    let body = json!({ id: { &keys.master.public: verified } });
    assert_eq!(bob.post(UPLOAD_SIGNATURES, body).await.ok(), json!({ "failures": {} }));
    let seen = |found: &Value| found["master_keys"][id]["signatures"].get(&bob.user_id).is_some();
    assert!(seen(&query(&bob, &alice).await));
    assert!(!seen(&query(&alice, &alice).await));
    assert_eq!(changed_since(&server, &bob, &before).await, [id.as_str()]);
    assert!(changed_since(&server, &alice, &before).await.is_empty());
}

#[tokio::test]
async fn wrong_signatures_fail_one_by_one() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let (_, device_keys) = upload_device(&alice).await;
    let (bobs_device, _) = upload_device(&bob).await;
    let keys = bootstrap(&alice).await;
    let bobs = bootstrap(&bob).await;
    let id = &alice.user_id;
    let bare = || {
        let mut keys = device_keys.clone();
        keys.as_object_mut().unwrap().remove("signatures");
        keys
    };
    // By a key that may not sign devices.
    let mut by_master = bare();
    keys.master.sign(&mut by_master, id, &keys.master.public);
    // By the right name, with another key.
    let mut forged = bare();
    bobs.self_signing.sign(&mut forged, id, &keys.self_signing.public);
    // On something else than what is stored.
    let mut other = bare();
    other["algorithms"] = json!([]);
    keys.self_signing.sign(&mut other, id, &keys.self_signing.public);
    for wrong in [by_master, forged, other, bare(), json!({})] {
        let body = json!({ id: { &alice.device_id: wrong } });
        let answer = alice.post(UPLOAD_SIGNATURES, body).await.ok();
        let failure = &answer["failures"][id][&alice.device_id];
        assert_eq!(failure["errcode"], "M_INVALID_SIGNATURE", "{answer}");
    }
    let body = json!({ id: { "UNKNOWN": bare() }, "@nobody:localhost": { "X": {} } });
    let answer = alice.post(UPLOAD_SIGNATURES, body).await.ok();
    assert_eq!(answer["failures"][id]["UNKNOWN"]["errcode"], "M_NOT_FOUND");
    assert_eq!(answer["failures"]["@nobody:localhost"]["X"]["errcode"], "M_NOT_FOUND");
    // A stranger's device, and a master key signed by a device instead of the user-signing key.
    let mut strange = bare();
    bobs.self_signing.sign(&mut strange, &bob.user_id, &bobs.self_signing.public);
    let mut by_device = keys.master.as_key(id, "master");
    bobs_device.sign(&mut by_device, &bob.user_id, &bob.device_id);
    let body = json!({ id: { &alice.device_id: strange, &keys.master.public: by_device } });
    let answer = bob.post(UPLOAD_SIGNATURES, body).await.ok();
    assert_eq!(answer["failures"][id].as_object().unwrap().len(), 2);
    let found = query(&bob, &alice).await;
    assert_eq!(
        found["device_keys"][id][&alice.device_id]["signatures"][id].as_object().unwrap().len(),
        1
    );
}

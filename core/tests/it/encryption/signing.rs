//! Signatures that are uploaded while the keys they are about are replaced, and more than may be.

use colonnade_model::ruma::{
    CanonicalJsonObject,
    serde::Base64,
    signatures::{to_canonical_json_string_for_signing, verify_canonical_json_bytes},
};
use colonnade_testkit::{TestServer, server::open_settings};
use serde_json::{Value, json};

use super::{
    Signer, UPLOAD,
    cross_signing::{UPLOAD_SIGNATURES, bootstrap, query},
    device_keys, upload_device,
};

fn bare(keys: &Value) -> Value {
    let mut keys = keys.clone();
    keys.as_object_mut().unwrap().remove("signatures");
    keys
}

/// Says whether a signature is one on this object.
fn fits(object: &Value, signature: &str, public: &str) -> bool {
    let mut object: CanonicalJsonObject = serde_json::from_value(object.clone()).unwrap();
    object.remove("unsigned");
    let text = to_canonical_json_string_for_signing(&object).unwrap();
    let decode = |text: &str| {
        let decoded: Base64 = Base64::parse(text).unwrap();
        decoded.into_inner()
    };
    let (key, signature) = (decode(public), decode(signature));
    let algorithm = colonnade_model::ruma::SigningKeyAlgorithm::Ed25519;
    verify_canonical_json_bytes(&algorithm, &key, &signature, text.as_bytes()).is_ok()
}

#[tokio::test]
async fn a_signature_on_a_key_that_is_replaced_meanwhile_is_not_kept() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let (_, first) = upload_device(&alice).await;
    let keys = bootstrap(&alice).await;
    let id = &alice.user_id;
    let by = format!("ed25519:{}", keys.self_signing.public);
    let mut stored = first;
    let mut kept = 0;
    for round in 0..20 {
        let mut signed = bare(&stored);
        keys.self_signing.sign(&mut signed, id, &keys.self_signing.public);
        let body = json!({ id: { &alice.device_id: signed } });
        let next = device_keys(&alice, &Signer::new());
        let (uploaded, replaced) = tokio::join!(
            alice.post(UPLOAD_SIGNATURES, body),
            alice.post(UPLOAD, json!({ "device_keys": next })),
        );
        uploaded.ok();
        replaced.ok();
        let found = query(&alice, &alice).await;
        let shown = &found["device_keys"][id][&alice.device_id];
        if let Some(signature) = shown["signatures"][id][&by].as_str() {
            kept += 1;
            assert!(fits(shown, signature, &keys.self_signing.public), "round {round}: {shown}");
        }
        stored = next;
    }
    // Replacing the keys takes the signatures along, whichever comes first.
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn signatures_are_bounded() {
    let mut settings = open_settings();
    settings.limits.signatures_max = 2;
    let server = TestServer::with_settings(settings).await;
    let alice = server.user("alice").await;
    let (device, device_keys) = upload_device(&alice).await;
    let keys = bootstrap(&alice).await;
    let mut signed = bare(&device_keys);
    keys.self_signing.sign(&mut signed, &alice.user_id, &keys.self_signing.public);
    let mut master = keys.master.as_key(&alice.user_id, "master");
    device.sign(&mut master, &alice.user_id, &alice.device_id);
    let body = json!({ &alice.user_id: {
        &alice.device_id: signed, &keys.master.public: master,
    } });
    assert_eq!(alice.post(UPLOAD_SIGNATURES, body.clone()).await.ok(), json!({ "failures": {} }));
    let mut others = Vec::new();
    for name in ["bob", "carol", "dave"] {
        let other = server.user(name).await;
        let its = bootstrap(&other).await;
        let mut verified = its.master.as_key(&other.user_id, "master");
        keys.user_signing.sign(&mut verified, &alice.user_id, &keys.user_signing.public);
        others.push(json!({ &other.user_id: { &its.master.public: verified } }));
    }
    // One by one, and together.
    for body in &others {
        let error = alice.post(UPLOAD_SIGNATURES, body.clone()).await.err(403, "M_FORBIDDEN");
        assert!(error["error"].as_str().unwrap().contains("limits.signatures_max"), "{error}");
    }
    // What is there already is no more.
    alice.post(UPLOAD_SIGNATURES, body).await.ok();
}

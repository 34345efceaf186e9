//! What sync tells a device about keys and messages: each thing once, also without any room.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use super::{CLAIM, Signer, UPLOAD, at, upload_device};

async fn sync(client: &Client, since: Option<&str>) -> (Value, String) {
    let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
    let path = format!("/_matrix/client/v3/sync?timeout=0{since}");
    let answer = client.get(&path).await.ok();
    let next = answer["next_batch"].as_str().unwrap().to_owned();
    (answer, next)
}

fn messages(answer: &Value) -> Vec<i64> {
    let events = answer["to_device"]["events"].as_array().cloned().unwrap_or_default();
    events.iter().map(|event| event["content"]["n"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn changes_without_a_room_are_shown() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let (_, since) = sync(&alice, None).await;
    upload_device(&alice).await;
    let (answer, since) = sync(&alice, Some(&since)).await;
    assert_eq!(answer["device_lists"]["changed"], json!([&alice.user_id]));
    let (answer, _) = sync(&alice, Some(&since)).await;
    assert!(answer.get("device_lists").is_none(), "{answer}");

    // A signature only Bob may see is told to Bob alone.
    let signing = "/_matrix/client/v3/keys/device_signing/upload";
    let master = Signer::new().as_key(&alice.user_id, "master");
    alice.post(signing, json!({ "master_key": master })).await.ok();
    let (bobs_master, bobs_user) = (Signer::new(), Signer::new());
    let mut user_signing = bobs_user.as_key(&bob.user_id, "user_signing");
    bobs_master.sign(&mut user_signing, &bob.user_id, &bobs_master.public);
    let master_key = bobs_master.as_key(&bob.user_id, "master");
    let body = json!({ "master_key": master_key, "user_signing_key": user_signing });
    bob.post(signing, body).await.ok();
    let (_, alices) = sync(&alice, None).await;
    let (_, bobs) = sync(&bob, None).await;
    let mut signed = master.clone();
    bobs_user.sign(&mut signed, &bob.user_id, &bobs_user.public);
    let name = master["keys"].as_object().unwrap().values().next().unwrap().as_str().unwrap();
    let body = json!({ &alice.user_id: { name: signed } });
    let answer = bob.post("/_matrix/client/v3/keys/signatures/upload", body).await.ok();
    assert_eq!(answer, json!({ "failures": {} }));
    let (answer, _) = sync(&bob, Some(&bobs)).await;
    assert_eq!(answer["device_lists"]["changed"], json!([&alice.user_id]));
    let (answer, _) = sync(&alice, Some(&alices)).await;
    assert!(answer.get("device_lists").is_none(), "{answer}");
}

#[tokio::test]
async fn messages_come_once_and_again_for_an_old_token() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let (_, first) = sync(&alice, None).await;
    for n in 0..3 {
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/{n}");
        let message = json!({ &alice.user_id: { &alice.device_id: { "n": n } } });
        bob.put(&path, json!({ "messages": message })).await.ok();
    }
    let (answer, second) = sync(&alice, Some(&first)).await;
    assert_eq!(messages(&answer), [0, 1, 2]);
    // The answer was lost: the same token gives the same messages, after a restart too.
    let server = server.restart().await;
    let alice = at(&server, alice);
    let (answer, _) = sync(&alice, Some(&first)).await;
    assert_eq!(messages(&answer), [0, 1, 2]);
    let (answer, third) = sync(&alice, Some(&second)).await;
    assert_eq!(messages(&answer), [] as [i64; 0]);
    let (answer, _) = sync(&alice, Some(&third)).await;
    assert_eq!(messages(&answer), [] as [i64; 0]);
    // Acknowledged messages are gone from the server.
    let device = super::session(&server, &alice).await.device;
    let inbox = &server.inside().await.services.to_device;
    assert!(inbox.messages(device, 0, i64::MAX, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn key_counts_follow_claims() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let (answer, _) = sync(&alice, None).await;
    assert_eq!(answer["device_one_time_keys_count"], json!({ "signed_curve25519": 0 }));
    let key = json!({ "key": "k", "signatures": {} });
    let body = json!({
        "one_time_keys": { "signed_curve25519:A": key, "signed_curve25519:B": key },
        "fallback_keys": { "signed_curve25519:F": key },
    });
    alice.post(UPLOAD, body).await.ok();
    let (answer, mut since) = sync(&alice, None).await;
    assert_eq!(answer["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
    let claim = json!({ "one_time_keys": {
        &alice.user_id: { &alice.device_id: "signed_curve25519" },
    } });
    for (left, unused) in [(1, 1), (0, 1), (0, 0)] {
        bob.post(CLAIM, claim.clone()).await.ok();
        let (answer, next) = sync(&alice, Some(&since)).await;
        assert_eq!(answer["device_one_time_keys_count"]["signed_curve25519"], left);
        let types = answer["device_unused_fallback_key_types"].as_array().unwrap();
        assert_eq!(types.len(), unused);
        since = next;
    }
}

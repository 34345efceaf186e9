//! What a client asks before it logs in.

use colonnade_testkit::TestServer;

#[tokio::test]
async fn versions_and_unknown_endpoints() {
    let server = TestServer::start().await;
    let client = server.anonymous();
    let body = client.get("/_matrix/client/versions").await.ok();
    assert!(body["versions"].as_array().unwrap().contains(&"v1.19".into()));
    client.get("/_matrix/client/v3/nonsense").await.err(404, "M_UNRECOGNIZED");
    client.delete("/_matrix/client/versions", None).await.err(405, "M_UNRECOGNIZED");
    let server = server.restart().await;
    server.anonymous().get("/_matrix/client/versions").await.ok();
}

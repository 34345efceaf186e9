//! How other servers are reached, and what is done about those that are not.

use std::time::Duration;

use colonnade_federation::transport::{Request, TransportError};
use colonnade_model::ruma::{OwnedServerName, server_name};
use colonnade_testkit::federation::Federation;
use serde_json::Value;

fn version() -> Request {
    Request::get("/_matrix/federation/v1/version")
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_not_connected_to() {
    let servers = Federation::with(2, |number, settings| {
        if number == 0 {
            settings.outgoing.allowed_ranges.clear();
        }
    })
    .await;
    let transport = &servers[0].inside().await.services.transport;
    let refused = transport.send(server_name!("hs2"), version()).await.unwrap_err();
    assert!(
        matches!(&refused, TransportError::Refused(why) if why.contains("127.0.0.3")),
        "{refused}"
    );
    // By its address alone, and by one that means the same.
    for name in ["127.0.0.3", "[::ffff:127.0.0.3]", "[::1]:80", "10.0.0.1"] {
        let name = OwnedServerName::try_from(name).unwrap();
        let refused = transport.send(&name, version()).await.unwrap_err();
        assert!(matches!(refused, TransportError::Refused(_)), "{name}: {refused}");
    }
    let back = &servers[1].inside().await.services.transport;
    back.send(server_name!("hs1"), version()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_is_left_alone_until_it_is_heard_from() {
    let servers = Federation::with(2, |_, settings| {
        settings.federation.retry_min_ms = 3_600_000;
        settings.federation.retry_max_ms = 7_200_000;
    })
    .await;
    let services = &servers[0].inside().await.services;
    let transport = &services.transport;
    let two = server_name!("hs2");
    transport.send(two, version()).await.unwrap();
    servers.cut(1);
    let away = transport.send(two, version()).await.unwrap_err();
    let TransportError::NotReached { until_ms: Some(until_ms), .. } = away else {
        panic!("{away:?}");
    };
    let now_ms = services.context.now_ms();
    assert!(until_ms > now_ms + 3_000_000 && until_ms <= now_ms + 3_600_000);
    servers.mend(1);
    let away = transport.send(two, version()).await.unwrap_err();
    assert!(
        matches!(away, TransportError::NotReached { until_ms: Some(same), .. } if same == until_ms)
    );
    let mut returns = transport.returns();
    // It asks us something.
    let back = &servers[1].inside().await.services.transport;
    let path = "/_matrix/federation/v1/query/profile?user_id=%40nobody%3Ahs1";
    let told = back.send(server_name!("hs1"), Request::get(path)).await.unwrap_err();
    assert!(matches!(told, TransportError::Status { status: 404, .. }), "{told:?}");
    // Another process may have answered.
    let returned = tokio::time::timeout(Duration::from_secs(60), returns.recv()).await;
    assert_eq!(returned.unwrap().unwrap(), two);
    transport.send(two, version()).await.unwrap();
    // A person who waits is not left alone either.
    servers.cut(1);
    transport.send(two, version()).await.unwrap_err();
    servers.mend(1);
    transport.send(two, version().ignoring_backoff()).await.unwrap();
    transport.send(two, version()).await.unwrap();
}

#[tokio::test]
async fn an_answer_is_no_larger_than_the_caller_takes() {
    let servers = Federation::start(2).await;
    let transport = &servers[0].inside().await.services.transport;
    let answer = transport.send(server_name!("hs2"), version().taking(10)).await.unwrap();
    let large = answer.json::<Value>().await.unwrap_err();
    assert!(matches!(large, TransportError::TooLarge { bytes_max: 10 }), "{large:?}");
    let nowhere = Request::get("/_matrix/federation/v1/nowhere").taking(10);
    let told = transport.send(server_name!("hs2"), nowhere).await.unwrap_err();
    assert!(matches!(told, TransportError::Status { status: 404, .. }), "{told:?}");
}

#[tokio::test]
async fn a_certificate_has_to_be_right_for_the_name() {
    let servers = Federation::start(2).await;
    let address = OwnedServerName::try_from(servers.address(1).to_string()).unwrap();
    let transport = &servers[0].inside().await.services.transport;
    // Its certificate is one for `hs2`, and not for its address.
    let wrong = transport.send(&address, version()).await.unwrap_err();
    assert!(wrong.to_string().contains("TLS"), "{wrong}");
}

//! The bus on a real Redis: who hears whom, and what is refused.

use std::time::Duration;

use colonnade_model::{
    nid::RoomNid,
    stream::{Stream, StreamAdvance, Touch},
};
use colonnade_testkit_redis::Server;

use super::*;

/// How long something that must happen may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn advance(upto: i64) -> Arc<StreamAdvance> {
    let touched = vec![(Touch::Room(RoomNid(7)), upto)];
    Arc::new(StreamAdvance { stream: Stream::Events, prev: upto - 1, upto, touched })
}

async fn next(heard: &mut broadcast::Receiver<Arc<StreamAdvance>>) -> Arc<StreamAdvance> {
    tokio::time::timeout(LONG, heard.recv()).await.expect("a message comes").unwrap()
}

async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("it happens");
}

async fn refusal(url: &str) -> String {
    match Redis::connect(url, "here").await {
        Ok(_) => panic!("{url} must be refused"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn processes_of_one_deployment_hear_each_other_and_nobody_else() {
    let server = Server::start();
    let one = Redis::connect(&server.url(), "here").await.unwrap();
    let two = Redis::connect(&server.url(), "here").await.unwrap();
    let stranger = Redis::connect(&server.url(), "there").await.unwrap();
    let (mut at_two, mut at_stranger) = (two.subscribe(), stranger.subscribe());
    for upto in 1..=500 {
        one.publish(advance(upto));
    }
    for upto in 1..=500 {
        assert_eq!(next(&mut at_two).await, advance(upto));
    }
    // What the stranger hears first is his own.
    stranger.publish(advance(9_000));
    assert_eq!(next(&mut at_stranger).await.upto, 9_000);
    assert!(server.command("DBSIZE").starts_with(":0"), "nothing is kept in Redis");
}

#[tokio::test]
async fn a_redis_that_comes_back_is_used_again() {
    let mut server = Server::start();
    let one = Redis::connect(&server.url(), "here").await.unwrap();
    let two = Redis::connect(&server.url(), "here").await.unwrap();
    let mut at_two = two.subscribe();
    one.publish(advance(1));
    assert_eq!(next(&mut at_two).await.upto, 1);
    server.stop();
    until(|| !one.is_healthy() && !two.is_healthy()).await;
    one.publish(advance(2));
    server.start_again();
    until(|| one.is_healthy() && two.is_healthy()).await;
    one.publish(advance(3));
    assert_eq!(next(&mut at_two).await.upto, 3, "what was said meanwhile is dropped");
    server.command("FLUSHALL");
    one.publish(advance(4));
    assert_eq!(next(&mut at_two).await.upto, 4);
}

#[tokio::test]
async fn a_redis_that_is_away_at_first_is_waited_for() {
    let mut server = Server::start();
    server.stop();
    let bus = Redis::connect(&server.url(), "here").await.unwrap();
    assert!(!bus.is_healthy());
    server.start_again();
    until(|| bus.is_healthy()).await;
}

#[tokio::test]
async fn a_refusal_names_the_mend_and_no_password() {
    let server = Server::start_with(Some("hunter2"));
    assert!(Redis::connect(&server.url(), "here").await.is_ok());
    let port = server.port();
    let wrong = refusal(&format!("redis://:wrongpass@127.0.0.1:{port}/0")).await;
    assert!(wrong.contains("password in redis.url"), "{wrong}");
    assert!(!wrong.contains("wrongpass"), "{wrong}");
    let missing = refusal(&format!("redis://127.0.0.1:{port}/0")).await;
    assert!(missing.contains("password in redis.url"), "{missing}");
    let database = refusal(&format!("redis://:hunter2@127.0.0.1:{port}/99")).await;
    assert!(database.contains("a database of that Redis"), "{database}");
    let url = refusal("postgres://localhost").await;
    assert!(url.contains("redis.url is not understood"), "{url}");

    server.command("ACL SETUSER deaf on >x ~* resetchannels +@all");
    let deaf = refusal(&format!("redis://deaf:x@127.0.0.1:{port}/0")).await;
    assert!(deaf.contains("access list"), "{deaf}");
}

#[tokio::test]
async fn nonsense_on_the_channel_is_not_heard() {
    let server = Server::start();
    let bus = Redis::connect(&server.url(), "here").await.unwrap();
    let mut heard = bus.subscribe();
    server.command("PUBLISH colonnade:here:streams nonsense");
    bus.publish(advance(1));
    assert_eq!(next(&mut heard).await.upto, 1);
}

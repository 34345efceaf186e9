//! A gateway whose slot map is old: it tells the worker by which map it was chosen, and sends the request
//! where a worker that knows better says (docs/decisions/0031-stale-routes.md).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use colonnade_gateway::Running;

use crate::client::{Answer, ask, get, metrics_say};
use crate::http2;
use crate::slots::{Cluster, Listed, discovering, map, until_epoch};
use crate::worker::{Act, Seen, Worker};

const EPOCH: &str = "x-colonnade-epoch";
/// What tests have as the map's proof.
const PROOF: &str = "5ecr3t";

/// A map with a proof in it, of which the first worker owns everything.
fn proved(epoch: u64, workers: &[Listed]) -> String {
    let mut map: serde_json::Value =
        serde_json::from_str(&map(epoch, workers, &[(0, 1024, workers[0].0)])).unwrap();
    map["proof"] = PROOF.into();
    map.to_string()
}

/// Answers a request that tells of a map with 421, and others with a name, as our workers do.
fn not_the_owner(owner: SocketAddr, epoch: u64) -> impl Fn(&Seen) -> Act + Send + Sync + 'static {
    move |seen| match seen.header(EPOCH) {
        Some(_) => misdirected(owner, epoch),
        None => Act::Say("forwarded".to_owned()),
    }
}

fn misdirected(owner: SocketAddr, epoch: u64) -> Act {
    let headers = format!("x-colonnade-owner: {owner}\r\n{EPOCH}: {epoch}");
    Act::Raw(format!("HTTP/1.1 421 no\r\n{headers}\r\ncontent-length: 0\r\n\r\n").into())
}

fn request(method: &str, target: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nhost: h\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

async fn put(gateway: &Running) -> Answer {
    ask(gateway.addrs()[0], &request("PUT", "/rooms/!a", "", "body")).await
}

/// What a worker was asked besides the map.
fn asked(worker: &Worker) -> Vec<Seen> {
    let seen = worker.seen.lock().unwrap();
    seen.iter().filter(|seen| seen.target.starts_with("/rooms")).cloned().collect()
}

#[tokio::test]
async fn an_owner_gets_the_epoch_of_the_map_it_was_chosen_by() {
    let cluster = Cluster::start();
    let (owner, other) = (cluster.worker("owner").await, cluster.worker("other").await);
    let workers = [(3, owner.address, "live"), (5, other.address, "live")];
    cluster.map.send_replace(proved(7, &workers));
    let gateway = discovering(&[owner.address], "");
    until_epoch(&gateway, 7).await;
    let front = gateway.addrs()[0];
    let epoch_sent =
        |worker: &Worker| asked(worker).last().unwrap().header(EPOCH).map(str::to_owned);
    let expected = Some(format!("7 {PROOF}"));
    // With and without a body; whatever a client says of maps is not passed on.
    let forged = format!("X-Colonnade-Epoch: 0 {PROOF}\r\nx-colonnade-epoch: 1\r\n");
    for (method, body) in [("PUT", "body"), ("POST", ""), ("PUT", &*"x".repeat(60_000))] {
        assert_eq!(ask(front, &request(method, "/rooms/!a", &forged, body)).await.status, 200);
        let seen = asked(&owner).pop().unwrap();
        assert_eq!(epoch_sent(&owner), expected, "{method}");
        assert_eq!(seen.headers.iter().filter(|(name, _)| name == EPOCH).count(), 1);
        assert_eq!(seen.body, body.as_bytes());
    }
    // What cannot be sent twice has to be done where it arrives.
    let large = request("PUT", "/rooms/!a", &forged, &"x".repeat(70_000));
    assert_eq!(ask(front, &large).await.status, 200);
    assert_eq!((epoch_sent(&owner), asked(&owner).pop().unwrap().body.len()), (None, 70_000));
    let chunked = "PUT /rooms/!a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
                   4\r\nbody\r\n0\r\n\r\n";
    assert_eq!(ask(front, chunked).await.status, 200);
    assert_eq!(epoch_sent(&owner), None);
    // Who stands in for the owner was not chosen by the map.
    drop(owner);
    assert_eq!(ask(front, &request("PUT", "/rooms/!a", &forged, "body")).await.body, "other");
    assert_eq!(epoch_sent(&other), None);
}

#[tokio::test]
async fn clients_neither_tell_of_maps_nor_hear_of_workers() {
    let named = "HTTP/1.1 200 OK\r\nX-Colonnade-Owner: 10.0.0.1:1\r\nX-Colonnade-Epoch: 9\r\n\
                 x-other: y\r\ncontent-length: 0\r\n\r\n";
    let worker = Worker::start(move |_| Act::Raw(named.into())).await;
    let plain = crate::client::gateway(&crate::client::one_pool("single", &[worker.address]));
    let forged = "x-colonnade-epoch: 0 guess\r\n";
    let answer = ask(plain.addrs()[0], &request("PUT", "/rooms/!a", forged, "")).await;
    assert_eq!((answer.status, answer.header("x-other")), (200, Some("y")));
    assert_eq!((answer.header("x-colonnade-owner"), answer.header(EPOCH)), (None, None));
    assert_eq!(worker.last().header(EPOCH), None);
    let encrypted = http2::start("", &worker);
    let mut client = http2::connect(&encrypted).await;
    let forged = http2::request("GET", "/rooms/!a").header(EPOCH, "0 guess");
    let answer = http2::ask(&mut client, forged, None).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get(EPOCH)), (200, None));
    assert_eq!(worker.last().header(EPOCH), None);
}

#[tokio::test]
async fn a_request_goes_where_a_worker_that_knows_better_says() {
    let cluster = Cluster::start();
    let owner = cluster.worker_that(|seen| Act::Say(seen.body.len().to_string())).await;
    let before = cluster.worker_that(not_the_owner(owner.address, 8)).await;
    let workers = [(3, before.address, "live"), (5, owner.address, "live")];
    cluster.map.send_replace(proved(7, &workers));
    let gateway = discovering(&[before.address], "");
    until_epoch(&gateway, 7).await;
    // The map says so later than the worker does.
    for body in ["body", "", &*"x".repeat(60_000)] {
        let answer = ask(gateway.addrs()[0], &request("PUT", "/rooms/!a", "", body)).await;
        assert_eq!((answer.status, answer.body), (200, body.len().to_string()));
        assert_eq!(asked(&owner).pop().unwrap().header(EPOCH), None, "sent on once only");
    }
    assert_eq!((asked(&before).len(), asked(&owner).len()), (3, 3));
    metrics_say(&gateway, "outcome=\"not_owner\",pool=\"rooms\"").await;
    let metrics = get(gateway.admin_addr().unwrap(), "/metrics").await.body;
    let line = metrics.lines().find(|line| line.contains("not_owner")).unwrap();
    assert!(line.contains(&before.address.to_string()) && line.ends_with(" 3"), "{line}");
}

/// Who is named says 421, too, as if it had been told of a map: somebody else of the pool serves.
#[tokio::test]
async fn two_workers_that_send_it_on_are_not_believed() {
    let cluster = Cluster::start();
    let serves = cluster.worker("serves").await;
    let away = serves.address;
    let second = cluster.worker_that(move |_| misdirected(away, 9)).await;
    let first = cluster.worker_that(not_the_owner(second.address, 8)).await;
    let workers =
        [(3, first.address, "live"), (5, second.address, "live"), (6, serves.address, "live")];
    cluster.map.send_replace(proved(7, &workers));
    let gateway = discovering(&[serves.address], "");
    until_epoch(&gateway, 7).await;
    let answer = put(&gateway).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "serves"));
    assert_eq!((asked(&first).len(), asked(&second).len(), asked(&serves).len()), (1, 1, 1));
}

/// The worker that was asked first passes the request on itself, when it is asked without a map.
#[tokio::test]
async fn an_owner_that_cannot_be_reached_leaves_the_request_to_who_named_it() {
    let cluster = Cluster::start();
    let gone = Worker::named("gone").await.address;
    let only = cluster.worker_that(not_the_owner(gone, 8)).await;
    cluster.map.send_replace(proved(7, &[(3, only.address, "live")]));
    let gateway = discovering(&[only.address], "");
    until_epoch(&gateway, 7).await;
    let answer = put(&gateway).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "forwarded"));
    let epochs: Vec<bool> = asked(&only).iter().map(|seen| seen.header(EPOCH).is_some()).collect();
    assert_eq!(epochs, [true, false]);
}

/// An owner that dies with the request is a failure like any other: what may be done twice is repeated.
#[tokio::test]
async fn a_repeat_at_the_owner_may_still_fail_once() {
    let cluster = Cluster::start();
    let dies = cluster.worker_that(|_| Act::Hang).await;
    let first = cluster.worker_that(not_the_owner(dies.address, 8)).await;
    let workers = [(3, first.address, "live"), (5, dies.address, "live")];
    cluster.map.send_replace(proved(7, &workers));
    let gateway = discovering(&[first.address], "");
    until_epoch(&gateway, 7).await;
    let answer = put(&gateway).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "forwarded"));
    assert_eq!(asked(&dies).len(), 1);
}

/// Whom the gateway asks for maps has not heard of the new one, and does not: who named the owner is asked.
#[tokio::test]
async fn who_tells_of_a_newer_map_is_asked_for_it() {
    let (old, new) = (Cluster::start(), Cluster::start());
    let (owner, deaf) = (old.worker("owner").await, old.worker("deaf").await);
    let answers = AtomicBool::new(false);
    let (tells, map) = (not_the_owner(owner.address, 9), new.map.subscribe());
    let knows = Worker::start(move |seen| match seen.target.starts_with("/_colonnade/slots") {
        // Nothing of maps before it is asked for the room.
        true if !answers.load(Ordering::Acquire) => Act::Hang,
        true => Act::Slots(map.clone()),
        false => {
            answers.store(true, Ordering::Release);
            tells(seen)
        }
    })
    .await;
    let workers =
        [(3, knows.address, "live"), (5, deaf.address, "live"), (6, owner.address, "live")];
    old.map.send_replace(proved(8, &workers));
    new.map.send_replace(proved(9, &[(6, owner.address, "live"), (3, knows.address, "live")]));
    let gateway = discovering(&[deaf.address], "");
    until_epoch(&gateway, 8).await;
    assert_eq!(put(&gateway).await.body, "owner");
    until_epoch(&gateway, 9).await;
    assert_eq!(put(&gateway).await.body, "owner");
    assert_eq!(asked(&knows).len(), 1);
}

//! The shape in which test servers run: one process, workers over one PostgreSQL and one Redis, or a
//! gateway before workers that are processes (`processes.rs`).
//!
//! The workers of the second shape live in the test's process, but share nothing in it: each has connections, caches,
//! positions, an incarnation and a socket of its own. A door before them gives every request to the
//! next one, whoever asks: harder than a gateway, which keeps users and rooms together. Only a
//! client's syncs go to one worker, as through the gateway: to another they are right, too, but it
//! tells some things again. After a write the door waits until all workers have noted it, so that
//! what one keeps in memory is not asked for in the moment in which it hears that it is stale.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use colonnade_core::{Homeserver, listener};
use colonnade_replication::{slots::Join, streams::DURABLE};
use colonnade_storage::{ownership::coordinator::Patience, streams::horizons};
use colonnade_testkit_redis as redis;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// The environment variable that says in which shape: `one`, which is what it is when unset, or
/// `workers`, or `gateway`.
const SHAPE: &str = "COLONNADE_TEST_SHAPE";
/// Workers of the second shape.
const WORKERS: usize = 4;
/// Those of them that own rooms.
const OWNERS: usize = 2;
/// A machine that is busy with many tests is silent for long; nobody dies here.
const PATIENCE_MS: i64 = 600_000;

/// The shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    One,
    Workers,
    Gateway,
}

impl Shape {
    /// Returns what the environment asks for.
    #[expect(clippy::disallowed_methods, reason = "the shape is told to the test binary alone")]
    pub(crate) fn wanted() -> Self {
        match std::env::var(SHAPE).as_deref() {
            Err(_) | Ok("one") => Self::One,
            Ok("workers") => Self::Workers,
            Ok("gateway") => Self::Gateway,
            Ok(other) => panic!("{SHAPE} is {other}, and may be `one`, `workers` or `gateway`"),
        }
    }

    pub(crate) fn is_shared(self) -> bool {
        self != Self::One
    }

    /// Returns how many workers live in the test's process.
    pub(crate) fn workers(self) -> usize {
        match self {
            Self::One => 1,
            Self::Workers => WORKERS,
            Self::Gateway => 0,
        }
    }

    pub(crate) fn redis(self) -> Option<String> {
        self.is_shared().then(|| redis::Server::shared().url())
    }
}

/// Gives a worker a socket of its own, where the others reach it, and lets it join them.
pub(crate) async fn join(
    worker: &Arc<Homeserver>,
    number: usize,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    let (socket, address) = bind().await;
    let serving = tokio::spawn(listener::serve(socket, worker.front(), stop.clone()));
    let pool = if number < OWNERS { "rooms" } else { "client" };
    let join = Join {
        name: format!("{pool}{number}"),
        pools: vec![pool.to_owned()],
        address,
        patience: Patience { silence_ms: PATIENCE_MS, without_lock_ms: PATIENCE_MS, noted: None },
    };
    worker.join(join).await.expect("the worker joins");
    serving
}

/// Opens the door: returns its URL, and what serves there until told to stop.
pub(crate) async fn open_door(
    workers: &[Arc<Homeserver>],
    stop: &CancellationToken,
) -> (String, JoinHandle<()>) {
    let (socket, address) = bind().await;
    let url = format!("http://{address}");
    let door = match workers {
        [only] => tokio::spawn(listener::serve(socket, only.front(), stop.clone())),
        many => tokio::spawn(take_turns(socket, many.to_vec(), stop.clone())),
    };
    (url, door)
}

async fn bind() -> (TcpListener, String) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("a bound address").to_string();
    (socket, address)
}

/// The place of whoever asks, by the access token.
fn place_of(request: &Request<Incoming>) -> usize {
    let token = request.headers().get("authorization").map(|value| value.as_bytes());
    token.unwrap_or_default().iter().fold(0, |sum, byte| sum * 31 % 65_521 + usize::from(*byte))
}

/// Waits until these workers have noted what the database holds.
pub(crate) async fn settle(workers: &[Arc<Homeserver>]) {
    if workers.is_empty() {
        return;
    }
    let Ok(horizons) = horizons(&workers[0].services.context.db).await else { return };
    for worker in workers {
        let streams = &worker.services.context.streams;
        for stream in DURABLE {
            streams.hear_of(stream, horizons.get(stream));
            streams.noted(stream, horizons.get(stream)).await;
        }
    }
}

/// Gives each request to the next worker.
async fn take_turns(socket: TcpListener, workers: Vec<Arc<Homeserver>>, stop: CancellationToken) {
    let (workers, turn) = (Arc::new(workers), Arc::new(AtomicUsize::new(0)));
    while let Some(accepted) = stop.run_until_cancelled(socket.accept()).await {
        let Ok((connection, peer)) = accepted else { continue };
        let (workers, turn) = (Arc::clone(&workers), Arc::clone(&turn));
        let service = service_fn(move |request: Request<Incoming>| {
            let (workers, turn) = (Arc::clone(&workers), Arc::clone(&turn));
            async move {
                let place = match request.uri().path().ends_with("/sync") {
                    true => place_of(&request),
                    false => turn.fetch_add(1, Ordering::Relaxed),
                };
                let worker = &workers[place % workers.len()];
                let writes = request.method() != "GET";
                let answer = worker.front().answer(request, Some(peer.ip())).await;
                if writes {
                    settle(&workers).await;
                }
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(connection), service);
        let stop = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(connection).await });
    }
}

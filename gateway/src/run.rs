//! Starting and stopping: sockets first, then a runtime of our own on its own thread, then the
//! accept loops. Installs no signal handler and never ends the process: both belong to the binary.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use crate::admin::reload::{ReloadReport, Reloader, Source};
use crate::admin::{Admin, AdminServer, RecentTotals};
use crate::config::{Address, ConfigError, Overrides};
use crate::listen::gate::Gate;
use crate::listen::handover::{Inherited, Offer};
use crate::listen::{Bound, ListenerSetup, Proxies, Served, Term, accept_loop};
use crate::metrics::Metrics;
use crate::pipeline::graceful_shutdown::GracefulShutdown;
use crate::pipeline::rate_limit::Buckets;
use crate::pipeline::replay_memory::ReplayMemory;
use crate::pipeline::{Gateway, RequestIds, WORKER_IDLE};
use crate::proxy::pingora::PingoraProxy;
use crate::upstream::idle::IdleCount;
use crate::upstream::slot_watcher::KnownEpoch;
use crate::upstream::user_lookup::Users;

/// Threads that serve requests, unless told otherwise.
pub const THREADS_DEFAULT: usize = 2;

/// At the end, idle connections are kept this long, so that a client that sends just now is
/// answered `Connection: close` instead of being cut off.
const ANNOUNCE: Duration = Duration::from_secs(1);

/// How long tasks may take to notice that the runtime ends.
const RUNTIME_END: Duration = Duration::from_millis(200);

/// How often it is looked for connections to workers that have rested too long, or are dead.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);

/// How to run a gateway.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Where the routes come from.
    pub source: Source,
    /// What the start says instead of the file.
    pub overrides: Overrides,
    /// Whether a changed file is reloaded by itself.
    pub watch: bool,
    /// Threads that serve requests.
    pub threads: usize,
    /// Whether each request gets a span of its own; whoever subscribes to them exports them.
    pub spans: bool,
    /// Where the listening sockets are taken over from a gateway that runs, if one does, and then
    /// offered to the next.
    pub upgrade_socket: Option<PathBuf>,
}

impl RunOptions {
    /// Runs from this source, as it stands, watching it.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            overrides: Overrides::default(),
            watch: true,
            threads: THREADS_DEFAULT,
            spans: false,
            upgrade_socket: None,
        }
    }
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The routes are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Neither the file nor the start says where to listen.
    #[error("no listener: add `listen:` to the routes file")]
    NoListener,
    /// A socket cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The socket.
        address: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The gateway that runs does not hand over its sockets, or we cannot offer ours.
    #[error("cannot take over or offer listening sockets at {path}")]
    Handover {
        /// The unix socket.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The system refuses threads or timers.
    #[error("cannot start the gateway's runtime")]
    Runtime(#[source] io::Error),
    /// The counters cannot be registered.
    #[error("cannot set up the metrics")]
    Metrics(#[from] prometheus::Error),
}

/// A gateway that runs. Dropping it ends the gateway at once; [`Running::shutdown`] ends it well.
pub struct Running {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    reloader: Arc<Reloader>,
    handed_over: watch::Receiver<bool>,
    stop: Mutex<Option<oneshot::Sender<End>>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How a gateway ends.
#[derive(Debug, Clone, Copy)]
struct End {
    /// How long requests and connections may still take.
    grace: Duration,
    /// Whether another process accepts already: then nobody waits for the end, and idle connections
    /// may stay until their client uses them once more and is told to open another.
    succeeded: bool,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Running {
    /// The TCP addresses bound, in the order of the listeners.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The admin listener's address, if there is one.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Reads the routes anew and puts them in force; on SIGHUP, for instance.
    ///
    /// # Errors
    /// If the file is wrong; then everything stays as it was.
    pub fn reload(&self) -> Result<ReloadReport, ConfigError> {
        self.reloader.reload()
    }

    /// Waits until another process has taken over the listening sockets; forever, if nobody may.
    pub async fn handed_over(&self) {
        let mut handed_over = self.handed_over.clone();
        if handed_over.wait_for(|handed| *handed).await.is_err() {
            std::future::pending().await
        }
    }

    /// Stops accepting, lets requests in flight finish for up to `grace`, then ends.
    pub async fn shutdown(&self, grace: Duration) {
        self.end(End { grace, succeeded: false }).await;
    }

    /// Leaves the field to the process that took over: accepts nothing, answers what comes on open
    /// connections with `Connection: close` (on HTTP/2: GOAWAY), and ends when the last one is
    /// closed, or after `grace`.
    pub async fn retire(&self, grace: Duration) {
        self.end(End { grace, succeeded: true }).await;
    }

    async fn end(&self, end: End) {
        let stop = self.stop.lock().take();
        if let Some(stop) = stop {
            let _ended_already = stop.send(end);
        }
        let ended = self.ended.lock().take();
        if let Some(ended) = ended {
            let _ended = ended.await;
        }
        self.join();
    }

    /// The same, for callers outside a runtime.
    pub fn shutdown_blocking(&self, grace: Duration) {
        if let Some(stop) = self.stop.lock().take() {
            let _ended_already = stop.send(End { grace, succeeded: false });
        }
        self.join();
    }

    fn join(&self) {
        if let Some(thread) = self.thread.lock().take() {
            let _panicked = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown_blocking(Duration::ZERO);
    }
}

/// Starts a gateway on threads of its own.
///
/// # Errors
/// [`StartError`]; then nothing runs and no socket stays bound.
pub fn run(options: RunOptions) -> Result<Running, StartError> {
    let metrics = Arc::new(Metrics::new()?);
    let reloader =
        Arc::new(Reloader::start(options.source, options.overrides, Arc::clone(&metrics))?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads.max(1))
        .thread_name("gateway")
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let sockets = match bind(&runtime, &reloader, options.upgrade_socket) {
        Ok(sockets) => sockets,
        Err(error) => {
            // Waiting for its threads here could block a runtime of the caller's.
            runtime.shutdown_background();
            return Err(error);
        }
    };
    let addresses = sockets.bound.iter().filter_map(|(bound, _)| bound.tcp_address()).collect();
    let admin = sockets.admin_bound.as_ref().and_then(Bound::tcp_address);
    let (stop, stopping) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let (handing_over, handed_over) = watch::channel(false);
    let (up, is_up) = mpsc::sync_channel(1);
    let served = Arc::clone(&reloader);
    let threads = options.threads.max(1);
    let thread = std::thread::Builder::new()
        .name("gateway-main".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let spans = options.spans;
                let serving =
                    Serving { reloader: served, metrics, threads, spans, handing_over, up };
                serving.run(sockets, options.watch, stopping).await;
            });
            runtime.shutdown_timeout(RUNTIME_END);
            let _nobody_waits = end.send(());
        })
        .map_err(StartError::Runtime)?;
    // Whoever is told that we run may at once start the process that takes our place.
    let _ended_already = is_up.recv();
    Ok(Running {
        addresses,
        admin,
        reloader,
        handed_over,
        stop: Mutex::new(Some(stop)),
        ended: Mutex::new(Some(ended)),
        thread: Mutex::new(Some(thread)),
    })
}

struct Sockets {
    bound: Vec<(Bound, ListenerSetup)>,
    admin_bound: Option<Bound>,
    inherited: Option<Inherited>,
    offer: Option<Offer>,
}

fn bind(
    runtime: &Runtime,
    reloader: &Reloader,
    upgrade_socket: Option<PathBuf>,
) -> Result<Sockets, StartError> {
    let _inside = runtime.enter();
    let live = reloader.live.load();
    let config = &live.config;
    if config.listen.is_empty() {
        return Err(StartError::NoListener);
    }
    let not_handed = |cause| StartError::Handover {
        path: upgrade_socket.as_ref().map_or(String::new(), |path| path.display().to_string()),
        cause,
    };
    let inherited = upgrade_socket.as_deref().map(Inherited::ask).transpose();
    let mut inherited = inherited.map_err(not_handed)?.flatten();
    let mut offered = Vec::new();
    let mut bind = |address: &Address| {
        let name = address.to_string();
        let known = inherited.as_mut().and_then(|inherited| inherited.take(&name));
        let bound = match known {
            Some(socket) => Bound::inherit(address, socket),
            None => Bound::bind(address),
        };
        let bound = bound.and_then(|bound| {
            if upgrade_socket.is_some() {
                offered.push((name, bound.share()?));
            }
            Ok(bound)
        });
        bound.map_err(|cause| StartError::Bind { address: address.to_string(), cause })
    };
    let mut bound = Vec::new();
    for (place, listen) in config.listen.iter().enumerate() {
        let mut entrance =
            ListenerSetup { proxy_protocol: listen.proxy_protocol, ..ListenerSetup::default() };
        if let (Some(tls), Some(certificates)) = (&listen.tls, reloader.certificates(place)) {
            let named = |cause| ConfigError::Certificate { listener: listen.name.clone(), cause };
            entrance.tls = Some(certificates.accept_with(tls).map_err(named)?.into());
        }
        bound.push((bind(&listen.bind)?, entrance));
    }
    let admin = config.admin.map(|admin| bind(&Address::Tcp(admin))).transpose()?;
    let offer = upgrade_socket.as_deref().map(|path| Offer::prepare(path, offered)).transpose();
    Ok(Sockets { bound, admin_bound: admin, offer: offer.map_err(not_handed)?, inherited })
}

/// Everything that runs.
struct Serving {
    reloader: Arc<Reloader>,
    metrics: Arc<Metrics>,
    threads: usize,
    spans: bool,
    handing_over: watch::Sender<bool>,
    /// Told when everything accepts, and a next process can take over.
    up: mpsc::SyncSender<()>,
}

impl Serving {
    /// Runs until it is told to stop and has drained.
    async fn run(self, sockets: Sockets, watch: bool, stopping: oneshot::Receiver<End>) {
        let Self { reloader, metrics, threads, spans, handing_over, up } = self;
        let (close, closing) = watch::channel(false);
        let (close_admin, admin_closing) = watch::channel(false);
        let gate = Arc::new(Gate::new(Arc::clone(&metrics)));
        let known_epoch = Arc::new(KnownEpoch::default());
        let gateway = Arc::new(gateway(&reloader, &metrics, (threads, spans), &known_epoch));
        let idle = reloader.live.load().config.limits.idle_worker_connections;
        let pingora = PingoraProxy::new(Arc::clone(&gateway), threads, idle);
        let proxies = Arc::new(Proxies { gateway: Arc::clone(&gateway), pingora });
        for (place, (bound, entrance)) in sockets.bound.into_iter().enumerate() {
            let Some(engines) = reloader.engine(place) else { continue };
            let served = Served::Proxy(Arc::clone(&proxies), Term::new(&gateway, engines));
            let live = Arc::clone(&reloader.live);
            let gate = Arc::clone(&gate);
            tokio::spawn(accept_loop(bound, entrance, served, live, gate, closing.clone()));
        }
        if let Some(bound) = sockets.admin_bound {
            let address = bound.tcp_address();
            let recent_totals = Arc::new(RecentTotals::default());
            tokio::spawn(Arc::clone(&recent_totals).watch(Arc::clone(&metrics)));
            let admin = Admin {
                reloader: Arc::clone(&reloader),
                metrics: Arc::clone(&metrics),
                gate: Arc::clone(&gate),
                closing: closing.clone(),
                recent_totals,
                address,
            };
            serve_admin(bound, admin, admin_closing);
        }
        tokio::spawn(crate::upstream::checker::run(Arc::clone(&reloader.live), reloader.clock));
        tokio::spawn(expire_connections(Arc::clone(&gateway)));
        tokio::spawn(follow(&reloader, known_epoch));
        if watch {
            tokio::spawn(Arc::clone(&reloader).watch());
        }
        let offering = take_place(sockets.inherited, sockets.offer, handing_over);
        let _nobody_waits = up.send(());
        // A handle dropped without a word means: now.
        let at_once = End { grace: Duration::ZERO, succeeded: false };
        let end = stopping.await.unwrap_or(at_once);
        if let Some(offering) = offering {
            // It holds the sockets open; a client must not wait in a queue nobody empties.
            offering.abort();
        }
        gateway.graceful_shutdown.announce();
        let _nobody_listens = close.send(true);
        if end.succeeded {
            let _no_admin = close_admin.send(true);
        }
        drain(&gate, &gateway, end).await;
    }
}

/// Follows the slot map; each new one is put in force by the reloader.
fn follow(
    reloader: &Arc<Reloader>,
    known_epoch: Arc<KnownEpoch>,
) -> impl Future<Output = ()> + use<> {
    let taker = Arc::clone(reloader);
    let take = move |map, text: &[u8]| taker.take_map(map, text);
    crate::upstream::slot_watcher::run(Arc::clone(&reloader.live), known_epoch, take)
}

/// Closes connections to workers that have rested too long, until dropped.
async fn expire_connections(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(EXPIRE_EVERY).await;
        let (live, now_ms) = (gateway.live.load_full(), gateway.clock.now_ms());
        for member in live.pools.iter().flat_map(|pool| &pool.members) {
            member.kept.expire(now_ms, WORKER_IDLE.as_millis() as u64);
        }
    }
}

fn serve_admin(bound: Bound, admin: Admin, closing: watch::Receiver<bool>) {
    let live = Arc::clone(&admin.reloader.live);
    // Its own gate: whoever watches the drain must not keep it from ending.
    let Ok(metrics) = Metrics::new() else { return };
    let gate = Arc::new(Gate::new(Arc::new(metrics)));
    let served = Served::Admin(Arc::new(AdminServer(admin)));
    tokio::spawn(accept_loop(bound, ListenerSetup::default(), served, live, gate, closing));
}

/// Tells the process before us that we accept, and offers our sockets to the one after us.
fn take_place(
    inherited: Option<Inherited>,
    offer: Option<Offer>,
    handing_over: watch::Sender<bool>,
) -> Option<tokio::task::JoinHandle<()>> {
    if let Some(Err(error)) = inherited.map(Inherited::confirm) {
        tracing::warn!(%error, "the gateway before this one ended while it handed over");
    }
    let offer = offer?;
    if let Err(error) = offer.publish() {
        tracing::error!(%error, "no later process can take over the listening sockets");
        return None;
    }
    Some(tokio::spawn(offer.serve(handing_over)))
}

/// Waits for what is under way.
async fn drain(gate: &Gate, gateway: &Gateway, end: End) {
    let drained = async {
        if !end.succeeded {
            let _quiet = tokio::time::timeout(ANNOUNCE, gate.until_empty()).await;
            gateway.graceful_shutdown.end();
        }
        gate.until_empty().await;
    };
    if tokio::time::timeout(end.grace, drained).await.is_err() {
        tracing::warn!(connections = gate.open(), "connections still open at the end of the grace");
    }
}

fn gateway(
    reloader: &Reloader,
    metrics: &Arc<Metrics>,
    (threads, spans): (usize, bool),
    known_epoch: &Arc<KnownEpoch>,
) -> Gateway {
    let live = reloader.live.load();
    Gateway {
        live: Arc::clone(&reloader.live),
        metrics: Arc::clone(metrics),
        clock: reloader.clock,
        per_ip: Buckets::default(),
        per_token: Buckets::default(),
        per_user: Buckets::default(),
        users: Users::default(),
        compression: live.config.compression,
        request_ids: RequestIds::new(RandomState::new().hash_one(std::process::id())),
        known_epoch: Arc::clone(known_epoch),
        spans,
        graceful_shutdown: Arc::new(GracefulShutdown::default()),
        bodies: ReplayMemory::new(metrics.kept_bytes.clone()),
        kept: Arc::new(IdleCount::new(live.config.limits.idle_worker_connections * threads)),
    }
}

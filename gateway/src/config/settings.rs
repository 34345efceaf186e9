//! What a routes file says, as typed values; checked when they are made, never wrong afterwards.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::units::{Address, IpRange, SlotRange, WorkerAddr};
use crate::pipeline::access_log;
use crate::pipeline::rate_limit::Rate;
use crate::routing::routes::{KeyKind, Route};

/// The most rules one file may hold; the matcher's size grows with them.
pub const ROUTES_MAX: usize = 2_000;

/// The most workers one pool may hold; choosing among them is linear for `least_conn`.
pub const POOL_WORKERS_MAX: usize = 1_000;

/// Everything the gateway is told by one routes file.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file, as it is named in messages.
    pub name: String,
    /// Where requests are accepted.
    pub listen: Vec<Listen>,
    /// Where health, metrics, table, pools and reload are served; loopback only.
    pub admin: Option<SocketAddr>,
    /// Names by which it may be asked, besides those of this machine and its address.
    pub admin_hosts: Vec<String>,
    /// Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpRange>,
    /// Whether preflights are answered here and `Access-Control-Allow-Origin` is added.
    pub cors: bool,
    /// What is answered at `/.well-known/matrix/<name>`, as JSON.
    pub well_known: BTreeMap<String, Bytes>,
    /// The folder whose files are shown where no rule takes a path.
    pub static_folder: Option<PathBuf>,
    /// How often one address may ask.
    pub rate_per_ip: Option<Rate>,
    /// How often one access token may ask.
    pub rate_per_token: Option<Rate>,
    /// How often one user may ask, with all devices together.
    pub rate_per_user: Option<Rate>,
    /// The place of the pool that is asked whose a token is, if one is.
    pub whoami: Option<usize>,
    /// Whose connections are refused.
    pub deny_ips: Vec<IpRange>,
    /// Where each request is written down.
    pub access_log: Option<access_log::Target>,
    /// Where the last slot map is kept, for a start while no worker answers.
    pub slot_map_file: Option<PathBuf>,
    /// Whose traces are continued.
    pub trace_context: From,
    /// Whether answers are compressed for clients that can read that; takes a restart.
    pub compression: bool,
    /// Sizes and deadlines.
    pub limits: Limits,
    /// The pools, sorted by name.
    pub pools: Vec<PoolConfig>,
    /// The rules in file order.
    pub routes: Vec<Route>,
}

/// From whom something is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// From the addresses in [`Config::trusted_proxies`].
    TrustedProxies,
    /// From whoever connects.
    Everyone,
    /// From nobody.
    Nobody,
}

/// One place where requests are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// A name for messages and metrics.
    pub name: String,
    /// The socket.
    pub bind: Address,
    /// Its certificates, if it is encrypted.
    pub tls: Option<TlsConfig>,
    /// Whether every connection begins with a PROXY protocol header, from a trusted proxy.
    pub proxy_protocol: bool,
    /// What carries its requests; a reload changes it for new connections.
    pub engine: Engine,
}

impl Listen {
    /// Says whether it is more than a socket in clear.
    pub fn is_special(&self) -> bool {
        self.tls.is_some() || self.proxy_protocol
    }
}

/// What carries requests from a listener to workers (docs/decisions/0034-two-engines.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// `gateway/src/proxy/http1.rs` and `http2.rs`, written on the connections.
    #[default]
    Direct,
    /// Pingora's proxy, with its phases, connectors and connection pool.
    Pingora,
}

impl Engine {
    /// As `engine:` of a routes file names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Pingora => "pingora",
        }
    }
}

/// How a listener is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Pairs of certificate chain and key, in PEM files; the first is the default.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// Sizes and deadlines at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The request line and headers together, in bytes.
    pub header_bytes: u64,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// How long a connection may rest between two requests.
    pub keepalive_timeout: Duration,
    /// Between two pieces of a request body.
    pub body_timeout: Duration,
    /// A request body, in bytes, unless the rule says otherwise.
    pub body_bytes: u64,
    /// What all requests together may make the gateway hold, in bytes, to send them again if a worker fails;
    /// beyond it they are passed on without, or refused by the `pingora` engine, which cannot do that.
    pub kept_body_bytes: u64,
    /// To open a connection to a worker.
    pub connect_timeout: Duration,
    /// From a worker, to the first byte of its answer and between bytes.
    pub response_timeout: Duration,
    /// The most that a long poll may take, whatever it asks for; see [`Limits::patience`].
    pub long_poll_timeout: Duration,
    /// Open connections from clients, all listeners together.
    pub connections: usize,
    /// Open connections from one address (IPv6: one /64) that is no trusted proxy.
    pub connections_per_ip: usize,
    /// How long a request waits for a worker when none can serve.
    pub hold: Duration,
    /// Idle connections kept open to workers, per thread.
    pub idle_worker_connections: usize,
}

impl Limits {
    /// How long a worker's answer is waited for. A long poll gets the time its `timeout` asks for
    /// (milliseconds; Matrix v1.19, client-server, §Syncing), and then as long as every request: a
    /// first sync works for minutes whatever its timeout says.
    pub fn patience(&self, long_poll: bool, query: &str) -> Duration {
        if !long_poll {
            return self.response_timeout;
        }
        let asked = crate::routing::request_target::parameter(query, "timeout")
            .and_then(|ms| ms.parse().ok());
        let asked = Duration::from_millis(asked.unwrap_or(0));
        asked.saturating_add(self.response_timeout).min(self.long_poll_timeout)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // nginx's usual four buffers of 8 KiB, doubled: X-Matrix headers and cookies are long.
            header_bytes: 64 << 10,
            // Slow-loris: an honest client sends its headers in one packet or two.
            header_timeout: Duration::from_secs(10),
            // Longer than the 60 s after which mobile radios and NATs forget a connection.
            keepalive_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(60),
            // The server's own media limit is smaller and says so; this one only bounds abuse.
            body_bytes: 100 << 20,
            // A thousand requests of 64 KiB at once, and the least memory anybody runs this in holds it.
            kept_body_bytes: 64 << 20,
            // Workers are near; a longer wait only delays the next attempt.
            connect_timeout: Duration::from_secs(2),
            // Joining a large room over federation takes minutes.
            response_timeout: Duration::from_secs(180),
            long_poll_timeout: Duration::from_secs(600),
            // Each costs about 10 kB here and a file descriptor.
            connections: 20_000,
            // A browser or phone holds one to six, so some dozens of people may share an address, and forty
            // addresses are needed to fill `connections`. A campus behind one address needs more.
            connections_per_ip: 300,
            // A worker that restarts is back within seconds; after that, clients give up.
            hold: Duration::from_secs(8),
            idle_worker_connections: 512,
        }
    }
}

/// How a pool chooses the worker for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// The worker with the least work in flight; waiting long polls do not count.
    LeastConn,
    /// Each worker in turn.
    RoundRobin,
    /// The first worker; the others only stand by.
    Single,
    /// The worker a consistent hash of the key points to.
    Hash(KeyKind),
}

/// One pool of workers.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    /// Its name, as routes use it.
    pub name: String,
    /// How a worker is chosen.
    pub balance: Balance,
    /// Its workers with their weights, in file order.
    pub workers: Vec<(WorkerAddr, u32)>,
    /// Whether its workers are those of the slot map, once there is one.
    pub discover: bool,
    /// Workers that keep the slots they own and get nothing else; only the slot map knows such.
    pub leaving: Vec<WorkerAddr>,
    /// Who owns which slots; only the slot map knows it.
    pub owners: Vec<SlotRange>,
    /// How far above its fair share of work a worker may be before keys spill to the next one
    /// (1.25 is a quarter above); `None` never spills.
    pub bounded_load: Option<f64>,
    /// How its workers are asked whether they are well, if they are.
    pub health: Option<HealthConfig>,
    /// After how many failures in a row a worker is left alone for a moment; 0 never.
    pub eject_after: u32,
    /// How long a worker that has come back is given less than its share.
    pub slow_start: Duration,
    /// The place of the pool to use when no worker here can serve.
    pub fallback: Option<usize>,
}

/// How workers are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// What is asked for; any 2xx is a yes.
    pub path: String,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many noes in a row close a worker.
    pub down_after: u32,
    /// So many yeses in a row open it again.
    pub up_after: u32,
}

/// What the start says instead of the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Listen here in clear, and nowhere else; of the file's listeners those remain that are encrypted or
    /// begin with a PROXY header.
    pub listen: Option<Vec<SocketAddr>>,
    /// Listen here besides, encrypted.
    pub listen_encrypted: Vec<(SocketAddr, TlsConfig)>,
    /// Every pool has these workers, and no others.
    pub workers_for_all_pools: Option<Vec<WorkerAddr>>,
    /// The admin listener is here.
    pub admin: Option<SocketAddr>,
    /// Further names by which the admin listener may be asked.
    pub admin_hosts: Vec<String>,
    /// There is no admin listener, whatever the file says.
    pub no_admin: bool,
    /// Every listener has this engine.
    pub engine: Option<Engine>,
}

impl Config {
    /// Puts what the start says in place of what the file says.
    pub fn with(mut self, overrides: &Overrides) -> Self {
        // The file says nothing of these sockets; the engine of its first listener is theirs.
        let engine = self.listen.first().map_or(Engine::default(), |first| first.engine);
        let ours = |name: String, address: &SocketAddr, tls: Option<&TlsConfig>| Listen {
            name,
            bind: Address::Tcp(*address),
            tls: tls.cloned(),
            proxy_protocol: false,
            engine,
        };
        if let Some(listen) = &overrides.listen {
            let clear = listen.iter().enumerate();
            let clear = clear.map(|(n, address)| ours(format!("listen{n}"), address, None));
            let special = self.listen.into_iter().filter(Listen::is_special);
            self.listen = clear.chain(special).collect();
        }
        for (n, (address, tls)) in overrides.listen_encrypted.iter().enumerate() {
            self.listen.push(ours(format!("federation{n}"), address, Some(tls)));
        }
        if let Some(engine) = overrides.engine {
            self.listen.iter_mut().for_each(|listen| listen.engine = engine);
        }
        if let Some(workers) = &overrides.workers_for_all_pools {
            for pool in &mut self.pools {
                pool.workers = workers.iter().map(|address| (address.clone(), 1)).collect();
                pool.discover = false;
            }
        }
        if let Some(admin) = overrides.admin {
            self.admin = Some(admin);
        }
        self.admin_hosts.extend(overrides.admin_hosts.iter().cloned());
        if overrides.no_admin {
            self.admin = None;
        }
        self
    }

    /// Says whether the address may not connect.
    pub fn denies(&self, ip: std::net::IpAddr) -> bool {
        self.deny_ips.iter().any(|range| range.contains(ip))
    }

    /// Says whether a trace that this address is in is continued.
    pub fn continues_trace_of(&self, ip: std::net::IpAddr) -> bool {
        match self.trace_context {
            From::TrustedProxies => self.trusts(ip),
            From::Everyone => true,
            From::Nobody => false,
        }
    }

    /// Says whether the address belongs to a proxy whose forwarding headers are believed.
    pub fn trusts(&self, ip: std::net::IpAddr) -> bool {
        self.trusted_proxies.iter().any(|range| range.contains(ip))
    }
}

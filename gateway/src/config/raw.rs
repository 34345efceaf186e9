//! The shape of a routes file as serde sees it. Unknown keys are errors everywhere.
//! No meaning is given here: `check.rs` turns these into the types of `config.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::units::{ByteSize, Span};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    #[serde(default)]
    pub(super) listen: Vec<RawListen>,
    pub(super) admin: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) admin_hosts: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) trusted_proxies: Vec<Spanned<String>>,
    #[serde(default = "yes")]
    pub(super) cors: bool,
    #[serde(default)]
    pub(super) well_known: BTreeMap<String, serde_json::Value>,
    pub(super) static_folder: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) rate_limits: RawRates,
    #[serde(default)]
    pub(super) deny_ips: Vec<Spanned<String>>,
    pub(super) access_log: Option<Spanned<String>>,
    pub(super) slot_map_file: Option<Spanned<String>>,
    pub(super) whoami: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) trace_context: RawFrom,
    #[serde(default)]
    pub(super) compression: bool,
    #[serde(default)]
    pub(super) limits: RawLimits,
    pub(super) pools: BTreeMap<String, RawPool>,
    pub(super) routes: Vec<RawRoute>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListen {
    pub(super) name: String,
    pub(super) bind: Spanned<String>,
    pub(super) tls: Option<RawTls>,
    #[serde(default)]
    pub(super) proxy_protocol: bool,
    #[serde(default)]
    pub(super) engine: RawEngine,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawEngine {
    #[default]
    Direct,
    Pingora,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) certificates: Vec<RawCertificate>,
    #[serde(default = "yes")]
    pub(super) http2: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificate {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRates {
    pub(super) per_ip: Option<RawRate>,
    pub(super) per_token: Option<RawRate>,
    pub(super) per_user: Option<RawRate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRate {
    pub(super) per_second: Spanned<f64>,
    pub(super) burst: u32,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) header_bytes: Option<ByteSize>,
    pub(super) header_timeout: Option<Span>,
    pub(super) keepalive_timeout: Option<Span>,
    pub(super) body_timeout: Option<Span>,
    pub(super) body_bytes: Option<ByteSize>,
    pub(super) kept_body_bytes: Option<ByteSize>,
    pub(super) connect_timeout: Option<Span>,
    pub(super) response_timeout: Option<Span>,
    pub(super) long_poll_timeout: Option<Span>,
    pub(super) connections: Option<usize>,
    pub(super) connections_per_ip: Option<usize>,
    pub(super) idle_worker_connections: Option<usize>,
    pub(super) hold: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPool {
    pub(super) balance: RawBalance,
    #[serde(default)]
    pub(super) workers: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) discover: bool,
    pub(super) bounded_load: Option<Spanned<f64>>,
    pub(super) health: Option<RawHealth>,
    pub(super) eject_after: Option<u32>,
    pub(super) slow_start: Option<Span>,
    pub(super) fallback: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHealth {
    pub(super) path: Spanned<String>,
    pub(super) interval: Option<Span>,
    pub(super) timeout: Option<Span>,
    pub(super) down_after: Option<u32>,
    pub(super) up_after: Option<u32>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawBalance {
    LeastConn,
    RoundRobin,
    Single,
    Hash(RawKey),
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawKey {
    Room,
    User,
    SourceIp,
    Origin,
}

#[derive(Deserialize, Clone, Copy, Default, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawRetry {
    #[default]
    Safe,
    Never,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawFrom {
    #[default]
    TrustedProxies,
    Everyone,
    Nobody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    #[serde(rename = "match")]
    pub(super) pattern: Spanned<String>,
    pub(super) methods: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) if_query: Vec<String>,
    #[serde(default)]
    pub(super) unless_query: Vec<String>,
    #[serde(default)]
    pub(super) if_header: Vec<String>,
    pub(super) pool: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) deny: bool,
    pub(super) key: Option<RawKey>,
    #[serde(default)]
    pub(super) long_poll: bool,
    #[serde(default)]
    pub(super) retry: RawRetry,
    pub(super) body_bytes: Option<ByteSize>,
}

//! `/.well-known/matrix/server`: by which a host hands its name's server over to another. Kept as long as
//! its answer says, within bounds; one request for all who wait.
//!
//! Source: Matrix v1.19, server-server, "Resolving server names", and `GET /.well-known/matrix/server`.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use colonnade_model::{Clock, ruma::OwnedServerName};
use http::{HeaderMap, Uri, header};
use quick_cache::sync::Cache;
use serde::Deserialize;

use crate::transport::{
    error::TransportError,
    fetch::{FetchBounds, Fetcher},
};

/// How much of the file is taken: it holds one name. The size other servers take, too.
pub(crate) const WELL_KNOWN: FetchBounds =
    FetchBounds { within: Duration::from_secs(20), bytes_max: 50 * 1024 };
/// Hosts that are remembered: those of the servers a large deployment speaks with.
const HOSTS_MAX: usize = 20_000;

const MINUTE_MS: i64 = 60 * 1_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// How long a file is good for that does not say; the specification's.
const KEPT_MS: i64 = 24 * HOUR_MS;
/// The longest it is good for; the specification's.
const KEPT_MAX_MS: i64 = 48 * HOUR_MS;
/// The shortest: whoever says "never keep this" would have it asked for with each request.
const KEPT_MIN_MS: i64 = 5 * MINUTE_MS;
/// How long it is remembered that there is no such file; the specification's at most.
const NONE_MS: i64 = HOUR_MS;
/// How long a failure is remembered that may pass. What was known before holds meanwhile.
const FAILED_MS: i64 = 5 * MINUTE_MS;

/// What is known of a host.
#[derive(Debug, Clone)]
struct Known {
    delegated: Option<OwnedServerName>,
    until_ms: i64,
    /// Until when it holds although the file cannot be read any more.
    fallback_until_ms: i64,
}

/// The well-known files of other hosts.
pub(super) struct WellKnown {
    fetcher: Arc<Fetcher>,
    bounds: FetchBounds,
    clock: Arc<dyn Clock>,
    known: Cache<String, Known>,
}

impl WellKnown {
    pub(super) fn new(fetcher: Arc<Fetcher>, bounds: FetchBounds, clock: Arc<dyn Clock>) -> Self {
        Self { fetcher, bounds, clock, known: Cache::new(HOSTS_MAX) }
    }

    /// Returns whom a host hands its server over to, and until when that holds.
    pub(super) async fn delegated(&self, host: &str) -> (Option<OwnedServerName>, i64) {
        let now_ms = self.clock.now_ms();
        let host = host.to_ascii_lowercase();
        let before = self.known.get(&host);
        if let Some(known) = &before
            && now_ms < known.until_ms
        {
            return (known.delegated.clone(), known.until_ms);
        }
        self.known.remove_if(&host, |known| known.until_ms <= now_ms);
        let look = async { Ok::<_, std::convert::Infallible>(self.look(&host, before).await) };
        let Ok(known) = self.known.get_or_insert_async(&host, look).await;
        (known.delegated, known.until_ms)
    }

    async fn look(&self, host: &str, before: Option<Known>) -> Known {
        let now_ms = self.clock.now_ms();
        let for_ms = |delegated, ms: i64| {
            let until_ms = now_ms.saturating_add(ms);
            Known { delegated, until_ms, fallback_until_ms: now_ms.saturating_add(KEPT_MAX_MS) }
        };
        let failure = match self.fetch(host).await {
            Ok((delegated, ms)) => return for_ms(Some(delegated), ms),
            Err(failure) => failure,
        };
        tracing::debug!(%host, %failure, "there is no well-known file");
        let may_pass = match &failure {
            TransportError::NotReached { .. } | TransportError::TimedOut => true,
            TransportError::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        };
        match before {
            Some(known) if may_pass && now_ms < known.fallback_until_ms => {
                Known { until_ms: now_ms.saturating_add(FAILED_MS), ..known }
            }
            _ => for_ms(None, if may_pass { FAILED_MS } else { NONE_MS }),
        }
    }

    async fn fetch(&self, host: &str) -> Result<(OwnedServerName, i64), TransportError> {
        let address = format!("https://{host}/.well-known/matrix/server");
        let address: Uri = address
            .parse()
            .map_err(|_| TransportError::Refused(format!("{host} is no name of a host")))?;
        let response = self.fetcher.get(address, self.bounds).await?;
        let ms = kept_ms(&response.headers, self.clock.now_ms());
        let delegated = read_well_known(&response.bytes().await?);
        let malformed = || TransportError::Malformed("m.server is no server name".to_owned());
        Ok((delegated.ok_or_else(malformed)?, ms))
    }
}

/// Returns the server that a well-known file names, if it does.
pub fn read_well_known(body: &[u8]) -> Option<OwnedServerName> {
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "m.server")]
        server: OwnedServerName,
    }
    serde_json::from_slice::<File>(body).ok().map(|file| file.server)
}

/// Returns how long an answer is good for, in milliseconds.
pub(super) fn kept_ms(headers: &HeaderMap, now_ms: i64) -> i64 {
    let text = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut said = None;
    for directive in text(header::CACHE_CONTROL).flat_map(|line| line.split(',')) {
        let directive = directive.trim().to_ascii_lowercase();
        if matches!(directive.as_str(), "no-store" | "no-cache") {
            return KEPT_MIN_MS;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            let seconds = seconds.trim_matches('"').parse::<i64>().ok();
            said = said.or(seconds.map(|seconds| seconds.saturating_mul(1_000)));
        }
    }
    let by_date = || {
        let date = httpdate::parse_http_date(text(header::EXPIRES).next()?).ok()?;
        let ms = date.duration_since(UNIX_EPOCH).ok()?.as_millis();
        Some(i64::try_from(ms).ok()?.saturating_sub(now_ms))
    };
    said.or_else(by_date).map_or(KEPT_MS, |ms| ms.clamp(KEPT_MIN_MS, KEPT_MAX_MS))
}

//! What the gateway counts, for Prometheus. Every label has a bounded set of values: pools, rules
//! and workers of the config in force, status classes, and closed lists of reasons.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::pipeline::reply::{self, Reply};
use crate::upstream::health::HealthSign;

/// Upper bounds of the latency buckets, in seconds: from a cached answer to a long poll's end.
const SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0];

/// Label of requests no rule took.
pub(crate) const NO_RULE: &str = "-";

/// All counters of one gateway.
pub struct Metrics {
    pub(crate) registry: Registry,
    pub(crate) requests: IntCounterVec,
    seconds: HistogramVec,
    pub(crate) attempts: IntCounterVec,
    pub(crate) working: IntGaugeVec,
    pub(crate) long_polling: IntGaugeVec,
    pub(crate) open: IntGaugeVec,
    reloads: IntCounterVec,
    refused: IntCounterVec,
    /// Open client connections.
    pub connections: IntGauge,
    /// Held of requests' bodies.
    pub kept_bytes: IntGauge,
    /// Client connections accepted.
    pub accepted: IntCounter,
    pub(crate) table_version: IntGauge,
    pub(crate) table_age: IntGauge,
    pub(crate) slot_map_epoch: IntGauge,
    /// The sums of `requests`, for the status page only.
    total: IntCounter,
    errors: IntCounter,
}

/// How an attempt at a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It answered.
    Answered,
    /// No connection could be made.
    NoConnection,
    /// The connection broke, or what came was no HTTP.
    Broken,
    /// It did not answer in time.
    TooSlow,
    /// A kept connection was dead; the worker itself is asked again.
    Stale,
    /// It said that another worker owns what is asked for.
    NotOwner,
    /// The client went away before there was an answer.
    Abandoned,
}

impl Attempt {
    /// Every way, for forgetting their series.
    pub(crate) const EACH: [Self; 7] = [
        Self::Answered,
        Self::NoConnection,
        Self::Broken,
        Self::TooSlow,
        Self::Stale,
        Self::NotOwner,
        Self::Abandoned,
    ];

    /// What it tells about the worker's health.
    pub fn sign(self) -> Option<HealthSign> {
        match self {
            Self::Answered | Self::NotOwner => Some(HealthSign::Good),
            Self::NoConnection => Some(HealthSign::Dead),
            Self::Broken | Self::TooSlow => Some(HealthSign::Bad),
            Self::Stale | Self::Abandoned => None,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NoConnection => "no_connection",
            Self::Broken => "broken",
            Self::TooSlow => "too_slow",
            Self::Stale => "stale",
            Self::NotOwner => "not_owner",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The series of one rule, each looked up once; its labels are those of the rule and its own pool.
#[derive(Debug, Default)]
pub struct RuleSeries {
    classes: [OnceLock<IntCounter>; CLASSES.len()],
    seconds: OnceLock<Histogram>,
}

/// The series of one worker in its pool, each looked up once.
#[derive(Debug, Default)]
pub struct WorkerSeries([OnceLock<IntCounter>; Attempt::EACH.len()]);

/// Classes of statuses; the last is for requests that got no answer.
pub(crate) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// Why a connection was ended before it carried a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The limit of open connections is reached.
    TooManyConnections,
    /// It was no HTTP.
    Malformed,
    /// The headers were too large.
    HeaderTooLarge,
    /// The headers did not arrive in time.
    TooSlow,
    /// Requests were begun mostly to be abandoned.
    Flood,
    /// The address is on the deny list.
    Denied,
    /// The address has as many connections as it may.
    TooManyFromAddress,
}

impl Refused {
    /// Why a head was refused with this reply.
    pub(crate) fn of_head(reply: Reply) -> Self {
        match reply == reply::HEADER_TOO_LARGE || reply == reply::TARGET_TOO_LONG {
            true => Self::HeaderTooLarge,
            false => Self::Malformed,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::TooManyConnections => "too_many_connections",
            Self::Malformed => "malformed",
            Self::HeaderTooLarge => "header_too_large",
            Self::TooSlow => "too_slow",
            Self::Flood => "flood",
            Self::Denied => "denied",
            Self::TooManyFromAddress => "too_many_from_address",
        }
    }
}

fn seconds() -> Result<HistogramVec, prometheus::Error> {
    let help = "From a request's headers to its answer's end";
    let options = HistogramOpts::new("request_seconds", help).buckets(SECONDS.to_vec());
    HistogramVec::new(options, &["pool"])
}

impl Metrics {
    /// Makes a set of counters, all zero.
    ///
    /// # Errors
    /// None in practice: names and labels are constants, and the registry is new.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("colonnade_gateway".to_owned()), None)?;
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let accepted =
            IntCounter::new("connections_accepted_total", "Client connections accepted")?;
        registry.register(Box::new(accepted.clone()))?;
        let seconds = seconds()?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            requests: counters(
                "requests_total",
                "Requests by pool, rule and status class",
                &["pool", "rule", "status"],
            )?,
            seconds,
            attempts: counters(
                "worker_attempts_total",
                "Attempts at workers by pool, worker and outcome",
                &["pool", "worker", "outcome"],
            )?,
            working: gauges(
                "worker_requests_working",
                "Requests a worker works on, waiting long polls not counted",
                &["pool", "worker"],
            )?,
            long_polling: gauges(
                "worker_requests_long_polling",
                "Long polls that wait at a worker",
                &["pool", "worker"],
            )?,
            open: gauges(
                "worker_open",
                "1 while a worker gets new requests, 0 while it drains, is down or ejected",
                &["pool", "worker"],
            )?,
            reloads: counters("reloads_total", "Reloads of the routes file", &["outcome"])?,
            refused: counters(
                "connections_refused_total",
                "Connections ended before they carried a request",
                &["reason"],
            )?,
            kept_bytes: gauge("kept_body_bytes", "Held of requests, to send them again")?,
            connections: gauge("connections", "Open client connections")?,
            accepted,
            table_version: gauge("table_version", "Counts up with every table in force")?,
            slot_map_epoch: gauge(
                "slot_map_epoch",
                "Epoch of the slot map in force; 0 without one",
            )?,
            total: IntCounter::new("total", "not exported")?,
            errors: IntCounter::new("errors", "not exported")?,
            table_age: gauge("table_age_seconds", "Since the table in force came into force")?,
            registry,
        })
    }

    /// Counts a finished request; `series` are those of this rule and pool, where they are kept.
    pub fn request(
        &self,
        pool: Option<&str>,
        rule: Option<&str>,
        series: Option<&RuleSeries>,
        (status, took): (u16, Duration),
    ) {
        let class = match status {
            100..=599 => usize::from(status / 100 - 1),
            _ => CLASSES.len() - 1,
        };
        self.total.inc();
        if status >= 500 {
            self.errors.inc();
        }
        let pool = pool.unwrap_or(NO_RULE);
        let labels = [pool, rule.unwrap_or(NO_RULE), CLASSES[class]];
        let seconds = took.as_secs_f64();
        match series {
            Some(series) => {
                let counter = &series.classes[class];
                counter.get_or_init(|| self.requests.with_label_values(&labels)).inc();
                let histogram = &series.seconds;
                let histogram =
                    histogram.get_or_init(|| self.seconds.with_label_values(&labels[..1]));
                histogram.observe(seconds);
            }
            None => {
                self.requests.with_label_values(&labels).inc();
                self.seconds.with_label_values(&labels[..1]).observe(seconds);
            }
        }
    }

    /// Requests so far, and those of them answered with an error of ours or a worker's (5xx).
    pub fn totals(&self) -> (u64, u64) {
        (self.total.get(), self.errors.get())
    }

    /// Counts an attempt at a worker; `series` are those of this worker in this pool, where they are kept.
    pub fn attempt(
        &self,
        pool: &str,
        worker: &str,
        series: Option<&WorkerSeries>,
        outcome: Attempt,
    ) {
        let counter = || self.attempts.with_label_values(&[pool, worker, outcome.label()]);
        match series {
            Some(series) => series.0[outcome as usize].get_or_init(counter).inc(),
            None => counter().inc(),
        }
    }

    /// Counts a reload.
    pub fn reload(&self, accepted: bool) {
        let outcome = if accepted { "accepted" } else { "refused" };
        self.reloads.with_label_values(&[outcome]).inc();
    }

    /// Counts a connection ended early.
    pub fn refused(&self, reason: Refused) {
        self.refused.with_label_values(&[reason.label()]).inc();
    }
}

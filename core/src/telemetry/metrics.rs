//! What Prometheus is told. Every label has few values: endpoints by template, methods and statuses
//! by number, never an id or a path of a request.

use std::time::Duration;

use colonnade_model::stream::Stream;
use colonnade_services::Services;
use colonnade_storage::database::{metrics::CacheFigures, stats::Histogram};
use http::Method;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Upper bounds of the latency histogram, in seconds: from a cached answer to a stuck one.
const LATENCY_BOUNDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The counters of one worker.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    long_polls: IntGauge,
    positions: IntGaugeVec,
}

impl Metrics {
    /// Makes counters that stand at zero.
    ///
    /// # Errors
    /// When a name is used twice, which a test of this file rules out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new("colonnade_requests_total", "Requests answered."),
            &["method", "endpoint", "status"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("colonnade_request_seconds", "Time to the head of the answer.")
                .buckets(LATENCY_BOUNDS.to_vec()),
            &["method", "endpoint"],
        )?;
        let long_polls =
            IntGauge::new("colonnade_long_polls", "Clients that wait for news right now.")?;
        let positions = IntGaugeVec::new(
            Opts::new("colonnade_stream_position", "Where each stream stands."),
            &["stream"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(long_polls.clone()))?;
        registry.register(Box::new(positions.clone()))?;
        Ok(Self { registry, requests, seconds, long_polls, positions })
    }

    /// Counts an answered request.
    pub(crate) fn request(&self, method: &Method, endpoint: &str, status: u16, took: Duration) {
        let method = known_method(method);
        let mut digits = [0; 3];
        let status = three_digits(status, &mut digits);
        self.requests.with_label_values(&[method, endpoint, status]).inc();
        // A long poll waits because nothing happens: its time says nothing about us.
        if !endpoint.ends_with("/sync") {
            let seconds = self.seconds.with_label_values(&[method, endpoint]);
            seconds.observe(took.as_secs_f64());
        }
    }

    /// Counts a client as waiting until the answer is dropped.
    pub(crate) fn long_poll(&self) -> Waiting {
        self.long_polls.inc();
        Waiting(self.long_polls.clone())
    }

    /// Counts the clients that wait right now.
    pub fn waiting(&self) -> usize {
        usize::try_from(self.long_polls.get()).unwrap_or(0)
    }

    /// Renders everything in Prometheus' text format.
    pub(crate) fn render(&self, services: &Services) -> String {
        let positions = services.context.streams.positions();
        for stream in Stream::ALL {
            let position = self.positions.with_label_values(&[stream.name()]);
            position.set(positions.get(stream));
        }
        let gathered = self.registry.gather();
        let mut text = TextEncoder::new().encode_to_string(&gathered).unwrap_or_default();
        let db = &services.context.db;
        text += "# TYPE colonnade_writes_waiting gauge\n";
        text += &format!("colonnade_writes_waiting {}\n", db.writes_waiting());
        let stats = db.stats();
        text += "# TYPE colonnade_database_reads_total counter\n";
        text += &format!("colonnade_database_reads_total {}\n", stats.reads());
        text += &histogram("colonnade_commit_writes", &stats.batch_writes);
        text += &histogram("colonnade_commit_seconds", &stats.commit_seconds);
        text += &owner_calls(&services.rooms.owner_calls());
        text += &joins(services.federation.join_figures());
        text += &checks(services.federation.check_figures());
        text += &pushes(&services.push_sender.figures.read());
        text + &caches(&services.cache_figures())
    }
}

/// Renders how calls to owners of rooms went.
fn owner_calls(calls: &[(&str, u64)]) -> String {
    let mut text = "# TYPE colonnade_owner_calls_total counter\n".to_owned();
    for (result, count) in calls {
        text += &format!("colonnade_owner_calls_total{{result=\"{result}\"}} {count}\n");
    }
    text
}

/// Renders how joins of rooms of other servers go: how many, and the events they stored.
fn joins((under_way, events): (u64, u64)) -> String {
    format!(
        "# TYPE colonnade_joins_under_way gauge\ncolonnade_joins_under_way {under_way}\n\
         # TYPE colonnade_join_events_total counter\ncolonnade_join_events_total {events}\n"
    )
}

/// Renders how turns to check signatures are given: how many, and the most that somebody waited for.
fn checks((given, waited_most): (u64, u64)) -> String {
    format!(
        "# TYPE colonnade_check_turns_total counter\ncolonnade_check_turns_total {given}\n\
         # TYPE colonnade_check_turns_waited_max gauge\ncolonnade_check_turns_waited_max {waited_most}\n"
    )
}

/// Renders how telling push gateways goes.
fn pushes(figures: &[(&str, u64); 4]) -> String {
    let mut text = "# TYPE colonnade_push_requests_total counter\n".to_owned();
    for (result, count) in &figures[..3] {
        text += &format!("colonnade_push_requests_total{{result=\"{result}\"}} {count}\n");
    }
    let (_, left_out) = figures[3];
    text + &format!(
        "# TYPE colonnade_push_left_out_total counter\ncolonnade_push_left_out_total {left_out}\n"
    )
}

/// Renders the figures of the caches.
fn caches(figures: &[CacheFigures]) -> String {
    let mut text = "# TYPE colonnade_cache_requests_total counter\n".to_owned();
    for CacheFigures { name, hits, misses, .. } in figures {
        let line = "colonnade_cache_requests_total";
        text += &format!("{line}{{cache=\"{name}\",result=\"hit\"}} {hits}\n");
        text += &format!("{line}{{cache=\"{name}\",result=\"miss\"}} {misses}\n");
    }
    text += "# TYPE colonnade_cache_entries gauge\n";
    for CacheFigures { name, entries, .. } in figures {
        text += &format!("colonnade_cache_entries{{cache=\"{name}\"}} {entries}\n");
    }
    text
}

/// Renders a histogram that is kept elsewhere.
fn histogram(name: &str, values: &Histogram) -> String {
    let mut text = format!("# TYPE {name} histogram\n");
    let mut count = 0;
    for (bound, upto) in values.cumulative() {
        let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
        text += &format!("{name}_bucket{{le=\"{bound}\"}} {upto}\n");
        count = upto;
    }
    text + &format!("{name}_sum {}\n{name}_count {count}\n", values.sum())
}

/// A client that waits for news.
pub(crate) struct Waiting(IntGauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Methods are text of the client's choice: only the known ones become labels.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

fn three_digits(status: u16, digits: &mut [u8; 3]) -> &str {
    let digit = |place: u16| b'0' + u8::try_from(status / place % 10).unwrap_or(0);
    *digits = [digit(100), digit(10), digit(1)];
    std::str::from_utf8(digits).unwrap_or("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_few() {
        let metrics = Metrics::new().unwrap();
        let took = Duration::from_millis(3);
        let odd = Method::from_bytes(b"BREW").unwrap();
        metrics.request(&odd, "unknown", 405, took);
        metrics.request(&Method::GET, "/_matrix/client/v3/sync", 200, took);
        let waiting = metrics.long_poll();
        let text = TextEncoder::new().encode_to_string(&metrics.registry.gather()).unwrap();
        let line = r#"colonnade_requests_total{endpoint="unknown",method="other",status="405"} 1"#;
        assert!(text.contains(line), "{text}");
        assert!(text.contains("colonnade_long_polls 1"), "{text}");
        assert!(!text.contains(r#"seconds_count{endpoint="/_matrix/client/v3/sync""#), "{text}");
        drop(waiting);
        assert_eq!(metrics.long_polls.get(), 0);
    }
}

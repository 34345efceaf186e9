//! The gateway's own span of each request, and the trace it belongs to: the client's trace is
//! continued where the routes file says so, and the worker continues ours (W3C Trace Context).
//! Spans say what the access log says, and no path: paths have ids in them. Nothing is exported from
//! here; that is for whoever subscribes.

use std::collections::HashMap;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::routing::head::Head;

/// The headers a trace is told by.
pub const HEADERS: [&str; 2] = ["traceparent", "tracestate"];

struct HeaderExtractor<'a>(&'a dyn Head);

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.text(key)
    }

    fn keys(&self) -> Vec<&str> {
        HEADERS.into_iter().filter(|name| self.0.header(name).is_some()).collect()
    }
}

/// Begins the span of a request, in the trace these headers tell.
pub fn begin(request_id: &str, method: &str, continued: Option<&dyn Head>) -> Span {
    let span = tracing::info_span!(
        "gateway",
        otel.kind = "server",
        id = request_id,
        method,
        rule = tracing::field::Empty,
        pool = tracing::field::Empty,
        worker = tracing::field::Empty,
        status = tracing::field::Empty,
    );
    if let Some(headers) = continued.filter(|headers| headers.header(HEADERS[0]).is_some()) {
        let caller = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // An error says that nothing is exported.
        let _nothing_exported = span.set_parent(caller);
    }
    span
}

/// The headers by which a worker continues this span's trace; none if nothing is exported.
pub fn headers(span: &Span) -> Vec<(String, String)> {
    if span.is_none() {
        return Vec::new();
    }
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return Vec::new();
    }
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut headers);
    // Without a state there is nothing to say about it.
    headers.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// Says how the request went; the span ends when it is dropped.
pub fn end(span: &Span, rule: Option<&str>, pool: Option<&str>, worker: Option<&str>, status: u16) {
    if span.is_none() {
        return;
    }
    for (name, value) in [("rule", rule), ("pool", pool), ("worker", worker)] {
        if let Some(value) = value {
            span.record(name, value);
        }
    }
    span.record("status", status);
}

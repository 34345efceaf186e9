//! Traces: from whom they are continued, what the worker is told, and the gateway's own spans.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use colonnade_gateway::{RunOptions, Running, Source};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::client::{ask, gateway, one_pool};
use crate::worker::Worker;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Remembers what it is given.
#[derive(Debug, Clone, Default)]
struct IdleConnections(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for IdleConnections {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// The gateway's threads know only the process's subscriber.
static KEPT: LazyLock<IdleConnections> = LazyLock::new(|| {
    let kept = IdleConnections::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).unwrap();
    kept
});

fn asking(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nhost: h\r\ntraceparent: 00-{TRACE}-{PARENT}-01\r\n\
         tracestate: a=b\r\n\r\n"
    )
}

fn with_spans(rest: &str) -> Running {
    LazyLock::force(&KEPT);
    let text = format!("listen: [{{ name: test, bind: \"127.0.0.1:0\" }}]\n{rest}");
    let mut options = RunOptions::new(Source::Text { name: "test.yaml".to_owned(), text });
    options.watch = false;
    options.spans = true;
    crate::client::start(options)
}

/// The span of the request that a worker was told this about.
async fn span_of(traceparent: &str) -> SpanData {
    let id = traceparent.split('-').nth(2).unwrap().to_owned();
    let find = || {
        let known = KEPT.0.lock().unwrap();
        known.iter().find(|span| span.span_context.span_id().to_string() == id).cloned()
    };
    let kept = async {
        loop {
            match find() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), kept).await.unwrap()
}

fn field(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|known| known.key.as_str() == name);
    found.map(|known| known.value.to_string())
}

#[tokio::test]
async fn a_span_continues_the_clients_trace_and_the_worker_continues_the_span() {
    let worker = Worker::named("w").await;
    let pool = one_pool("single", &[worker.address]);
    let gateway = with_spans(&format!("trusted_proxies: [\"127.0.0.1\"]\n{pool}"));
    assert_eq!(ask(gateway.addrs()[0], &asking("/a?secret=1")).await.status, 200);
    let header = worker.last().header("traceparent").unwrap().to_owned();
    assert!(header.starts_with(&format!("00-{TRACE}-")) && !header.contains(PARENT), "{header}");
    assert_eq!(worker.last().header("tracestate"), Some("a=b"));
    let span = span_of(&header).await;
    assert_eq!(span.span_context.trace_id().to_string(), TRACE);
    assert_eq!(span.parent_span_id.to_string(), PARENT);
    let address = worker.address.to_string();
    for (name, value) in [
        ("method", "GET"),
        ("rule", "^/.*$"),
        ("pool", "all"),
        ("status", "200"),
        ("worker", address.as_str()),
    ] {
        assert_eq!(field(&span, name).as_deref(), Some(value), "{name}");
    }
    assert!(!format!("{span:?}").contains("secret"));
}

#[tokio::test]
async fn a_strangers_trace_is_not_continued() {
    let worker = Worker::named("w").await;
    let pool = one_pool("single", &[worker.address]);
    let gateway = with_spans(&pool);
    assert_eq!(ask(gateway.addrs()[0], &asking("/a")).await.status, 200);
    let header = worker.last().header("traceparent").unwrap().to_owned();
    assert!(!header.contains(TRACE), "{header}");
    assert_eq!(worker.last().header("tracestate"), None);
    assert_eq!(span_of(&header).await.parent_span_id, opentelemetry::trace::SpanId::INVALID);
}

/// Without spans of its own the gateway passes on what it continues, and takes away what it does not.
#[tokio::test]
async fn without_spans_the_trace_passes_through_where_it_may() {
    let worker = Worker::named("w").await;
    let pool = one_pool("single", &[worker.address]);
    let whole = format!("00-{TRACE}-{PARENT}-01");
    for (rest, header) in [
        ("", None),
        ("trusted_proxies: [\"127.0.0.1\"]\n", Some(whole.as_str())),
        ("trace_context: everyone\n", Some(whole.as_str())),
        ("trusted_proxies: [\"127.0.0.1\"]\ntrace_context: nobody\n", None),
    ] {
        let gateway = gateway(&format!("{rest}{pool}"));
        assert_eq!(ask(gateway.addrs()[0], &asking("/a")).await.status, 200);
        assert_eq!(worker.last().header("traceparent"), header, "{rest}");
    }
}

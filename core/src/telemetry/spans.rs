//! Sends spans to an OpenTelemetry collector (OTLP over plain HTTP), when the configuration names one:
//! one span per request, continuing the caller's trace. Batches are sent from a thread of their own;
//! a collector that is away costs spans, never requests. Spans carry what the log carries: no tokens.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use opentelemetry::{propagation::TextMapPropagator as _, trace::TracerProvider as _};
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::Registry;

use crate::config::{ConfigError, Problem, Tracing};

/// How long the collector may take for a batch, each step.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer of a collector that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Where a collector takes spans.
///
/// Source: OpenTelemetry protocol 1.x, "OTLP/HTTP".
const PATH: &str = "/v1/traces";

/// The layer that turns our spans into the collector's.
pub(crate) type Layer = OpenTelemetryLayer<Registry, opentelemetry_sdk::trace::SdkTracer>;

/// Spans on their way. Dropping it sends what waits.
pub struct Exporting(SdkTracerProvider);

impl Drop for Exporting {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Starts to export; `None` when no collector is configured.
///
/// # Errors
/// When the endpoint cannot be one.
pub(crate) fn start(settings: &Tracing) -> Result<Option<(Layer, Exporting)>, ConfigError> {
    let Some(endpoint) = &settings.otlp_endpoint else { return Ok(None) };
    let wrong = |why: String| {
        ConfigError::Problems(vec![Problem {
            place: "tracing.otlp_endpoint".to_owned(),
            key: Some("tracing.otlp_endpoint".to_owned()),
            problem: why,
            mend: Some("write it like http://127.0.0.1:4318".to_owned()),
        }])
    };
    if !endpoint.starts_with("http://") {
        return Err(wrong(format!("`{endpoint}` is not a plain HTTP address")));
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Plain)
        .with_endpoint(format!("{}{PATH}", endpoint.trim_end_matches('/')))
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let sampler = Sampler::TraceIdRatioBased(settings.sample_ratio);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_resource(Resource::builder().with_service_name("colonnade").build())
        .build();
    let layer = OpenTelemetryLayer::new(provider.tracer("colonnade"));
    Ok(Some((layer, Exporting(provider))))
}

/// Makes `span` part of the trace the caller is in, if its headers say so.
pub(crate) fn continue_trace(span: &tracing::Span, headers: &HeaderMap) {
    if headers.contains_key("traceparent") {
        let caller = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // An error says that nothing is exported.
        let _nothing_exported = span.set_parent(caller);
    }
}

/// HTTP/1.1 on a socket of its own, blocking: the exporter has a thread of its own and no runtime.
#[derive(Debug)]
struct Plain;

#[async_trait::async_trait]
impl HttpClient for Plain {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let port = request.uri().port_u16().unwrap_or(80);
        let address = (host.trim_matches(['[', ']']), port).to_socket_addrs()?.next();
        let address = address.ok_or("the collector's name has no address")?;
        let mut socket = TcpStream::connect_timeout(&address, EXPORT_TIMEOUT)?;
        socket.set_read_timeout(Some(EXPORT_TIMEOUT))?;
        socket.set_write_timeout(Some(EXPORT_TIMEOUT))?;
        let mut head = format!(
            "POST {} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nContent-Length: {}\r\n",
            request.uri().path(),
            request.body().len()
        );
        for (name, value) in request.headers() {
            head += &format!("{name}: {}\r\n", value.to_str()?);
        }
        socket.write_all(format!("{head}\r\n").as_bytes())?;
        socket.write_all(request.body())?;
        let mut answer = Vec::new();
        socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        // "HTTP/1.1 200 OK": whether it was taken is all we need to know.
        let status = answer.get(9..12).and_then(|code| StatusCode::from_bytes(code).ok());
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status.ok_or("the collector did not answer in HTTP")?;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_collector_gets_the_span_with_its_parent() {
        let collector = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", collector.local_addr().unwrap());
        let got = std::thread::spawn(move || {
            let (mut socket, _) = collector.accept().unwrap();
            let mut got = Vec::new();
            let mut piece = [0; 4096];
            while !got.windows(8).any(|part| part == b"a-span-x") {
                let read = socket.read(&mut piece).unwrap();
                assert!(read > 0, "the span did not come: {}", String::from_utf8_lossy(&got));
                got.extend_from_slice(&piece[..read]);
            }
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            got
        });
        let settings = Tracing { otlp_endpoint: Some(endpoint), sample_ratio: 1.0 };
        let (layer, exporting) = start(&settings).unwrap().unwrap();
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            let span = tracing::info_span!("a-span-x");
            let mut headers = HeaderMap::new();
            let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            headers.insert("traceparent", parent.parse().unwrap());
            continue_trace(&span, &headers);
            span.in_scope(|| tracing::info!("inside"));
        });
        drop(exporting);
        let got = got.join().unwrap();
        assert!(got.starts_with(b"POST /v1/traces HTTP/1.1\r\n"));
        let trace_id = [0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd];
        assert!(got.windows(8).any(|part| part == trace_id), "the caller's trace goes on");
    }

    #[test]
    fn an_endpoint_that_cannot_be_one_is_a_problem() {
        let settings = Tracing { otlp_endpoint: Some("grpc://x".to_owned()), sample_ratio: 1.0 };
        let problem = start(&settings).err().unwrap().to_string();
        assert!(problem.contains("otlp_endpoint") && problem.contains("http://"), "{problem}");
    }
}

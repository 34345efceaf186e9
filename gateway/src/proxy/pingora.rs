//! The `pingora` engine of a listener: Pingora's proxy with its phases, connectors and pool of connections, over
//! the decisions of `pipeline`, which the `direct` engine asks, too (docs/decisions/0034-two-engines.md).
//! Connections are accepted by `listen`, as everybody's; `connection` reads them before Pingora does.

mod answer;
mod begun;
mod connection;
mod head;
mod phases;
mod shared;
mod worker;

use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;

use crate::config::Limits;
use crate::pipeline::graceful_shutdown::GracefulShutdown;
use crate::pipeline::{Gateway, REQUESTS_PER_CONNECTION_MAX};
use crate::proxy::http2::{RESETS_MAX, STREAMS_MAX};
use crate::upstream::transport::Transport;
use connection::StrictStream;
use phases::Phases;
use shared::SharedConnection;

/// The engine: what all its connections have in common.
pub(crate) struct PingoraProxy {
    gateway: Arc<Gateway>,
    proxy: Arc<HttpProxy<Phases>>,
}

impl PingoraProxy {
    /// Sets the proxy up; at most so many connections to workers rest, for each of so many threads.
    pub(crate) fn new(gateway: Arc<Gateway>, threads: usize, idle_per_thread: usize) -> Self {
        let conf = ServerConf {
            threads,
            // How often another worker is tried is decided in `pipeline`, by time and by what failed.
            max_retries: usize::MAX,
            upstream_keepalive_pool_size: idle_per_thread,
            // Workers are reached without TLS. The default would parse every certificate authority of
            // the system, and panic where one cannot be parsed.
            ca_file: Some("/dev/null".to_owned()),
            ..ServerConf::default()
        };
        let proxy = Arc::new(http_proxy(&Arc::new(conf), Phases(Arc::clone(&gateway))));
        Self { gateway, proxy }
    }

    /// Serves a connection to its end.
    pub(crate) async fn serve(
        &self,
        transport: Transport,
        peer: IpAddr,
        limits: &Limits,
        ending: &Arc<GracefulShutdown>,
    ) {
        let http2 = transport.speaks_http2();
        let shared =
            Arc::new(SharedConnection::new(peer, transport.is_encrypted(), Arc::clone(ending)));
        let metrics = Arc::clone(&self.gateway.metrics);
        let connection = StrictStream::new(transport, limits, Arc::clone(&shared), metrics);
        let Ok(connection) = connection else { return };
        let waker = std::future::poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let _listening = ending.listen(waker);
        let proxy = Arc::clone(&self.proxy);
        let app = App { proxy, shared, http2, options: options(limits), h2: h2_options(limits) };
        let (app, shutdown) = (Arc::new(app), ending.watch());
        let mut stream: Stream = Box::new(connection);
        while let Some(next) = app.process_new(stream, &shutdown).await {
            stream = next;
        }
    }
}

/// The proxy for one connection: it tells the connection when the next request may come, and has the limits that
/// were in force when it was accepted.
struct App {
    proxy: Arc<HttpProxy<Phases>>,
    shared: Arc<SharedConnection>,
    http2: bool,
    options: HttpServerOptions,
    h2: H2Options,
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !self.http2 {
            self.shared.await_request();
        }
        self.proxy.process_new_http(session, shutdown).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.h2.clone())
    }
}

fn options(limits: &Limits) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    // Without it an idle HTTP/2 connection lives forever.
    options.h2_idle_timeout = Some(limits.keepalive_timeout);
    options.keepalive_request_limit = Some(REQUESTS_PER_CONNECTION_MAX);
    options
}

fn h2_options(limits: &Limits) -> H2Options {
    let mut options = default_h2_options();
    options
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_concurrent_reset_streams(RESETS_MAX);
    options
}

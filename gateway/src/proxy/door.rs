//! The app Pingora hands connections to: our proxy, with one addition — the connection learns when
//! the next request may come, so that its deadlines and limits apply to heads and to nothing else.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;

use super::Phases;
use crate::connection::wire_of;
use crate::front::Gateway;

/// Our proxy behind the door.
pub struct Door {
    proxy: Arc<HttpProxy<Phases>>,
    /// What all its requests have in common.
    pub gateway: Arc<Gateway>,
}

impl Door {
    /// Wraps the proxy.
    pub fn new(proxy: HttpProxy<Phases>, gateway: Arc<Gateway>) -> Self {
        Self { proxy: Arc::new(proxy), gateway }
    }
}

#[async_trait]
impl HttpServerApp for Door {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if let Some(wire) = wire_of(session.digest()) {
            wire.await_request();
        }
        self.proxy.process_new_http(session, shutdown).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

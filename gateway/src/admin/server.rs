//! Reads a request to the admin listener and writes its answer. What cannot be read as one request to one
//! host (two `Host` lines, a target that names another host than `Host` does, none at all) is answered 400;
//! the library's own server would only close the connection.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;

use super::Admin;

/// How long a connection may rest between two requests, in seconds.
const KEEPALIVE_S: u64 = 60;

/// The server of the admin listener.
pub(crate) struct AdminServer(pub(crate) Admin);

#[async_trait]
impl HttpServerApp for AdminServer {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        match session.read_request().await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                tracing::debug!(%error, "a request to the admin listener cannot be read");
                if *error.etype() == pingora::ErrorType::InvalidHTTPHeader {
                    // The connection says it in our words, and lingers for who still sends.
                    let _unless_gone = session.respond_error(400).await;
                    session.shutdown().await;
                }
                return None;
            }
        }
        session.set_keepalive((!*shutdown.borrow()).then_some(KEEPALIVE_S));
        let (head, body) = self.0.response(&mut session).await.into_parts();
        let head: ResponseHeader = head.into();
        session.write_response_header(Box::new(head)).await.ok()?;
        if !body.is_empty() {
            session.write_response_body(body.into(), true).await.ok()?;
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let reused = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(reused, settings))
    }
}

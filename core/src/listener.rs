//! Accepts connections and hands requests to the router, until told to stop: then no new
//! connections, and the requests under way are answered.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use colonnade_api::{ClientAddress, Router};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a client may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may take to finish once we were told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `listener` until `stop` is cancelled and the requests under way are answered.
pub async fn serve(listener: TcpListener, router: Arc<Router>, stop: CancellationToken) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    server.http2().timer(TokioTimer::new());
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = socket.set_nodelay(true);
        let router = Arc::clone(&router);
        let service = service_fn(move |request| {
            let router = Arc::clone(&router);
            async move { Ok::<_, std::convert::Infallible>(answer(&router, request, peer).await) }
        });
        let connection = server.serve_connection_with_upgrades(TokioIo::new(socket), service);
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await;
}

async fn answer(
    router: &Router,
    mut request: http::Request<Incoming>,
    peer: SocketAddr,
) -> colonnade_api::Reply {
    request.extensions_mut().insert(ClientAddress(peer.ip()));
    let request = request.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
    router.answer(request).await
}

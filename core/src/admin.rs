//! The operator's listener of a worker: `/metrics`, `/health` (we run) and `/ready` (we can serve).
//! Changes nothing and shows no user's data.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{Homeserver, listener::REFUSED_PAUSE};

/// Connections at a time: a few monitors and a few people.
const CONNECTIONS_MAX: usize = 32;
/// How long a request's head may take, and an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the operator's endpoints until `stop` is cancelled.
pub async fn serve(socket: TcpListener, homeserver: Arc<Homeserver>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (socket.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((connection, _)) = accepted else {
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        };
        let homeserver = Arc::clone(&homeserver);
        let stop = stop.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let homeserver = Arc::clone(&homeserver);
                async move { Ok::<_, Infallible>(answer(&homeserver, &request).await) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            let connection = server.serve_connection(TokioIo::new(connection), service);
            tokio::select! {
                _ended = connection => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn answer(homeserver: &Homeserver, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/metrics" => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            text(StatusCode::OK, kind, homeserver.metrics.render(homeserver))
        }
        "/health" => text(StatusCode::OK, PLAIN, "running\n".to_owned()),
        "/ready" => match homeserver.ready().await {
            Ok(()) => text(StatusCode::OK, PLAIN, "ready\n".to_owned()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n")),
        },
        _ => {
            text(StatusCode::NOT_FOUND, PLAIN, "here are /metrics, /health and /ready\n".to_owned())
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

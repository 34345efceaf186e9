//! The operator's listener of a worker: `/metrics`, `/health` (we run) and `/ready` (we can serve).
//! Changes nothing and shows no user's data. Answers only who asks by a name that leads here and nowhere
//! else: a page in a browser could make its own name lead here (DNS rebinding), and read the answers.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, uri::Authority,
};
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

/// By which names the listener is asked.
#[derive(Debug, Clone)]
pub struct Door {
    listens: IpAddr,
    names: Arc<[String]>,
}

impl Door {
    /// One that listens at this address, and has these names besides.
    pub fn new(listens: SocketAddr, names: &[String]) -> Self {
        Self { listens: listens.ip(), names: names.into() }
    }

    /// Says whether a request is meant for this listener: it names this machine, the address listened on
    /// (any, where that is all of them), or one of the names. HTTP/1.0 may name none; no browser speaks it.
    fn lets_in(&self, version: Version, headers: &HeaderMap) -> bool {
        let mut told = headers.get_all(header::HOST).iter();
        let (told, another) = (told.next(), told.next());
        let Some(told) = told else { return version == Version::HTTP_10 };
        let Ok(told) = Authority::try_from(told.as_bytes()) else { return false };
        let host = told.host();
        if another.is_some() || told.as_str().contains('@') {
            return false;
        }
        if host.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) => {
                address.to_canonical().is_loopback()
                    || self.listens == address
                    || self.listens.is_unspecified()
            }
            Err(_) => self.names.iter().any(|name| name.eq_ignore_ascii_case(host)),
        }
    }
}

/// Serves the operator's endpoints until `stop` is cancelled.
pub async fn serve(
    socket: TcpListener,
    door: Door,
    homeserver: Arc<Homeserver>,
    stop: CancellationToken,
) {
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
        let (homeserver, door) = (Arc::clone(&homeserver), door.clone());
        let stop = stop.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let (homeserver, door) = (Arc::clone(&homeserver), door.clone());
                async move { Ok::<_, Infallible>(answer(&homeserver, &door, &request).await) }
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

async fn answer(
    homeserver: &Homeserver,
    door: &Door,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    if !door.lets_in(request.version(), request.headers()) {
        let why =
            "this listener is asked as localhost, by its address, or by a name in admin.hosts\n";
        return text(StatusCode::FORBIDDEN, PLAIN, why.to_owned());
    }
    let path = request.uri().path();
    let known = matches!(path, "/metrics" | "/health" | "/ready");
    if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET this\n".to_owned());
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_lead_here_and_nowhere_else_are_answered() {
        let names = ["worker1.internal".to_owned()];
        let door = |listens: &str| Door::new(listens.parse().unwrap(), &names);
        let asked = |door: &Door, version: Version, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            door.lets_in(version, &headers)
        };
        let here = door("10.0.0.5:8010");
        for host in [
            "localhost:8010",
            "LocalHost",
            "127.0.0.1:8010",
            "[::1]:8010",
            "10.0.0.5:8010",
            "Worker1.internal",
        ] {
            assert!(asked(&here, Version::HTTP_11, &[host]), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "10.0.0.6", "a@localhost", "a b", "[::1"]
        {
            assert!(!asked(&here, Version::HTTP_11, &[host]), "{host}");
        }
        assert!(!asked(&here, Version::HTTP_11, &[]), "RFC 9112 §3.2");
        assert!(asked(&here, Version::HTTP_10, &[]));
        assert!(!asked(&here, Version::HTTP_11, &["localhost", "localhost"]));
        let everywhere = door("0.0.0.0:8010");
        assert!(asked(&everywhere, Version::HTTP_11, &["10.0.0.6:8010"]));
        assert!(!asked(&everywhere, Version::HTTP_11, &["evil.example"]));
    }
}

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
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    uri::Authority,
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

    /// Makes sure that a request is meant for this listener: it names this machine, the address listened on
    /// (any, where that is all of them), or one of the names, and does so wherever it names anything: a
    /// target in absolute form counts more than `Host` (RFC 9112 §3.2.2). HTTP/1.0 may name none; no browser
    /// speaks it.
    ///
    /// # Errors
    /// 400 when it does not say once whom it asks, 403 when that is somebody else.
    fn admit(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), StatusCode> {
        let mut given = headers.get_all(header::HOST).iter();
        let (given, another) = (given.next(), given.next());
        if another.is_some() || (given.is_none() && version != Version::HTTP_10) {
            return Err(StatusCode::BAD_REQUEST);
        }
        let given = given.map(|given| Authority::try_from(given.as_bytes())).transpose();
        let given = given.map_err(|_| StatusCode::BAD_REQUEST)?;
        let asked = given.iter().chain(uri.authority());
        if asked.into_iter().all(|asked| self.is_ours(asked)) {
            return Ok(());
        }
        Err(StatusCode::FORBIDDEN)
    }

    fn is_ours(&self, asked: &Authority) -> bool {
        let host = asked.host();
        if asked.as_str().contains('@') {
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
    if let Err(status) = door.admit(request.version(), request.uri(), request.headers()) {
        let why =
            "this listener is asked as localhost, by its address, or by a name in admin.hosts\n";
        return text(status, PLAIN, why.to_owned());
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
            text(StatusCode::OK, kind, homeserver.metrics.render(&homeserver.services))
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
        let asked = |door: &Door, version: Version, target: &str, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            let admitted = door.admit(version, &target.parse().unwrap(), &headers);
            admitted.err().map_or(200, |status| status.as_u16())
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
            assert_eq!(asked(&here, Version::HTTP_11, "/metrics", &[host]), 200, "{host}");
            let target = format!("http://{host}/metrics");
            assert_eq!(asked(&here, Version::HTTP_11, &target, &["localhost"]), 200, "{host}");
        }
        for (host, status) in [
            ("", 400),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("10.0.0.6", 403),
            ("a@localhost", 403),
            ("a b", 400),
            ("[::1", 400),
        ] {
            assert_eq!(asked(&here, Version::HTTP_11, "/metrics", &[host]), status, "{host}");
            let target = "http://localhost/metrics";
            assert_eq!(asked(&here, Version::HTTP_11, target, &[host]), status, "{host}");
        }
        // RFC 9112 §3.2: one Host there is, and the target counts more than it.
        assert_eq!(asked(&here, Version::HTTP_11, "/metrics", &[]), 400);
        assert_eq!(asked(&here, Version::HTTP_11, "/metrics", &["localhost", "localhost"]), 400);
        for version in [Version::HTTP_10, Version::HTTP_11] {
            let evil = asked(&here, version, "http://evil.example/metrics", &["localhost"]);
            assert_eq!(evil, 403, "{version:?}");
        }
        assert_eq!(asked(&here, Version::HTTP_10, "http://evil.example/metrics", &[]), 403);
        assert_eq!(asked(&here, Version::HTTP_10, "/metrics", &[]), 200);
        let everywhere = door("0.0.0.0:8010");
        assert_eq!(asked(&everywhere, Version::HTTP_11, "/metrics", &["10.0.0.6:8010"]), 200);
        assert_eq!(asked(&everywhere, Version::HTTP_11, "/metrics", &["evil.example"]), 403);
    }
}

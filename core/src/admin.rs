//! The operator's listener of a worker: `/metrics`, `/health` (we run) and `/ready` (we can serve).
//! Changes nothing and shows no user's data. Answers only who asks by a name that leads here and nowhere
//! else: a page in a browser could make its own name lead here (DNS rebinding), and read the answers.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv6Addr, SocketAddr},
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
    /// (any, where that is all of them), or one of the names, and names the same in a target in absolute form
    /// (RFC 9112 §3.2.2). HTTP/1.0 may name none; no browser speaks it. docs/admin_hosts.tsv has the cases.
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
        let named = [given.as_ref(), uri.authority()];
        if !named.into_iter().flatten().all(is_host) {
            return Err(StatusCode::BAD_REQUEST);
        }
        if let [Some(given), Some(target)] = named
            && given.as_str() != target.as_str()
        {
            return Err(StatusCode::BAD_REQUEST);
        }
        match named.into_iter().flatten().all(|asked| self.is_ours(asked)) {
            true => Ok(()),
            false => Err(StatusCode::FORBIDDEN),
        }
    }

    fn is_ours(&self, asked: &Authority) -> bool {
        let host = asked.host();
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

/// Tells whether an authority is a name or an address, and a port at most.
fn is_host(authority: &Authority) -> bool {
    let host = authority.host();
    let Some(port) = authority.as_str().strip_prefix(host) else { return false };
    let is_port = port.is_empty() || port == ":" || authority.port_u16().is_some();
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let is_name = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(plain),
    };
    is_port && is_name
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

    /// The cases that the gateway's admin listener is tested against, too.
    const CASES: &str = include_str!("../../docs/admin_hosts.tsv");

    fn asked(door: &Door, version: Version, target: &str, hosts: &[&str]) -> u16 {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        let admitted = door.admit(version, &target.parse().unwrap(), &headers);
        admitted.err().map_or(200, |status| status.as_u16())
    }

    #[test]
    fn only_names_that_lead_here_and_nowhere_else_are_answered() {
        let door = Door::new("127.0.0.1:8010".parse().unwrap(), &["monitor.internal".to_owned()]);
        for case in CASES.lines().filter(|line| !line.starts_with('#')) {
            let [status, version, target, hosts] = case.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{case}");
            };
            let version = if version == "1.0" { Version::HTTP_10 } else { Version::HTTP_11 };
            let hosts: Vec<&str> =
                if hosts == "-" { Vec::new() } else { hosts.split(',').collect() };
            assert_eq!(asked(&door, version, target, &hosts).to_string(), status, "{case}");
        }
    }

    #[test]
    fn the_address_that_is_listened_on_is_answered() {
        let one = Door::new("10.0.0.5:8010".parse().unwrap(), &[]);
        let all = Door::new("0.0.0.0:8010".parse().unwrap(), &[]);
        for (door, host, status) in [
            (&one, "10.0.0.5:8010", 200),
            (&one, "10.0.0.6:8010", 403),
            (&all, "10.0.0.6:8010", 200),
            (&all, "evil.example", 403),
        ] {
            assert_eq!(asked(door, Version::HTTP_11, "/metrics", &[host]), status, "{host}");
            let target = format!("http://{host}/metrics");
            assert_eq!(asked(door, Version::HTTP_11, &target, &[host]), status, "{host}");
        }
    }
}

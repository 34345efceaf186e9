//! A worker that answers what it understood of a request, by the functions real workers read requests with.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use colonnade_api::request_target;
use colonnade_model::ruma::api::auth_scheme::{AccessTokenOptional, AuthScheme as _};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// What was understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Understood {
    /// The segments of the path, without their escapes.
    pub path: Vec<String>,
    /// Names and values of the query.
    pub query: Vec<(String, String)>,
    /// The access token.
    pub token: Option<String>,
}

/// Starts one; it runs as long as the runtime does.
pub async fn start() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((connection, _)) = socket.accept().await {
            let service = service_fn(async |request| Ok::<_, Infallible>(answer(&request)));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
        }
    });
    address
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, body) = match understand(request) {
        Ok(understood) => {
            (StatusCode::OK, serde_json::to_vec(&understood).expect("strings are JSON"))
        }
        Err(status) => (StatusCode::from_u16(status).expect("errors have a status"), Vec::new()),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

fn understand(request: &Request<Incoming>) -> Result<Understood, u16> {
    let uri = request.uri();
    request_target::check(uri, request.headers()).map_err(|error| error.status)?;
    let decoded =
        |raw: &str| percent_encoding::percent_decode_str(raw).decode_utf8_lossy().into_owned();
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    Ok(Understood {
        path: uri.path().split('/').map(decoded).collect(),
        query: pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        token: AccessTokenOptional::extract_authentication(request).unwrap_or_default(),
    })
}

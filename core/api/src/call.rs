//! One call of an endpoint: who calls, from where, with what. Bodies are collected here, bounded.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::api::auth_scheme::{
        AccessToken, AccessTokenOptional, AppserviceToken, AppserviceTokenOptional, AuthScheme,
        NoAccessToken, NoAuthentication,
    },
};
use colonnade_services::{Result, Services, accounts::Session};
use http::Request;
use http_body_util::{BodyExt as _, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use serde::de::DeserializeOwned;

use crate::{
    bounds,
    table::{JSON_BYTES_MAX, require_json},
};

/// A request body as it comes from the listener.
pub type ByteBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// The address a request came from, put into the request's extensions by the listener.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

/// A decoded call of a typed endpoint.
pub struct Call<R, Who> {
    /// The services.
    pub services: Arc<Services>,
    /// Who calls: a [`Session`], an optional one, or nobody.
    pub who: Who,
    /// The request.
    pub request: R,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// The body as it came, for what the typed request does not carry.
    pub body: Bytes,
}

/// How the caller of an endpoint is found out.
pub trait Caller: AuthScheme<Output: Send> {
    /// What the endpoint is told about its caller.
    type Who: Send;

    /// Finds out who calls.
    fn who(
        services: &Services,
        token: Self::Output,
        from: Option<IpAddr>,
    ) -> impl Future<Output = Result<Self::Who>> + Send;

    /// Names the user who calls, if somebody is logged in.
    fn user(who: &Self::Who) -> Option<UserNid>;
}

impl Caller for NoAuthentication {
    type Who = ();
    async fn who(_: &Services, (): (), _: Option<IpAddr>) -> Result<()> {
        Ok(())
    }

    fn user((): &()) -> Option<UserNid> {
        None
    }
}

impl Caller for NoAccessToken {
    type Who = ();
    async fn who(_: &Services, (): (), _: Option<IpAddr>) -> Result<()> {
        Ok(())
    }

    fn user((): &()) -> Option<UserNid> {
        None
    }
}

impl Caller for AccessToken {
    type Who = Session;
    async fn who(services: &Services, token: String, from: Option<IpAddr>) -> Result<Session> {
        services.accounts.authenticate_from(&token, from).await
    }

    fn user(who: &Session) -> Option<UserNid> {
        Some(who.user)
    }
}

impl Caller for AccessTokenOptional {
    type Who = Option<Session>;
    async fn who(
        services: &Services,
        token: Option<String>,
        from: Option<IpAddr>,
    ) -> Result<Option<Session>> {
        match token {
            Some(token) => services.accounts.authenticate_from(&token, from).await.map(Some),
            None => Ok(None),
        }
    }

    fn user(who: &Option<Session>) -> Option<UserNid> {
        who.as_ref().map(|session| session.user)
    }
}

impl Caller for AppserviceToken {
    type Who = ();
    async fn who(_: &Services, _: String, _: Option<IpAddr>) -> Result<()> {
        Err(MatrixError::forbidden("only application services may do this").into())
    }

    fn user((): &()) -> Option<UserNid> {
        None
    }
}

impl Caller for AppserviceTokenOptional {
    type Who = Option<Session>;
    async fn who(
        services: &Services,
        token: Option<String>,
        from: Option<IpAddr>,
    ) -> Result<Option<Session>> {
        AccessTokenOptional::who(services, token, from).await
    }

    fn user(who: &Option<Session>) -> Option<UserNid> {
        who.as_ref().map(|session| session.user)
    }
}

/// Finds out who makes a request that a handler reads itself.
///
/// # Errors
/// `M_MISSING_TOKEN`, `M_UNKNOWN_TOKEN`, `M_LIMIT_EXCEEDED`.
pub async fn session(services: &Services, parts: &http::request::Parts) -> Result<Session> {
    let mut head = http::Request::new(());
    head.headers_mut().clone_from(&parts.headers);
    head.uri_mut().clone_from(&parts.uri);
    let token = AccessToken::extract_authentication(&head)
        .map_err(|_| MatrixError::missing_token("this endpoint needs an access token"))?;
    let from = parts.extensions.get::<ClientAddress>().map(|address| address.0);
    let session = AccessToken::who(services, token, from).await?;
    bounds::admit(services, &parts.extensions, Some(session.user))?;
    Ok(session)
}

/// Collects a body of at most `limit` bytes.
///
/// # Errors
/// `M_TOO_LARGE` past the limit, `M_UNKNOWN` when the client went away or was too slow.
pub async fn collect(body: ByteBody, limit: usize) -> Result<Bytes, MatrixError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(MatrixError::too_large(format!("the request body is larger than {limit} bytes")))
        }
        Err(_) => Err(MatrixError::unknown("the request body did not arrive whole")),
    }
}

/// Reads a JSON object, for endpoints that do without a typed request. An empty body is `{}`.
///
/// # Errors
/// `M_TOO_LARGE`, `M_NOT_JSON`, `M_BAD_JSON`.
pub(crate) async fn read_json<T: DeserializeOwned>(
    request: Request<ByteBody>,
) -> Result<T, MatrixError> {
    from_json(&collect(request.into_body(), JSON_BYTES_MAX).await?)
}

/// Reads a body as a JSON object. An empty one is `{}`.
///
/// # Errors
/// `M_NOT_JSON`, `M_BAD_JSON`.
pub(crate) fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, MatrixError> {
    let body = if body.is_empty() { &b"{}"[..] } else { body };
    require_json(body)?;
    serde_json::from_slice(body).map_err(|error| MatrixError::bad_json(error.to_string()))
}

/// Returns a parameter of the query string.
pub(crate) fn query(parts: &http::request::Parts, name: &str) -> Option<String> {
    let query = parts.uri.query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

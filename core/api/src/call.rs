//! One call of an endpoint: who calls, from where, with what. Whoever is unknown is counted here, by his
//! address, before anything is done for him; bodies are collected here, bounded and paid for, and only
//! once it is known who sends them.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::api::auth_scheme::{
        AccessToken, AccessTokenOptional, AppserviceTokenOptional, AuthScheme, NoAccessToken,
        NoAuthentication,
    },
};
use colonnade_rooms::{Error, Result};
use colonnade_services::Services;
use colonnade_users::{
    accounts::{Auth, Session},
    bodies::Payer,
    limits::Class,
};
use http::Request;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use crate::{
    bounds,
    guests::Guests,
    needs::Needed,
    request::{ByteBody, JSON_BYTES_MAX, address_of, require_json},
    restricted::Restricted,
};

/// The largest body of who has no valid token: a login with every field at its longest is a quarter.
pub const STRANGER_BYTES_MAX: usize = 8 * 1024;

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
    /// What is set aside for the answer.
    pub(crate) needed: Needed,
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

    /// Returns the session of who calls, if somebody is logged in.
    fn session(who: &Self::Who) -> Option<&Session>;

    /// Names the user who calls, if somebody is logged in.
    fn user(who: &Self::Who) -> Option<UserNid> {
        Self::session(who).map(|session| session.user)
    }
}

impl Caller for NoAuthentication {
    type Who = ();
    async fn who(_: &Services, (): (), _: Option<IpAddr>) -> Result<()> {
        Ok(())
    }

    fn session((): &()) -> Option<&Session> {
        None
    }
}

impl Caller for NoAccessToken {
    type Who = ();
    async fn who(_: &Services, (): (), _: Option<IpAddr>) -> Result<()> {
        Ok(())
    }

    fn session((): &()) -> Option<&Session> {
        None
    }
}

impl Caller for AccessToken {
    type Who = Session;
    async fn who(services: &Services, token: String, from: Option<IpAddr>) -> Result<Session> {
        services.accounts.authenticate_from(&token, from).await
    }

    fn session(who: &Session) -> Option<&Session> {
        Some(who)
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

    fn session(who: &Option<Session>) -> Option<&Session> {
        who.as_ref()
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

    fn session(who: &Option<Session>) -> Option<&Session> {
        who.as_ref()
    }
}

/// Turns away a request without a session that this process has in memory, from an address that asked too
/// often without a valid token: nothing is looked up for it.
///
/// # Errors
/// `M_LIMIT_EXCEEDED`.
pub fn require_welcome<B>(services: &Services, request: &Request<B>) -> Result<(), MatrixError> {
    let Some(from) = address_of(request.extensions()) else { return Ok(()) };
    let token = AccessTokenOptional::extract_authentication(request).ok().flatten();
    if token.is_some_and(|token| services.accounts.remembers(&token)) {
        return Ok(());
    }
    services.limits.require_left(Class::Stranger, from)
}

/// Finds out who makes a request. Whoever turns out to be nobody we know counts against his address.
///
/// # Errors
/// `M_MISSING_TOKEN`, `M_UNKNOWN_TOKEN`, `M_LIMIT_EXCEEDED`.
pub(crate) fn caller<'s, A: Caller, B>(
    services: &'s Services,
    request: &Request<B>,
) -> impl Future<Output = Result<(A::Who, Payer)>> + Send + use<'s, A, B> {
    let from = address_of(request.extensions());
    let token = A::extract_authentication(request);
    let token = token.map_err(|error| missing_token(&error.into().to_string()));
    let guests = Guests::of(request.extensions());
    let restricted = Restricted::of(request.extensions());
    async move {
        let found = match token {
            Ok(token) => A::who(services, token, from).await,
            Err(error) => Err(error.into()),
        };
        match found {
            Ok(who) => match A::session(&who) {
                Some(session) => {
                    guests.admit(session)?;
                    restricted.admit(session)?;
                    let payer = Payer::User(session.user);
                    Ok((who, payer))
                }
                None => Ok((who, stranger(services, from)?)),
            },
            Err(Error::Client(refusal)) if refusal.status == 401 => {
                stranger(services, from)?;
                Err(refusal.into())
            }
            Err(error) => Err(error),
        }
    }
}

/// Counts a request of somebody without a valid token.
///
/// # Errors
/// `M_LIMIT_EXCEEDED`.
pub(crate) fn stranger(services: &Services, from: Option<IpAddr>) -> Result<Payer, MatrixError> {
    if let Some(from) = from {
        services.limits.check(Class::Stranger, from)?;
    }
    Ok(Payer::Stranger(from))
}

fn missing_token(why: &str) -> MatrixError {
    MatrixError::missing_token(format!("this endpoint needs an access token: {why}"))
}

impl<R, Who> Call<R, Who> {
    /// Returns what the caller shows to prove once more who he is.
    ///
    /// # Errors
    /// `M_BAD_JSON` when it has not its shape.
    pub(crate) fn auth(&self) -> Result<Option<Auth>, MatrixError> {
        Auth::of_body(&self.body)
    }
}

/// Returns the access token of a request, of whatever worth.
pub(crate) fn token(parts: &http::request::Parts) -> Option<String> {
    let mut head = http::Request::new(());
    head.headers_mut().clone_from(&parts.headers);
    head.uri_mut().clone_from(&parts.uri);
    AccessToken::extract_authentication(&head).ok()
}

/// Finds out who makes a request that a handler reads itself.
///
/// # Errors
/// `M_MISSING_TOKEN`, `M_UNKNOWN_TOKEN`, `M_LIMIT_EXCEEDED`.
pub async fn session(services: &Services, parts: &http::request::Parts) -> Result<Session> {
    let mut head = http::Request::new(());
    head.headers_mut().clone_from(&parts.headers);
    head.uri_mut().clone_from(&parts.uri);
    head.extensions_mut().clone_from(&parts.extensions);
    let (session, _) = caller::<AccessToken, ()>(services, &head).await?;
    bounds::admit(services, &parts.extensions, Some(session.user))?;
    Needed::of(&parts.extensions).admit(services, Payer::User(session.user)).await?;
    Ok(session)
}

/// Collects a body of at most `limit` bytes, and of [`STRANGER_BYTES_MAX`] if a stranger sends it.
///
/// # Errors
/// `M_TOO_LARGE` past the limit, `M_LIMIT_EXCEEDED` when the sender, or all together, have as many bytes
/// in memory as they may, `M_UNKNOWN` when the client went away or was too slow.
pub async fn collect(
    services: &Services,
    payer: Payer,
    mut body: ByteBody,
    limit: usize,
) -> Result<Bytes, MatrixError> {
    let limit = match payer {
        Payer::Stranger(_) => limit.min(STRANGER_BYTES_MAX),
        Payer::User(_) | Payer::Server(_) | Payer::Process => limit,
    };
    let too_large =
        || MatrixError::too_large(format!("the request body is larger than {limit} bytes"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut collected = services.bodies.begin(payer);
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| MatrixError::unknown("the request body did not arrive whole"))?;
        let Ok(piece) = frame.into_data() else { continue };
        if collected.len() + piece.len() > limit {
            return Err(too_large());
        }
        collected.push(&piece)?;
    }
    Ok(collected.finish())
}

/// Reads a JSON object, for endpoints that do without a typed request. An empty body is `{}`.
///
/// # Errors
/// As [`collect`]; `M_NOT_JSON`, `M_BAD_JSON`.
pub(crate) async fn read_json<T: DeserializeOwned>(
    services: &Services,
    payer: Payer,
    body: ByteBody,
) -> Result<T, MatrixError> {
    from_json(&collect(services, payer, body, JSON_BYTES_MAX).await?)
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

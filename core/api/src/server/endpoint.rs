//! A request of another server: refused before anything is read if it is not spoken with, then read, then
//! proved by its signature, which covers the body, then counted. Until it is proved, whoever sends it pays by
//! his address: nobody uses up what another server may have by writing its name.
//!
//! Source: Matrix v1.19, server-server, "Request Authentication".

use std::sync::Arc;

use bytes::Bytes;
use colonnade_federation::transport::authorization::{AuthorizationError, Signed, XMatrix};
use colonnade_model::{
    MatrixError,
    ruma::{
        OwnedServerName,
        api::{
            IncomingRequest, IncomingRequestExt as _, Metadata,
            federation::authentication::ServerSignatures,
        },
    },
};
use colonnade_rooms::Result;
use colonnade_services::Services;
use colonnade_users::{
    bodies::Payer,
    limits::{Class, Key},
};
use http::{Method, Request, request::Parts};
use serde_json::Value;

use crate::{
    call::{Call, collect, stranger},
    needs::Needed,
    reply::{self, Reply},
    request::{ByteBody, Erased, address_of},
    table::{Table, malformed},
};

/// The other server, proved to be the one that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Its name.
    pub(crate) server: OwnedServerName,
}

/// A request of the server-server API that another server has to sign.
pub(crate) trait ServerEndpoint:
    IncomingRequest + Metadata<Authentication = ServerSignatures> + Send + 'static
{
}

impl<R: IncomingRequest + Metadata<Authentication = ServerSignatures> + Send + 'static>
    ServerEndpoint for R
{
}

/// What a handler of such a request answers with.
pub(crate) trait IntoReply {
    /// Renders it.
    fn into_reply(self) -> Reply;
}

impl IntoReply for Value {
    fn into_reply(self) -> Reply {
        reply::ok(&self)
    }
}

impl IntoReply for Reply {
    fn into_reply(self) -> Reply {
        self
    }
}

impl Table {
    /// Mounts an endpoint that other servers ask, with a body of at most `limit` bytes. The handler answers
    /// with JSON, or with a whole [`Reply`], which may be made a piece at a time.
    pub(crate) fn add_signed<R, F, Fut, A>(&mut self, limit: usize, handler: F) -> &mut Self
    where
        R: ServerEndpoint,
        A: IntoReply,
        F: Fn(Call<R, Origin>) -> Fut + Send + Sync + Copy + 'static,
        Fut: Future<Output = Result<A>> + Send + 'static,
    {
        self.mount_everywhere::<R>(signed_endpoint(limit, handler))
    }

    /// Mounts such an endpoint at one further path.
    pub(crate) fn add_signed_at<R, F, Fut, A>(
        &mut self,
        path: &'static str,
        limit: usize,
        handler: F,
    ) -> &mut Self
    where
        R: ServerEndpoint,
        A: IntoReply,
        F: Fn(Call<R, Origin>) -> Fut + Send + Sync + Copy + 'static,
        Fut: Future<Output = Result<A>> + Send + 'static,
    {
        self.push(R::METHOD, path, path, signed_endpoint(limit, handler));
        self
    }
}

fn signed_endpoint<R, F, Fut, A>(limit: usize, handler: F) -> Erased
where
    R: ServerEndpoint,
    A: IntoReply,
    F: Fn(Call<R, Origin>) -> Fut + Send + Sync + Copy + 'static,
    Fut: Future<Output = Result<A>> + Send + 'static,
{
    Arc::new(move |services, request, args| {
        Box::pin(async move {
            let answered = async {
                let call = Box::pin(decode::<R>(services, request, &args, limit)).await?;
                handler(call).await
            };
            match answered.await {
                Ok(answer) => answer.into_reply(),
                Err(error) => reply::error(&error),
            }
        })
    })
}

async fn decode<R: ServerEndpoint>(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: &[String],
    limit: usize,
) -> Result<Call<R, Origin>> {
    let address = address_of(request.extensions());
    let (who, parts, body) = signed(&services, request, limit).await?;
    let needed = Needed::of(&parts.extensions);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let has_body = parts.method != Method::GET && parts.method != Method::HEAD;
    let typed = if has_body && body.is_empty() { Bytes::from_static(b"{}") } else { body.clone() };
    let request = R::try_from_http_request(Request::from_parts(parts, &typed[..]), &args)
        .map_err(|error| malformed(&error))?;
    Ok(Call { services, who, request, address, body, needed })
}

/// Takes in a request that another server has to sign: finds out that it did, collects the body, counts it and
/// sets aside what its answer needs.
///
/// # Errors
/// `M_UNRECOGNIZED` where there is no federation, `M_UNAUTHORIZED` when it is not proved who asks,
/// `M_FORBIDDEN` when the server is not spoken with, `M_NOT_JSON`, `M_TOO_LARGE`, `M_LIMIT_EXCEEDED`.
pub(crate) async fn signed(
    services: &Services,
    request: Request<ByteBody>,
    limit: usize,
) -> Result<(Origin, Parts, Bytes)> {
    require_federation(services)?;
    let (parts, body) = request.into_parts();
    let from = address_of(&parts.extensions);
    let headers = XMatrix::read_all(&parts.headers).map_err(|error| unproved(&error));
    let headers = headers.inspect_err(|_| drop(stranger(services, from)))?;
    let origin = headers[0].origin.clone();
    let ours = &services.context.server_name;
    if origin == *ours {
        return Err(MatrixError::unauthorized("this server does not ask itself").into());
    }
    services.transport.policy().require(&origin)?;
    let key = from.map_or(Key::name("somewhere"), Key::from);
    let body = collect(services, Payer::Server(key), body, limit).await?;
    let content = std::str::from_utf8(&body);
    let content = content.map_err(|_| MatrixError::not_json("the body is not UTF-8"))?;
    let content = (!content.is_empty()).then_some(content);
    let uri = parts.uri.path_and_query().map_or("/", |uri| uri.as_str());
    let method = parts.method.as_str();
    let request = Signed { method, uri, origin: &origin, destination: ours, content };
    if let Err(error) = services.server_keys.verify_request(request, &headers).await? {
        stranger(services, from)?;
        return Err(unproved(&error).into());
    }
    services.transport.heard_from(&origin).await;
    let name = Key::name(origin.as_str());
    services.limits.check(Class::Federation, name)?;
    Needed::of(&parts.extensions).admit(services, Payer::Server(name)).await?;
    Ok((Origin { server: origin }, parts, body))
}

fn unproved(error: &AuthorizationError) -> MatrixError {
    match error {
        AuthorizationError::NotJson(_) => MatrixError::not_json(error.to_string()),
        AuthorizationError::Malformed(_) => {
            MatrixError::unauthorized(error.to_string()).with_status(400)
        }
        _ => MatrixError::unauthorized(error.to_string()),
    }
}

/// Makes sure that this server has anything to do with others.
///
/// # Errors
/// `M_UNRECOGNIZED`.
pub(crate) fn require_federation(services: &Services) -> Result<(), MatrixError> {
    match services.transport.policy().is_enabled() {
        true => Ok(()),
        false => Err(MatrixError::unrecognized("this server does not federate")),
    }
}

//! The table of endpoints: a typed handler becomes a route of one erased shape, so that 200
//! endpoints cost one instantiation of the server and can be listed, counted and checked.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use colonnade_model::{
    MatrixError,
    ruma::api::{
        IncomingRequest, IncomingRequestExt as _, Metadata, OutgoingResponse,
        OutgoingResponseExt as _,
        error::{DeserializationError, FromHttpRequestError},
        path_builder::PathBuilder as _,
    },
};
use colonnade_rooms::{Error, Result};
use colonnade_services::Services;
use colonnade_users::answers::Need;
use http::{Method, Request, Uri};
use serde_json::{Map, Value};

use crate::{
    bounds::{self, Rate},
    call::{Call, Caller, caller, collect},
    enums,
    guests::Guests,
    needs::{self, Needed},
    reply::{self, Reply},
    request::{ByteBody, Erased, JSON_BYTES_MAX, address_of, require_json},
    restricted::Restricted,
};

/// The largest JSON body of the few endpoints that carry many keys at once.
pub const KEYS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Changes a body before it becomes a typed request: what the library's type does not know, or asks for
/// although the specification does not.
pub(crate) type Prepare = fn(&mut Map<String, Value>);

/// In the extensions of a request: how its body is prepared.
#[derive(Clone, Copy)]
struct Prepared(Prepare);

/// One endpoint.
#[derive(Clone)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path with `{names}` for arguments.
    pub path: String,
    /// The endpoint's name in metrics and logs: its newest path.
    pub name: &'static str,
    /// In what class its requests are counted, if they are.
    pub rate: Option<Rate>,
    /// What its answer needs.
    pub need: Need,
    /// Whether guests may call it.
    pub(crate) guests: Guests,
    /// Who may not call it.
    pub(crate) restricted: Restricted,
    /// Runs it.
    pub run: Erased,
}

/// A request the server can read whose caller it can find out.
pub trait Endpoint: IncomingRequest + Metadata<Authentication: Caller> + Send + 'static {}

impl<R: IncomingRequest + Metadata<Authentication: Caller> + Send + 'static> Endpoint for R {}

/// What an endpoint is told about its caller.
pub type Who<R> = <<R as Metadata>::Authentication as Caller>::Who;

/// An asynchronous function that answers the requests of one endpoint.
pub trait Handler<R: Endpoint, Answer>: Send + Sync + Copy + 'static {
    /// Answers one request.
    fn call(self, call: Call<R, Who<R>>) -> impl Future<Output = Result<Answer>> + Send + 'static;
}

impl<R, Answer, F, Fut> Handler<R, Answer> for F
where
    R: Endpoint,
    F: Fn(Call<R, Who<R>>) -> Fut + Send + Sync + Copy + 'static,
    Fut: Future<Output = Result<Answer>> + Send + 'static,
{
    fn call(self, call: Call<R, Who<R>>) -> impl Future<Output = Result<Answer>> + Send + 'static {
        self(call)
    }
}

/// What a handler answers, on its way to a reply. A type is one kind of answer.
trait IntoReply<Kind> {
    /// Makes the reply.
    ///
    /// # Errors
    /// When the answer cannot be rendered.
    fn into_reply(self) -> Result<Reply>;
}

/// Answers in the library's types.
enum Typed {}
/// Answers in JSON, for where the library's type would say something else than the specification.
enum Json {}
/// Answers that are whole replies.
enum Rendered {}

impl<T: OutgoingResponse> IntoReply<Typed> for T {
    fn into_reply(self) -> Result<Reply> {
        let response = self.try_into_http_response::<BytesMut>();
        let response = response.map_err(|error| Error::internal("render the response", error))?;
        Ok(response.map(|body| reply::full(body.freeze())))
    }
}

impl IntoReply<Json> for Value {
    fn into_reply(self) -> Result<Reply> {
        Ok(reply::ok(&self))
    }
}

impl IntoReply<Rendered> for Reply {
    fn into_reply(self) -> Result<Reply> {
        Ok(self)
    }
}

/// The endpoints mounted so far.
#[derive(Default)]
pub struct Table {
    /// Every route, in the order of mounting.
    pub routes: Vec<Route>,
}

impl Table {
    /// Mounts a typed endpoint at all paths its type knows.
    pub fn add<R, H>(&mut self, handler: H) -> &mut Self
    where
        R: Endpoint,
        H: Handler<R, R::OutgoingResponse>,
    {
        self.add_limited::<R, H>(JSON_BYTES_MAX, handler)
    }

    /// Mounts a typed endpoint whose body may have `limit` bytes.
    pub fn add_limited<R, H>(&mut self, limit: usize, handler: H) -> &mut Self
    where
        R: Endpoint,
        H: Handler<R, R::OutgoingResponse>,
    {
        self.mount_everywhere::<R>(endpoint::<R, H, _, Typed>(limit, handler))
    }

    /// Mounts a typed endpoint whose body is prepared first. The handler finds it as it came in the call.
    pub(crate) fn add_prepared<R, H>(&mut self, prepare: Prepare, handler: H) -> &mut Self
    where
        R: Endpoint,
        H: Handler<R, R::OutgoingResponse>,
    {
        let run = endpoint::<R, H, _, Typed>(JSON_BYTES_MAX, handler);
        self.mount_everywhere::<R>(Arc::new(move |services, mut request, args| {
            request.extensions_mut().insert(Prepared(prepare));
            run(services, request, args)
        }))
    }

    /// Mounts a typed endpoint that asks who the user is once more. The handler reads `auth` from the
    /// body as it came, for the library's type knows less of it than the specification.
    pub(crate) fn add_guarded<R, H>(&mut self, handler: H) -> &mut Self
    where
        R: Endpoint,
        H: Handler<R, R::OutgoingResponse>,
    {
        self.add_prepared::<R, H>(|body| drop(body.remove("auth")), handler)
    }

    /// Mounts an endpoint with a typed request whose answer the handler writes as JSON itself, for
    /// where the library's type would say something else than the specification.
    pub fn add_json<R, H>(&mut self, handler: H) -> &mut Self
    where
        R: Endpoint,
        H: Handler<R, serde_json::Value>,
    {
        self.mount_everywhere::<R>(endpoint::<R, H, _, Json>(JSON_BYTES_MAX, handler))
    }

    /// Mounts such an endpoint at one further path.
    pub fn add_json_at<R, H>(&mut self, path: &'static str, handler: H) -> &mut Self
    where
        R: Endpoint,
        H: Handler<R, serde_json::Value>,
    {
        self.push(R::METHOD, path, path, endpoint::<R, H, _, Json>(JSON_BYTES_MAX, handler));
        self
    }

    /// Mounts such an endpoint without the parameters of its query that have no value, where the
    /// library's type would call them malformed.
    pub(crate) fn add_json_without_empty<R, H>(&mut self, handler: H) -> &mut Self
    where
        R: Endpoint,
        H: Handler<R, serde_json::Value>,
    {
        let run = endpoint::<R, H, _, Json>(JSON_BYTES_MAX, handler);
        self.mount_everywhere::<R>(Arc::new(move |services, mut request, args| {
            if let Some(uri) = without_empty(request.uri()) {
                *request.uri_mut() = uri;
            }
            run(services, request, args)
        }))
    }

    /// Mounts an endpoint with a typed request whose handler renders the whole answer, for answers
    /// that are large and often made.
    pub fn add_rendered<R, H>(&mut self, handler: H) -> &mut Self
    where
        R: Endpoint,
        H: Handler<R, Reply>,
    {
        let run = endpoint::<R, H, _, Rendered>(JSON_BYTES_MAX, handler);
        self.mount_everywhere::<R>(run)
    }

    /// Mounts a handler at all paths of a typed request.
    pub(crate) fn mount_everywhere<R: IncomingRequest>(&mut self, run: Erased) -> &mut Self {
        let paths: Vec<&'static str> = R::PATH_BUILDER.all_paths().collect();
        let name = paths.last().copied().unwrap_or("?");
        for path in paths {
            self.push(R::METHOD, path, name, Arc::clone(&run));
        }
        self
    }

    /// Every route comes in here.
    pub(crate) fn push(
        &mut self,
        method: Method,
        path: &'static str,
        name: &'static str,
        run: Erased,
    ) {
        let rate = bounds::of(&method, path).map(|bounds| bounds.rate);
        let need = needs::of(&method, path);
        let (guests, restricted) = (Guests::at(&method, path), Restricted::at(&method, path));
        let path = path.to_owned();
        self.routes.push(Route { method, path, name, rate, need, guests, restricted, run });
    }

    /// Mounts a typed endpoint at one further path, for what its type does not list.
    pub fn add_at<R, H>(&mut self, path: &'static str, handler: H) -> &mut Self
    where
        R: Endpoint,
        H: Handler<R, R::OutgoingResponse>,
    {
        let run = endpoint::<R, H, _, Typed>(JSON_BYTES_MAX, handler);
        self.push(R::METHOD, path, path, run);
        self
    }

    /// Mounts a typed endpoint whose path ends with a transaction id by POST and without one, at one path:
    /// every request is a new one. The handler finds an id without characters.
    pub(crate) fn add_without_txn<R, H>(&mut self, path: &'static str, handler: H) -> &mut Self
    where
        R: Endpoint,
        H: Handler<R, R::OutgoingResponse>,
    {
        let run = endpoint::<R, H, _, Typed>(JSON_BYTES_MAX, handler);
        let run: Erased = Arc::new(move |services, mut request, mut args| {
            *request.method_mut() = R::METHOD;
            args.push(String::new());
            run(services, request, args)
        });
        self.push(Method::POST, path, path, run);
        self
    }

    /// Mounts a handler that reads the request and writes the answer itself: streams, and answers
    /// too hot for typed JSON.
    pub fn add_raw<F, Fut>(&mut self, method: Method, path: &'static str, handler: F) -> &mut Self
    where
        F: Fn(Arc<Services>, Request<ByteBody>, Vec<String>) -> Fut + Send + Sync + Copy + 'static,
        Fut: Future<Output = Result<Reply>> + Send + 'static,
    {
        let run = raw(handler);
        self.push(method, path, path, run);
        self
    }

    /// Mounts such a handler at all paths of a typed request.
    pub fn add_raw_for<R, F, Fut>(&mut self, handler: F) -> &mut Self
    where
        R: IncomingRequest,
        F: Fn(Arc<Services>, Request<ByteBody>, Vec<String>) -> Fut + Send + Sync + Copy + 'static,
        Fut: Future<Output = Result<Reply>> + Send + 'static,
    {
        self.mount_everywhere::<R>(raw(handler))
    }
}

fn raw<F, Fut>(handler: F) -> Erased
where
    F: Fn(Arc<Services>, Request<ByteBody>, Vec<String>) -> Fut + Send + Sync + Copy + 'static,
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    Arc::new(move |services, request, args| {
        let answer = handler(services, request, args);
        Box::pin(async move { answer.await.unwrap_or_else(|error| reply::error(&error)) })
    })
}

/// Returns an address without the parameters that have no value; `None` when all have one.
fn without_empty(uri: &Uri) -> Option<Uri> {
    let query = uri.query()?;
    let is_empty = |pair: &&str| pair.ends_with('=') || !pair.contains('=');
    if !query.split('&').any(|pair| is_empty(&pair)) {
        return None;
    }
    let left: Vec<&str> = query.split('&').filter(|pair| !is_empty(pair)).collect();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = format!("{}?{}", uri.path(), left.join("&")).parse().ok();
    Uri::from_parts(parts).ok()
}

/// Makes an endpoint of a handler: decodes the request, and makes a reply of the answer.
fn endpoint<R, H, Answer, Kind>(limit: usize, handler: H) -> Erased
where
    R: Endpoint,
    H: Handler<R, Answer>,
    Answer: IntoReply<Kind>,
{
    Arc::new(move |services, request, args| {
        Box::pin(async move {
            let answered = async {
                let call = Box::pin(decode::<R>(services, request, &args, limit)).await?;
                handler.call(call).await?.into_reply()
            };
            answered.await.unwrap_or_else(|error| reply::error(&error))
        })
    })
}

/// Authenticates, then collects and decodes the request: a stranger's body is not even read.
///
/// # Errors
/// The error of the missing piece: no token, no JSON, a missing or bad parameter.
pub(crate) async fn decode<R: Endpoint>(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: &[String],
    limit: usize,
) -> Result<Call<R, Who<R>>> {
    let address = address_of(request.extensions());
    let (who, payer) = caller::<R::Authentication, _>(&services, &request).await?;
    bounds::admit(&services, request.extensions(), R::Authentication::user(&who))?;
    let path = R::PATH_BUILDER.all_paths().last().unwrap_or_default();
    enums::check_arguments(request.method(), path, args)?;
    let (parts, body) = request.into_parts();
    let body = collect(&services, payer, body, limit).await?;
    let needed = Needed::of(&parts.extensions);
    needed.admit(&services, payer).await?;
    let has_body = parts.method != Method::GET && parts.method != Method::HEAD;
    let body = if has_body && body.is_empty() { Bytes::from_static(b"{}") } else { body };
    if has_body {
        require_json(&body)?;
        enums::check_body(&parts.method, path, &body)?;
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let prepared = match parts.extensions.get::<Prepared>() {
        Some(Prepared(prepare)) if has_body => Some(prepared(&body, *prepare)?),
        _ => None,
    };
    let typed = prepared.as_deref().unwrap_or(&body);
    let request = R::try_from_http_request(Request::from_parts(parts, typed), &args)
        .map_err(|error| malformed(&error))?;
    Ok(Call { services, who, request, address, body, needed })
}

fn prepared(body: &[u8], prepare: Prepare) -> Result<Vec<u8>, MatrixError> {
    let malformed = |error: serde_json::Error| MatrixError::bad_json(error.to_string());
    let mut body = serde_json::from_slice(body).map_err(malformed)?;
    prepare(&mut body);
    serde_json::to_vec(&body).map_err(malformed)
}

/// Turns a decoding failure into the specification's code for it.
pub fn malformed(error: &FromHttpRequestError) -> MatrixError {
    let FromHttpRequestError::Deserialization(cause) = error else {
        return MatrixError::method_not_allowed(error.to_string());
    };
    let text = cause.to_string();
    match cause {
        DeserializationError::Json(json) if json.is_syntax() || json.is_eof() => {
            MatrixError::not_json(text)
        }
        DeserializationError::Json(_) if text.starts_with("missing field") => {
            MatrixError::new(400, "M_BAD_JSON", text)
        }
        DeserializationError::Json(_) | DeserializationError::Utf8(_) => {
            MatrixError::bad_json(text)
        }
        DeserializationError::Query(_) if text.contains("missing field") => {
            MatrixError::missing_param(text)
        }
        _ => MatrixError::invalid_param(text),
    }
}

//! Answers: the one place that turns a service's error into HTTP.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use colonnade_model::MatrixError;
use colonnade_rooms::Error;
use colonnade_users::answers::Reserved;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};

/// The body of an answer.
#[derive(Debug)]
pub enum ReplyBody {
    /// All of it. What was set aside for it goes with its bytes.
    Whole(Bytes),
    /// A piece at a time.
    Streamed {
        /// The pieces.
        body: UnsyncBoxBody<Bytes, std::io::Error>,
        /// What was set aside to make them.
        reserved: Option<Reserved>,
    },
}

/// An answer on its way out.
pub type Reply = Response<ReplyBody>;

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Streamed { body, .. } => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streamed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed { body, .. } => body.size_hint(),
        }
    }
}

/// Wraps bytes as a body.
pub fn full(bytes: impl Into<Bytes>) -> ReplyBody {
    ReplyBody::Whole(bytes.into())
}

/// Wraps a stream of pieces as a body.
pub fn streamed<B>(body: B) -> ReplyBody
where
    B: Body<Data = Bytes, Error = std::io::Error> + Send + 'static,
{
    ReplyBody::Streamed { body: body.boxed_unsync(), reserved: None }
}

/// Answers with JSON.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    json_body(status, full(body))
}

/// Answers with a body that is JSON.
pub fn json_body(status: StatusCode, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}

/// Answers 200 with JSON.
pub fn ok<T: serde::Serialize>(body: &T) -> Reply {
    match serde_json::to_vec(body) {
        Ok(body) => json(StatusCode::OK, body),
        Err(cause) => error(&Error::internal("render the response", cause)),
    }
}

/// Answers with an error. Faults of ours are logged here, once, with their whole chain.
pub fn error(error: &Error) -> Reply {
    match error {
        Error::Client(client) => matrix_error(client),
        Error::UserInteractive(body) => json(StatusCode::UNAUTHORIZED, body.to_string()),
        Error::Internal { .. } => {
            log(error);
            matrix_error(&MatrixError::internal(
                "something broke on this server; its log says what",
            ))
        }
    }
}

/// Logs a fault of ours with its whole chain.
pub(crate) fn log(error: &Error) {
    let Error::Internal { doing, cause } = error else { return };
    let mut chain = cause.to_string();
    let mut source = cause.source();
    while let Some(deeper) = source {
        chain = format!("{chain}: {deeper}");
        source = deeper.source();
    }
    tracing::error!(cause = %chain, "cannot {doing}");
}

/// Answers with an error in the specification's shape.
pub fn matrix_error(error: &MatrixError) -> Reply {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = json(status, error.to_json().to_string());
    if let Some(retry_ms) = error.extra.get("retry_after_ms").and_then(|ms| ms.as_u64()) {
        let seconds = HeaderValue::from(retry_ms.div_ceil(1_000));
        reply.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    reply
}

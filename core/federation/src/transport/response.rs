//! An answer of another server: its head, and a body that is bounded in bytes and in time, whole or a piece
//! at a time.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::{Instant, Sleep};

use super::error::TransportError;

/// The longest pause in an answer: less would cut off who computes while it sends.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What is read of an error, in bytes: a code and a sentence.
const ERROR_BYTES_MAX: u64 = 64 * 1024;
/// What is kept of its sentence, in characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// An answer whose status says success.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: ResponseBody,
}

impl Response {
    /// Takes an answer of which at most `bytes_max` bytes are taken, until `deadline`.
    pub(super) fn new(answer: http::Response<Incoming>, bytes_max: u64, deadline: Instant) -> Self {
        let (parts, body) = answer.into_parts();
        let body = ResponseBody::new(body, bytes_max, deadline);
        Self { status: parts.status, headers: parts.headers, body }
    }

    /// Returns the body, a piece at a time.
    pub fn into_body(self) -> ResponseBody {
        self.body
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// [`TransportError::TooLarge`], [`TransportError::TimedOut`], [`TransportError::NotReached`] when the
    /// connection breaks.
    pub async fn bytes(self) -> Result<Bytes, TransportError> {
        let mut body = self.body;
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Ok(piece) = frame?.into_data() {
                whole.extend_from_slice(&piece);
            }
        }
        Ok(whole.freeze())
    }

    /// Reads the whole body as JSON.
    ///
    /// # Errors
    /// As [`Response::bytes`]; [`TransportError::Malformed`].
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, TransportError> {
        let body = self.bytes().await?;
        serde_json::from_slice(&body).map_err(|error| TransportError::Malformed(error.to_string()))
    }

    /// Returns the error that an answer of another status is.
    pub(super) async fn into_error(mut self) -> TransportError {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct ErrorBody {
            errcode: Option<String>,
            error: Option<String>,
            room_version: Option<String>,
            retry_after_ms: Option<u64>,
        }
        let status = self.status.as_u16();
        let seconds = self.headers.get(header::RETRY_AFTER);
        let seconds = seconds.and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
        let location = self.headers.get(header::LOCATION);
        let location = location.and_then(|location| location.to_str().ok()).map(str::to_owned);
        self.body.bytes_left = self.body.bytes_left.min(ERROR_BYTES_MAX);
        // Whoever answers with a page of HTML says the status alone.
        let told: ErrorBody = self.json().await.unwrap_or_default();
        let message = told.error.unwrap_or_default().chars().take(MESSAGE_CHARS_MAX).collect();
        let later = |seconds: u64| seconds.saturating_mul(1_000);
        let retry_after_ms = told.retry_after_ms.or(seconds.map(later));
        let room_version = told.room_version.filter(|version| version.len() <= MESSAGE_CHARS_MAX);
        let errcode = told.errcode;
        TransportError::Status { status, errcode, message, room_version, retry_after_ms, location }
    }
}

/// The body of an answer. It ends with an error when it grows too large, pauses too long or takes too long.
#[derive(Debug)]
pub struct ResponseBody {
    body: Incoming,
    bytes_max: u64,
    bytes_left: u64,
    deadline: Instant,
    pause: Pin<Box<Sleep>>,
}

impl ResponseBody {
    fn new(body: Incoming, bytes_max: u64, deadline: Instant) -> Self {
        let first = deadline.min(Instant::now() + PAUSE_MAX);
        let pause = Box::pin(tokio::time::sleep_until(first));
        Self { body, bytes_max, bytes_left: bytes_max, deadline, pause }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        let this = &mut *self;
        let too_large = TransportError::TooLarge { bytes_max: this.bytes_max };
        if this.body.size_hint().lower() > this.bytes_left {
            return Poll::Ready(Some(Err(too_large)));
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            let Some(frame) = frame else { return Poll::Ready(None) };
            let broken = |error: hyper::Error| TransportError::NotReached {
                why: format!("the answer broke off: {error}"),
                until_ms: None,
            };
            let frame = frame.map_err(broken)?;
            let bytes = frame.data_ref().map_or(0, |piece| piece.len() as u64);
            let Some(left) = this.bytes_left.checked_sub(bytes) else {
                return Poll::Ready(Some(Err(too_large)));
            };
            this.bytes_left = left;
            this.pause.as_mut().reset(this.deadline.min(Instant::now() + PAUSE_MAX));
            if Instant::now() >= this.deadline {
                return Poll::Ready(Some(Err(TransportError::TimedOut)));
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        this.pause.as_mut().poll(cx).map(|()| Some(Err(TransportError::TimedOut)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

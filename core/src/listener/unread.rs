//! Requests that are answered before their body was read to its end: a wrong token, a limit, an unknown
//! path. The connection cannot carry another request then, and says so in the answer
//! (`Connection: close`); otherwise who sent the request would use it again, and lose the next one.
//! Until it has seen that, what it still sends is read and thrown away for a while: closing over
//! unread bytes is a reset, which may take the answer with it (RFC 9112 §9.6).

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use colonnade_api::{ByteBody, Reply};
use futures_util::FutureExt as _;
use http::{Request, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// So much of a body that has come already is read to keep the connection: more than most JSON has.
const REST_BYTES_MAX: usize = 64 * 1024;
/// How often the connection gets a turn to hand over what has come; it needs one for each piece.
const TURNS_MAX: usize = 16;
/// How long a connection lingers for who still sends: a few round trips.
const LINGER: Duration = Duration::from_secs(2);
/// How much it takes meanwhile; who sends more has not looked for an answer.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Put into an answer's extensions: the request's body was not read to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unread;

/// What is left of a body when its endpoint has let go of it.
pub(crate) struct Rest(Option<Arc<Shared>>);

struct Shared {
    /// Whoever sends it asked first, and sends nothing until somebody reads (`Expect: 100-continue`).
    asked_first: bool,
    ended: AtomicBool,
    left: Mutex<Option<ByteBody>>,
}

/// Keeps an eye on a request's body.
pub(crate) fn watch(request: Request<ByteBody>) -> (Request<ByteBody>, Rest) {
    if request.body().is_end_stream() {
        return (request, Rest(None));
    }
    let asked_first = request.headers().contains_key(header::EXPECT);
    let shared = Shared { asked_first, ended: AtomicBool::new(false), left: Mutex::default() };
    let shared = Arc::new(shared);
    let watched = |body| Watched { body: Some(body), shared: Arc::clone(&shared) }.boxed_unsync();
    (request.map(watched), Rest(Some(shared)))
}

impl Rest {
    /// Marks the answer if the body has not been read to its end, and cannot be without waiting.
    pub(crate) async fn mark(self, reply: &mut Reply) {
        let Some(shared) = self.0 else { return };
        if shared.ended.load(Ordering::Acquire) {
            return;
        }
        // Whoever still holds it has not read it, either.
        let left = shared.left.lock().take();
        let ended = match left {
            Some(body) if !shared.asked_first => ends_soon(body).await,
            Some(_) | None => false,
        };
        if !ended {
            reply.extensions_mut().insert(Unread);
        }
    }
}

/// Reads what has come of a body; says whether that was the rest of it.
async fn ends_soon(mut body: ByteBody) -> bool {
    let mut bytes = 0;
    for _ in 0..TURNS_MAX {
        while let Some(frame) = body.frame().now_or_never() {
            match frame {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
            }
            if bytes > REST_BYTES_MAX {
                return false;
            }
        }
        // The task that reads the connection is this one.
        tokio::task::yield_now().await;
    }
    body.is_end_stream()
}

/// A body that leaves behind what was not read of it.
struct Watched {
    body: Option<ByteBody>,
    shared: Arc<Shared>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if frame.is_none() || self.is_end_stream() {
            self.shared.ended.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        *self.shared.left.lock() = self.body.take();
    }
}

/// A connection that lingers at its end if asked to.
pub(crate) struct Lingering<S> {
    stream: S,
    lingers: Arc<AtomicBool>,
    state: State,
}

/// How far its end has come.
enum State {
    Open,
    Throws { away: usize, until: Pin<Box<Sleep>> },
    Closed,
}

impl<S> Lingering<S> {
    /// One that looks at `lingers` at its end.
    pub(crate) fn new(stream: S, lingers: Arc<AtomicBool>) -> Self {
        Self { stream, lingers, state: State::Open }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::Open => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                    this.state = match this.lingers.load(Ordering::Acquire) {
                        true => {
                            let until = Box::pin(tokio::time::sleep(LINGER));
                            State::Throws { away: 0, until }
                        }
                        false => State::Closed,
                    };
                }
                State::Throws { away, until } => {
                    if until.as_mut().poll(cx).is_ready() || *away > LINGER_BYTES_MAX {
                        this.state = State::Closed;
                        continue;
                    }
                    let mut scrap = [std::mem::MaybeUninit::uninit(); 8 * 1024];
                    let mut scrap = ReadBuf::uninit(&mut scrap);
                    match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut scrap)) {
                        Ok(()) if !scrap.filled().is_empty() => *away += scrap.filled().len(),
                        _ => this.state = State::Closed,
                    }
                }
            }
        }
    }
}

//! One request over HTTP/2, from its head to the end of its answer. What is decided and how a worker's
//! answer is understood is the same as on HTTP/1 (`pipeline`, `response_transfer.rs`); here is how streams are read and
//! written, and how they are slowed down: by their windows.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tokio::io::AsyncWrite;

use super::client::Shared;
use super::head::StreamHead;
use crate::metrics::{Attempt, Refused};
use crate::pipeline::reply::Reply;
use crate::pipeline::{
    Answer, Ctx, Disposition, Ended, FileAnswer, Gateway, REFUSED_DRAIN, REFUSED_DRAIN_BYTES_MAX,
};
use crate::proxy::attempt::unless_marked_down;
use crate::proxy::compression::Compressor;
use crate::proxy::forward::{Attempted, ClientSide, forward};
use crate::proxy::request_transfer::RequestTransfer;
use crate::proxy::response;
use crate::proxy::response_transfer::{Listener, Outcome, ResponseTransfer, Sink, Waiting};
use crate::proxy::timer::Timer;
use crate::routing::head::Head;
use crate::upstream::idle::poll_read_with;
use crate::upstream::transport::Plain;
use colonnade_http1::{ResponseHead, Writing};

/// How much is read from a worker at once.
const READ_BYTES: usize = 16 << 10;

/// No more is read from a worker while so much waits for the client's window.
const PENDING_MAX: usize = 16 << 10;

/// Serves one request.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    shared: Arc<Shared>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    let mut client = Client { respond, send: None, out: BytesMut::new(), closed: false };
    let head = match StreamHead::new(parts, body.is_end_stream()) {
        Ok(head) => head,
        Err(reply) => {
            gateway.metrics.refused(Refused::of_head(reply));
            let body = reply.body();
            let headers = reply.headers(body.len(), true);
            client.begin(reply.status, false, |put| {
                headers.iter().for_each(|(name, value)| put(name, value.as_bytes()));
            });
            client.out.extend_from_slice(&body);
            let _gone = client.drain(LAST_WORD, true).await;
            return;
        }
    };
    let mut ctx = gateway.begin(&head, shared.peer, shared.tls);
    let mut turn = Handler { gateway: &gateway, head: &head, client, body };
    let ended = turn.serve(&mut ctx).await;
    if ended.status == 0 {
        shared.abandon();
    }
    gateway.end(&head, &mut ctx, ended);
}

/// How long a refusal may take to leave.
const LAST_WORD: Duration = Duration::from_secs(2);

/// The client's side of a stream.
struct Client {
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    /// What waits for the stream's window.
    out: BytesMut,
    closed: bool,
}

impl Client {
    /// Sends a head, with the headers that `fill` gives; `ends` says that no body follows.
    fn begin(&mut self, status: u16, ends: bool, fill: impl FnOnce(&mut dyn FnMut(&str, &[u8]))) {
        self.closed = ends;
        // A client that is gone is noticed where the stream is looked at.
        self.send = self.respond.send_response(head(status, fill), ends).ok();
    }

    /// Sends the head of an interim answer.
    fn hint(&mut self, status: u16, fill: impl FnOnce(&mut dyn FnMut(&str, &[u8]))) {
        let _gone = self.respond.send_informational(head(status, fill));
    }

    /// Sends what waits, as the window allows; and then the end, if this is it.
    fn poll_drain(&mut self, cx: &mut Context<'_>, end: bool) -> Poll<Result<(), h2::Error>> {
        let Some(send) = &mut self.send else {
            return Poll::Ready(Err(Reason::CANCEL.into()));
        };
        while !self.out.is_empty() {
            send.reserve_capacity(self.out.len());
            while send.capacity() == 0 {
                match ready!(send.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(error)),
                    None => return Poll::Ready(Err(Reason::CANCEL.into())),
                }
            }
            let piece = self.out.split_to(send.capacity().min(self.out.len())).freeze();
            let last = end && self.out.is_empty();
            self.closed |= last;
            send.send_data(piece, last)?;
        }
        if end && !self.closed {
            self.closed = true;
            send.send_data(Bytes::new(), true)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what waits, as long as the client takes some of it within `patience`.
    async fn drain(&mut self, patience: Duration, end: bool) -> Result<(), h2::Error> {
        let mut timer = Timer::new(patience);
        let mut waits = self.out.len();
        std::future::poll_fn(|cx| {
            if let Poll::Ready(drained) = self.poll_drain(cx, end) {
                return Poll::Ready(drained);
            }
            if self.out.len() != waits {
                waits = self.out.len();
                timer.set(patience);
            }
            ready!(timer.poll(cx));
            Poll::Ready(Err(Reason::CANCEL.into()))
        })
        .await
    }

    /// Ready when the client has given the stream up.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.send {
            Some(send) => send.poll_reset(cx).map(|_| ()),
            None => self.respond.poll_reset(cx).map(|_| ()),
        }
    }

    /// Ends the stream so that what was sent is not taken for the whole.
    fn cut(&mut self) {
        match &mut self.send {
            Some(send) => send.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }
}

/// A head with the headers that `fill` gives.
fn head(status: u16, fill: impl FnOnce(&mut dyn FnMut(&str, &[u8]))) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let map = response.headers_mut();
    map.reserve(16);
    fill(&mut |name, value| {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    });
    response
}

/// One request.
struct Handler<'t> {
    gateway: &'t Gateway,
    head: &'t StreamHead,
    client: Client,
    body: RecvStream,
}

impl Handler<'_> {
    async fn serve(&mut self, ctx: &mut Ctx) -> Ended {
        match self.gateway.admit(self.head, ctx).await {
            Disposition::Forward => self.forward(ctx).await,
            Disposition::Here(answer) => self.answer(ctx, answer).await,
            Disposition::File(answer) => Box::pin(self.answer_file(ctx, answer)).await,
            Disposition::Cut(reply) => self.answer(ctx, Answer::of(reply, ctx)).await,
        }
    }

    /// Tries workers until one has answered.
    async fn forward(&mut self, ctx: &mut Ctx) -> Ended {
        let share = self.gateway.bodies.share(ctx.live.config.limits.kept_body_bytes);
        let up = self.head.upload(ctx, share);
        let (gateway, head) = (self.gateway, self.head);
        forward(self, gateway, head, ctx, up).await
    }

    /// Answers here.
    async fn answer(&mut self, ctx: &Ctx, answer: Answer) -> Ended {
        let bodiless = self.head.method() == "HEAD" || answer.body.is_empty();
        self.client.begin(answer.status, bodiless, |put| {
            answer.headers.iter().for_each(|(name, value)| put(name, value.as_bytes()));
        });
        let mut ended = Ended { status: answer.status, bytes: 0, attempt: Attempt::Abandoned };
        if !bodiless {
            ended.bytes = answer.body.len();
            self.client.out.extend_from_slice(&answer.body);
            let patience = ctx.live.config.limits.body_timeout;
            let _gone = self.client.drain(patience, true).await;
        }
        self.skip_body().await;
        ended
    }

    /// Reads for a while what the client still sends of a body that nobody wants: many take the reset that
    /// would tell them to stop for a failure, and never look at the answer.
    async fn skip_body(&mut self) {
        if self.body.is_end_stream() {
            return;
        }
        let body = &mut self.body;
        let skipping = async {
            let mut left = REFUSED_DRAIN_BYTES_MAX;
            while let Some(Ok(piece)) = body.data().await {
                if piece.len() > left {
                    return;
                }
                left -= piece.len();
                let _gone = body.flow_control().release_capacity(piece.len());
            }
        };
        let _long_enough = tokio::time::timeout(REFUSED_DRAIN, skipping).await;
    }

    /// Answers with a file, as much of it as was announced.
    async fn answer_file(&mut self, ctx: &Ctx, answer: FileAnswer) -> Ended {
        let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let mut shrink = match &answer.file {
            Some(_) if self.gateway.compression => Compressor::new(self.head),
            _ => None,
        };
        let mut rest = answer.file.filter(|(_, length)| *length > 0);
        self.client.begin(answer.status, rest.is_none(), |mut put| match &mut shrink {
            Some(filter) => filter.headers(answer.status, headers, rest.is_none(), &mut put),
            None => headers.for_each(|(name, value)| put(name, value)),
        });
        shrink = shrink.filter(|filter| filter.is_at_work());
        let mut ended = Ended { status: answer.status, bytes: 0, attempt: Attempt::Abandoned };
        while let Some((file, left)) = rest.take() {
            let Ok((file, piece)) = FileAnswer::read(file, left).await else {
                self.client.cut();
                return ended;
            };
            let left = left - piece.len() as u64;
            let shrunk = shrink.as_mut().map(|filter| filter.piece(&piece, left == 0));
            let piece = shrunk.as_deref().unwrap_or(&piece);
            ended.bytes += piece.len();
            self.client.out.extend_from_slice(piece);
            let patience = ctx.live.config.limits.body_timeout;
            if self.client.drain(patience, left == 0).await.is_err() {
                self.client.cut();
                return ended;
            }
            rest = (left > 0).then_some((file, left));
        }
        ended
    }
}

impl ClientSide for Handler<'_> {
    type End = Ended;

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.poll_gone(cx)
    }

    async fn attempt(
        &mut self,
        ctx: &mut Ctx,
        up: &mut RequestTransfer,
        worker: Plain,
        reused: bool,
    ) -> Attempted {
        let down = ResponseTransfer::new(reused, false);
        let mut timer = Timer::new(ctx.patience);
        let timer = &mut timer;
        let mut exchange = Exchange { turn: self, ctx, up, worker, down, timer };
        let member = exchange.ctx.in_flight.as_ref().map(|held| Arc::clone(held.member()));
        let outcome = unless_marked_down(member.as_deref(), |cx| exchange.poll(cx)).await;
        let outcome = outcome.unwrap_or_else(|| exchange.down.broken());
        let Exchange { worker, down, .. } = exchange;
        Attempted { outcome, worker, down }
    }

    async fn refuse(&mut self, ctx: &Ctx, reply: Reply) -> Ended {
        self.answer(ctx, Answer::of(reply, ctx)).await
    }

    /// It never comes to this: an answer that switches protocols is none here.
    async fn switched(&mut self, _ctx: &Ctx, _worker: Plain, down: ResponseTransfer) -> Ended {
        self.cut(Ended { status: down.status, bytes: down.bytes, attempt: Attempt::Broken })
    }

    fn answered(&mut self, ended: Ended, _down: &ResponseTransfer, _is_taken: bool) -> Ended {
        ended
    }

    fn cut(&mut self, ended: Ended) -> Ended {
        self.client.cut();
        ended
    }

    fn gone(&mut self, ended: Ended) -> Ended {
        ended
    }
}

/// An attempt at a worker.
struct Exchange<'e, 't> {
    turn: &'e mut Handler<'t>,
    ctx: &'e mut Ctx,
    up: &'e mut RequestTransfer,
    worker: Plain,
    down: ResponseTransfer,
    timer: &'e mut Timer,
}

impl Exchange<'_, '_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut moved = false;
        loop {
            let step = match self.poll_up(cx).and_then(|went| Ok(went | self.poll_down(cx)?)) {
                Ok(step) => step,
                Err(outcome) => return Poll::Ready(outcome),
            };
            if !step {
                break;
            }
            moved = true;
        }
        if self.turn.client.poll_gone(cx).is_ready() {
            return Poll::Ready(Outcome::Gone);
        }
        let waiting = Waiting::of(self.turn.client.out.len(), self.up);
        self.down.poll_deadline(cx, waiting, moved, (self.ctx, self.timer))
    }

    /// Moves the request.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<bool, Outcome> {
        let mut went = false;
        while self.up.wants_more() {
            let taken = match self.turn.body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    let released = self.turn.body.flow_control().release_capacity(data.len());
                    released.map_err(|_| Outcome::Gone)?;
                    self.up.push(&data, self.ctx)
                }
                Poll::Ready(Some(Err(_))) => return Err(Outcome::Gone),
                Poll::Ready(None) => self.up.finish(),
                Poll::Pending => break,
            };
            taken.map_err(|reply: Reply| self.down.refused(reply))?;
            went = true;
        }
        while !self.up.pending().is_empty() {
            match Pin::new(&mut self.worker).poll_write(cx, self.up.pending()) {
                Poll::Ready(Ok(count)) if count > 0 => self.up.advance(count),
                // It may have answered before it closed.
                Poll::Ready(_) => self.up.refused = true,
                Poll::Pending => break,
            }
            went = true;
        }
        let waits = self.turn.head.expects_continue && self.ctx.body_bytes == 0;
        if waits && self.up.wants_more() && self.down.poll_leave(cx).is_ready() {
            self.turn.client.hint(StatusCode::CONTINUE.as_u16(), |_| {});
        }
        Ok(went)
    }

    /// Moves the answer.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<bool, Outcome> {
        let (client, done) = (&mut self.turn.client, self.down.is_done());
        let mut went = false;
        if !client.out.is_empty() || done {
            let before = client.out.len();
            match client.poll_drain(cx, done) {
                Poll::Ready(Ok(())) if done => return Err(Outcome::Answered),
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(_)) => return Err(Outcome::Gone),
            }
            went |= client.out.len() < before;
        }
        if done || client.out.len() >= PENDING_MAX {
            return Ok(went);
        }
        let Self { turn, ctx, up, worker, down, .. } = self;
        let read = poll_read_with::<_, _, READ_BYTES>(worker, cx, |came| {
            let sink = Http2 { client: &mut turn.client };
            let mut listener = Listener { gateway: turn.gateway, sink, head: turn.head, ctx, up };
            listener.hear(down, came)
        });
        match read {
            Poll::Ready(Ok(heard)) => heard.map(|()| true),
            Poll::Ready(Err(_)) => Err(self.down.broken()),
            Poll::Pending => Ok(went),
        }
    }
}

/// An answer as HTTP/2 writes it.
struct Http2<'c> {
    client: &'c mut Client,
}

impl Sink for Http2<'_> {
    fn takes_interims(&self) -> bool {
        true
    }

    fn may_switch(&self) -> bool {
        false
    }

    fn interim(&mut self, answer: &ResponseHead<'_>) {
        let headers = response::interim_headers(answer);
        self.client.hint(answer.status, |put| headers.for_each(|(name, value)| put(name, value)));
    }

    fn begin(
        &mut self,
        answer: &ResponseHead<'_>,
        ctx: &Ctx,
        down: &mut ResponseTransfer,
        bodiless: bool,
    ) {
        down.writing = Writing::Plain;
        let ends = answer.body(bodiless).is_done();
        let shrink = &mut down.shrink;
        self.client
            .begin(answer.status, ends, |put| response::each(answer, ctx, bodiless, shrink, put));
    }

    fn data(&mut self, data: &[u8], _writing: Writing) {
        self.client.out.extend_from_slice(data);
    }

    fn finish(&mut self, _writing: Writing) {}
}

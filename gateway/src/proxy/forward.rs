//! A request's way through workers until one has answered: once for HTTP/1 and HTTP/2, which differ in how the
//! client is read and written ([`ClientSide`]).

use std::task::{Context, Poll};

use super::request_transfer::RequestTransfer;
use super::response_transfer::{Outcome, ResponseTransfer};
use super::worker_connection::{connect, keep, unless_gone};
use crate::metrics::Attempt;
use crate::pipeline::reply::{self, Reply};
use crate::pipeline::{Ctx, Ended, Gateway};
use crate::routing::head::Head;
use crate::upstream::transport::Plain;

/// What an attempt leaves: how it went, and the worker's side of it.
pub(crate) struct Attempted {
    pub(crate) outcome: Outcome,
    pub(crate) worker: Plain,
    pub(crate) down: ResponseTransfer,
}

/// The client's side of a request.
pub(crate) trait ClientSide: Send {
    /// How its request ends.
    type End: Send;

    /// Ready when the client has given the request up.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Sends the request to a worker and passes the answer on; `reused` says that the connection has carried
    /// another before.
    fn attempt(
        &mut self,
        ctx: &mut Ctx,
        up: &mut RequestTransfer,
        worker: Plain,
        reused: bool,
    ) -> impl Future<Output = Attempted> + Send;

    /// Refuses the request.
    fn refuse(&mut self, ctx: &Ctx, reply: Reply) -> impl Future<Output = Self::End> + Send;

    /// Goes on where client and worker have switched protocols.
    fn switched(
        &mut self,
        ctx: &Ctx,
        worker: Plain,
        down: ResponseTransfer,
    ) -> impl Future<Output = Self::End> + Send;

    /// The client has the whole answer; `is_taken` says whether it has sent the whole request.
    fn answered(&mut self, ended: Ended, down: &ResponseTransfer, is_taken: bool) -> Self::End;

    /// The answer cannot be completed.
    fn cut(&mut self, ended: Ended) -> Self::End;

    /// The client is gone.
    fn gone(&mut self, ended: Ended) -> Self::End;
}

/// Tries workers until one has answered.
pub(crate) async fn forward<C: ClientSide>(
    side: &mut C,
    gateway: &Gateway,
    head: &dyn Head,
    ctx: &mut Ctx,
    mut up: RequestTransfer,
) -> C::End {
    loop {
        let next = gateway.next_worker(ctx);
        let Some(next) = unless_gone(next, |cx| side.poll_gone(cx)).await else {
            return side.gone(Ended::GONE);
        };
        let Some(attempt) = next else {
            return side.refuse(ctx, reply::NO_WORKER).await;
        };
        let connected = connect(gateway, ctx, &attempt).await;
        ctx.in_flight = Some(attempt);
        let Some((worker, reused)) = connected else {
            ctx.end_attempt(gateway, Attempt::NoConnection);
            continue;
        };
        up.rewind(ctx.map_line());
        let attempted = side.attempt(ctx, &mut up, worker, reused).await;
        let replayable = up.is_replayable() && !attempted.down.hinted;
        let failed = match attempted.outcome {
            Outcome::Failed(attempt) => attempt,
            Outcome::Misdirected => Attempt::NotOwner,
            _ => return conclude(side, gateway, ctx, attempted, &up).await,
        };
        if let Err(reply) = ctx.attempt_failed(gateway, head, failed, replayable) {
            return side.refuse(ctx, reply).await;
        }
    }
}

/// Ends a request that has met a worker for the last time.
async fn conclude<C: ClientSide>(
    side: &mut C,
    gateway: &Gateway,
    ctx: &mut Ctx,
    Attempted { outcome, worker, down }: Attempted,
    up: &RequestTransfer,
) -> C::End {
    let ended = |attempt| Ended { status: down.status, bytes: down.bytes, attempt };
    match outcome {
        Outcome::Answered => {
            keep(gateway, ctx, &down, worker);
            side.answered(ended(Attempt::Answered), &down, up.is_taken)
        }
        Outcome::Switched => side.switched(ctx, worker, down).await,
        Outcome::Refused(reply) => side.refuse(ctx, reply).await,
        Outcome::Cut(fault) => side.cut(ended(fault.unwrap_or(Attempt::Answered))),
        _ if down.status == 0 => side.gone(Ended::GONE),
        _ => side.gone(ended(Attempt::Answered)),
    }
}

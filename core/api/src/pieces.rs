//! Answers that list all there is: made and sent a piece at a time, so that the process holds a piece of each
//! and not the whole.

use std::sync::Arc;

use bytes::Bytes;
use colonnade_rooms::{Error, Result};
use colonnade_users::answers::Answers;
use colonnade_views::timeline::{JoinedMembers, MemberProfile, StateEvents};
use futures_util::{
    Stream, StreamExt as _, TryStreamExt as _, future,
    stream::{self, try_unfold},
};
use http::StatusCode;
use http_body::Frame;
use http_body_util::StreamBody;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::reply::{self, Reply};

/// Answers with JSON that has a list in it: what stands before its first element, the elements a piece at a
/// time, with commas between them, and what stands after the last. What fits into one piece is sent whole.
///
/// # Errors
/// When the first piece cannot be read. When a later one cannot, the connection is cut: the client must not
/// take what it has for all there is.
pub(crate) async fn list<S>(
    answers: &Arc<Answers>,
    before: String,
    pieces: S,
    after: &'static str,
) -> Result<Reply>
where
    S: Stream<Item = Result<String>> + Send + 'static,
{
    let pieces = by_turns(Arc::clone(answers), pieces);
    let mut pieces = Box::pin(pieces.try_filter(|piece| future::ready(!piece.is_empty())));
    let first = before + &pieces.try_next().await?.unwrap_or_default();
    let Some(second) = pieces.try_next().await? else {
        return Ok(reply::json(StatusCode::OK, first + after));
    };
    let known = stream::iter([Ok(format!(",{second}"))]);
    let rest = pieces.map_ok(|piece| format!(",{piece}"));
    Ok(sent(first, known.chain(rest).chain(stream::iter([Ok(after.to_owned())]))))
}

/// Answers with JSON that is sent a piece at a time. When one cannot be read, the connection is cut.
pub(crate) fn sent<S>(first: String, rest: S) -> Reply
where
    S: Stream<Item = Result<String>> + Send + 'static,
{
    let all = stream::iter([Ok(first)]).chain(rest);
    let frames = all.map_ok(|piece| Frame::data(Bytes::from(piece))).map_err(|error| {
        reply::log(&error);
        std::io::Error::other("the rest of the answer cannot be read")
    });
    reply::json_body(StatusCode::OK, reply::streamed(StreamBody::new(frames)))
}

/// Makes each piece when it has its turn among those of all answers.
fn by_turns<S>(answers: Arc<Answers>, pieces: S) -> impl Stream<Item = Result<String>> + Send
where
    S: Stream<Item = Result<String>> + Send + 'static,
{
    try_unfold((answers, Box::pin(pieces)), async |(answers, mut pieces)| {
        let turn = answers.piece().await;
        let piece = pieces.try_next().await?;
        drop(turn);
        Ok(piece.map(|piece| (piece, (answers, pieces))))
    })
}

/// Returns the elements of a list of events.
pub(crate) fn events(events: StateEvents) -> impl Stream<Item = Result<String>> + Send {
    try_unfold(events, async |mut events| {
        Ok(events.next().await?.map(|some| (elements(&some), events)))
    })
}

/// Returns the members of an object of who is in a room.
pub(crate) fn members(members: JoinedMembers) -> impl Stream<Item = Result<String>> + Send {
    try_unfold(members, async |mut members| {
        let Some(some) = members.next().await? else { return Ok(None) };
        let some = some.iter().map(member).collect::<Result<Vec<_>>>()?;
        Ok(Some((some.join(","), members)))
    })
}

fn elements(events: &[Box<RawValue>]) -> String {
    let events: Vec<&str> = events.iter().map(|event| event.get()).collect();
    events.join(",")
}

fn member(profile: &MemberProfile) -> Result<String> {
    #[derive(Serialize)]
    struct Member<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        display_name: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        avatar_url: &'a Option<String>,
    }
    let MemberProfile { user_id, display_name, avatar_url } = profile;
    Ok(format!("{}:{}", text(user_id)?, text(&Member { display_name, avatar_url })?))
}

/// Renders a part of an answer.
///
/// # Errors
/// Never for what is text and numbers.
pub(crate) fn text<T: Serialize>(part: &T) -> Result<String> {
    serde_json::to_string(part).map_err(|cause| Error::internal("render the response", cause))
}

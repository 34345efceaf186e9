//! Writes an answer as JSON while it is read, a piece at a time: whoever sends it takes each piece before
//! the next one is made. What fits into one piece is never handed over on the way.

use std::sync::Arc;

use colonnade_model::ruma::RoomId;
use colonnade_rooms::{Error, Result};
use colonnade_users::answers::{Answers, PieceTurn};
use futures_util::{
    Stream, StreamExt as _, TryStreamExt as _, future,
    stream::{self, BoxStream, Peekable},
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::pin::Pin;
use tokio::sync::mpsc;

use super::response::TimelinePart;

/// Bytes of a piece: it ends with the element that reaches them.
const PIECE_BYTES: usize = 256 * 1024;

/// The elements of a list to come: some at a time, and never none.
pub(super) type Elements<'a> = Peekable<BoxStream<'a, Result<Vec<Box<RawValue>>>>>;

/// Makes a list of what is read some elements at a time, maybe none.
pub(super) fn elements<'a>(
    read: impl Stream<Item = Result<Vec<Box<RawValue>>>> + Send + 'a,
) -> Elements<'a> {
    read.try_filter(|some| future::ready(!some.is_empty())).boxed().peekable()
}

/// Makes a list of what is there.
pub(super) fn all<'a>(some: Vec<Box<RawValue>>) -> Elements<'a> {
    elements(stream::iter([Ok(some)]))
}

/// Tells whether there is no element. What cannot be read is found when it is written.
pub(super) async fn is_empty(elements: &mut Elements<'_>) -> bool {
    Pin::new(elements).peek().await.is_none()
}

/// Renders a part of an answer.
///
/// # Errors
/// Never for what is text and numbers.
pub(super) fn text<T: Serialize>(part: &T) -> Result<String> {
    serde_json::to_string(part)
        .map_err(|error| Error::internal("render the answer to a sync", error))
}

/// An answer being written.
pub(super) struct Writer {
    piece: String,
    needs_comma: bool,
    says_something: bool,
    /// The kind of rooms that is being written, `join` say.
    kind: Option<&'static str>,
    answers: Arc<Answers>,
    turn: Option<PieceTurn>,
    /// Has place for one piece.
    pieces: mpsc::Sender<String>,
}

impl Writer {
    /// Begins the object. Hands over pieces to `pieces`, which has place for one.
    pub(super) fn begin(answers: Arc<Answers>, pieces: mpsc::Sender<String>) -> Self {
        let (piece, kind, turn) = ("{".to_owned(), None, None);
        Self { piece, needs_comma: false, says_something: false, kind, answers, turn, pieces }
    }

    /// Waits for a turn to make the next piece.
    pub(super) async fn take_turn(&mut self) {
        self.turn = Some(self.answers.piece().await);
    }

    /// Ends the object: returns the last piece, and whether there is anything in the answer that a client
    /// would want to be woken for.
    pub(super) fn end(mut self) -> (String, bool) {
        self.piece.push('}');
        (self.piece, self.says_something)
    }

    /// Writes a field.
    pub(super) fn field<T: Serialize>(&mut self, name: &str, value: &T) -> Result<()> {
        let value = text(value)?;
        self.name(name);
        self.piece.push_str(&value);
        self.needs_comma = true;
        Ok(())
    }

    /// Writes the fields of an object.
    pub(super) fn fields<T: Serialize>(&mut self, object: &T) -> Result<()> {
        let object = text(object)?;
        self.comma();
        self.piece.push_str(&object["{".len()..object.len() - "}".len()]);
        self.needs_comma = true;
        Ok(())
    }

    /// Writes a field with a list.
    pub(super) async fn list<T: Serialize>(&mut self, name: &str, list: &[T]) -> Result<()> {
        self.open(name, '[');
        for element in list {
            self.element(&text(element)?).await?;
        }
        self.close(']');
        Ok(())
    }

    /// Writes a field with a list of events.
    pub(super) async fn events(&mut self, name: &str, events: Elements<'_>) -> Result<()> {
        self.open(name, '{');
        self.open("events", '[');
        self.elements(events).await?;
        self.close(']');
        self.close('}');
        Ok(())
    }

    /// Writes a field with a list of events that a client wants to be woken for, if there are any.
    pub(super) async fn events_if_any(&mut self, name: &str, mut ones: Elements<'_>) -> Result<()> {
        if is_empty(&mut ones).await {
            return Ok(());
        }
        self.says_something();
        self.events(name, ones).await
    }

    /// Writes a chunk of a timeline.
    pub(super) async fn timeline(&mut self, timeline: TimelinePart) -> Result<()> {
        let TimelinePart { events, limited, prev_batch } = timeline;
        self.open("timeline", '{');
        self.open("events", '[');
        self.elements(all(events)).await?;
        self.close(']');
        self.field("limited", &limited)?;
        if let Some(prev_batch) = prev_batch {
            self.field("prev_batch", &prev_batch)?;
        }
        self.close('}');
        Ok(())
    }

    /// Notes that the answer is not as if nothing had happened.
    pub(super) fn says_something(&mut self) {
        self.says_something = true;
    }

    // === Rooms ===

    /// Begins a room; those of a kind come together.
    pub(super) fn begin_room(&mut self, kind: &'static str, room_id: &RoomId) {
        self.says_something = true;
        match self.kind {
            Some(known) if known == kind => {}
            Some(_) => {
                self.close('}');
                self.open(kind, '{');
            }
            None => {
                self.open("rooms", '{');
                self.open(kind, '{');
            }
        }
        self.kind = Some(kind);
        self.open(room_id.as_str(), '{');
    }

    /// Ends a room.
    pub(super) fn end_room(&mut self) {
        self.close('}');
    }

    /// Ends the rooms, if there were any.
    pub(super) fn end_rooms(&mut self) {
        if self.kind.take().is_some() {
            self.close('}');
            self.close('}');
        }
    }

    // === JSON ===

    fn comma(&mut self) {
        if std::mem::replace(&mut self.needs_comma, false) {
            self.piece.push(',');
        }
    }

    fn name(&mut self, name: &str) {
        self.comma();
        // A string is always JSON.
        self.piece.push_str(&serde_json::Value::from(name).to_string());
        self.piece.push(':');
    }

    /// Opens an object or a list that is a field.
    pub(super) fn open(&mut self, name: &str, bracket: char) {
        self.name(name);
        self.piece.push(bracket);
    }

    /// Opens an object or a list that is an element of a list.
    pub(super) fn open_element(&mut self, bracket: char) {
        self.comma();
        self.piece.push(bracket);
    }

    /// Closes it.
    pub(super) fn close(&mut self, bracket: char) {
        self.piece.push(bracket);
        self.needs_comma = true;
    }

    /// Writes elements into a list that is open.
    pub(super) async fn elements(&mut self, mut elements: Elements<'_>) -> Result<()> {
        while let Some(some) = elements.try_next().await? {
            for element in some {
                self.element(element.get()).await?;
            }
        }
        Ok(())
    }

    /// Writes a field with a list of elements.
    pub(super) async fn elements_of(&mut self, name: &str, elements: Elements<'_>) -> Result<()> {
        self.open(name, '[');
        self.elements(elements).await?;
        self.close(']');
        Ok(())
    }

    /// Writes an element of a list; hands over a piece when there is one.
    async fn element(&mut self, element: &str) -> Result<()> {
        self.comma();
        self.piece.push_str(element);
        self.needs_comma = true;
        if self.piece.len() < PIECE_BYTES {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.turn = None;
        let gone = |error| Error::internal("hand over a piece of an answer", error);
        self.pieces.send(piece).await.map_err(|_| gone(std::io::ErrorKind::BrokenPipe.into()))?;
        // It is taken when there is place for the next.
        let taken = self.pieces.reserve().await;
        drop(taken.map_err(|_| gone(std::io::Error::from(std::io::ErrorKind::BrokenPipe)))?);
        self.take_turn().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    fn writer() -> (Writer, mpsc::Receiver<String>) {
        let (sender, pieces) = mpsc::channel(1);
        (Writer::begin(Answers::new(1024 * 1024), sender), pieces)
    }

    fn room(id: &str) -> colonnade_model::ruma::OwnedRoomId {
        RoomId::parse(id).unwrap()
    }

    #[tokio::test]
    async fn what_is_small_is_one_piece_and_says_whether_it_says_anything() {
        let (mut out, _pieces) = writer();
        out.events_if_any("presence", all(Vec::new())).await.unwrap();
        out.end_rooms();
        out.field("next_batch", &"t").unwrap();
        assert_eq!(out.end(), (r#"{"next_batch":"t"}"#.to_owned(), false));

        let (mut out, _pieces) = writer();
        let one = to_raw_value(&json!({ "n": 1 })).unwrap();
        out.events_if_any("presence", all(vec![one.clone(), one.clone()])).await.unwrap();
        for (kind, id) in [("join", "!a:x"), ("join", "!\"b:x"), ("leave", "!c:x")] {
            out.begin_room(kind, &room(id));
            let events = vec![one.clone()];
            let part = TimelinePart { events, limited: true, prev_batch: Some("p".to_owned()) };
            out.timeline(part).await.unwrap();
            out.events("state", all(Vec::new())).await.unwrap();
            out.end_room();
        }
        out.end_rooms();
        out.list("left", &["a", "b"]).await.unwrap();
        out.field("next_batch", &"t").unwrap();
        let (whole, says_something) = out.end();
        assert!(says_something);
        let timeline = json!({ "events": [{ "n": 1 }], "limited": true, "prev_batch": "p" });
        let part = json!({ "timeline": timeline, "state": { "events": [] } });
        let expected = json!({
            "presence": { "events": [{ "n": 1 }, { "n": 1 }] },
            "rooms": { "join": { "!a:x": part, "!\"b:x": part }, "leave": { "!c:x": part } },
            "left": ["a", "b"],
            "next_batch": "t",
        });
        assert_eq!(serde_json::from_str::<Value>(&whole).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_piece_is_made_when_the_one_before_is_taken() {
        let (mut out, mut pieces) = writer();
        let large = to_raw_value(&"x".repeat(PIECE_BYTES / 2)).unwrap();
        let some = std::sync::atomic::AtomicUsize::new(0);
        let read = stream::iter(0..6).map(|_| {
            some.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(vec![large.clone()])
        });
        let made = || some.load(std::sync::atomic::Ordering::Relaxed);
        let mut writing = Box::pin(out.events("state", elements(read)));
        let mut whole = String::new();
        for n in 1..=3 {
            assert!(future::poll_immediate(&mut writing).await.is_none());
            assert_eq!(made(), 2 * n, "two elements make a piece");
            whole.push_str(&pieces.recv().await.unwrap());
        }
        writing.await.unwrap();
        whole.push_str(&out.end().0);
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(whole["state"]["events"].as_array().unwrap().len(), 6);
    }
}

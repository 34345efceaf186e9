//! Fills the index of words: follows the events stream, a block at a time, and remembers in the
//! database how far it came. One process of a deployment does so, whose duty it is; when that one is
//! gone the next goes on where it ended.

use std::{sync::Arc, time::Duration};

use colonnade_model::stream::{Position, Positions, Stream};
use colonnade_replication::{
    Latest,
    slots::{Duty, Right},
};
use colonnade_rooms::{Context, Result, Rooms};
use colonnade_rules::event::Event;
use colonnade_storage::{
    ownership::pools::BACKGROUND,
    rooms::{events, search as table, search::Word},
};
use serde_json::Value;
use tokio::sync::watch;

/// Events looked at in one commit.
const BLOCK: i64 = 200;
/// How long a search waits for the index to come as far as the stream.
const WAIT: Duration = Duration::from_secs(2);
/// How often a process that does not fill it asks how far it is meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// How often it looks whether it has to, besides every change of the map of slots.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The time before another attempt after the database failed.
const RETRY: Duration = Duration::from_secs(5);
/// Different words of one event that are found; a message has a few dozen.
const WORDS_MAX: usize = 1_000;
/// Characters of a word that count; what is longer is found by its beginning.
const WORD_CHARS_MAX: usize = 64;

/// The parts of events that are searched: the key clients name them by, the event type, the number
/// in the index.
pub(super) const FIELDS: [(&str, &str, i64); 3] = [
    ("content.body", "m.room.message", 0),
    ("content.name", "m.room.name", 1),
    ("content.topic", "m.room.topic", 2),
];

/// The index of words, as far as it is filled.
pub struct WordIndex {
    context: Arc<Context>,
    filled: watch::Receiver<Position>,
}

impl WordIndex {
    /// Starts to follow, as far as the process has `seen` the streams.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start(
        context: Arc<Context>,
        rooms: Rooms,
        seen: Arc<Latest<Positions>>,
    ) -> Result<Self> {
        let upto = table::filled_upto(&context.db).await?;
        let (progress, filled) = watch::channel(upto);
        tokio::spawn(follow(Arc::clone(&context), rooms, (seen, progress)));
        Ok(Self { context, filled })
    }

    /// Waits until everything up to a position is in the index, but not for long.
    pub(super) async fn reached(&self, pos: Position) {
        // Late is better than never: what is missing is found the next time.
        let _ = tokio::time::timeout(WAIT, self.comes_to(pos)).await;
    }

    async fn comes_to(&self, pos: Position) {
        if self.context.slots.right(duty()).is_some() {
            let mut filled = self.filled.clone();
            let _stopped = filled.wait_for(|upto| *upto >= pos).await;
            return;
        }
        while !matches!(table::filled_upto(&self.context.db).await, Ok(upto) if upto >= pos) {
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

/// Whose duty it is to fill the index.
fn duty() -> Duty {
    Duty::of(BACKGROUND, "index_of_words")
}

/// Fills the index until nobody searches any more, whenever that is our duty.
async fn follow(
    context: Arc<Context>,
    rooms: Rooms,
    (seen, progress): (Arc<Latest<Positions>>, watch::Sender<Position>),
) {
    let mut before = None;
    while !progress.is_closed() {
        let epoch = context.slots.map().epoch;
        let right = context.slots.right(duty());
        // What comes after this look wakes us.
        let looked_at = context.streams.position(Stream::Events);
        let filled = fill(&context, &rooms, (before, right), &progress).await;
        before = right;
        match filled {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                // Somebody else may have it now: both look anew.
                before = None;
                context.slots.look_again();
                tracing::warn!(%error, "cannot fill the index of words; it is tried again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        }
        tokio::select! {
            biased;
            _ = seen.when(|upto| upto.get(Stream::Events) > looked_at), if right.is_some() => {}
            _ = context.slots.changed(epoch, LOOK_EVERY) => {}
            () = progress.closed() => return,
        }
    }
}

/// Adds what comes next, if the index is ours to fill; false when there is nothing to do now. `rights`
/// are that of the time before and that of now.
async fn fill(
    context: &Context,
    rooms: &Rooms,
    (before, right): (Option<Right>, Option<Right>),
    progress: &watch::Sender<Position>,
) -> Result<bool> {
    let Some(right) = right else { return Ok(false) };
    if before != Some(right) {
        // Another process was at it meanwhile.
        progress.send_replace(table::filled_upto(&context.db).await?);
    }
    let (from, upto) = (*progress.borrow(), context.streams.position(Stream::Events));
    if from >= upto {
        return Ok(false);
    }
    let reached = block(context, rooms, right, (from, upto)).await?;
    progress.send_replace(reached);
    Ok(true)
}

/// Adds a block of events and returns how far it went.
async fn block(
    context: &Context,
    rooms: &Rooms,
    right: Right,
    (after, upto): (Position, Position),
) -> Result<Position> {
    let rows = events::stream(&context.db, after, upto, BLOCK).await?;
    let reached = match rows.last() {
        Some(last) if rows.len() as i64 == BLOCK => last.pos,
        _ => upto,
    };
    let mut words = Vec::new();
    for row in rows {
        let Some(event) = rooms.event(row.event_nid).await? else { continue };
        if let Some((field, text)) = text_of(&event.event) {
            words.extend(split(&text).into_iter().take(WORDS_MAX).map(|word| Word {
                word,
                room: row.room_nid,
                pos: row.pos,
                field,
                event: row.event_nid,
            }));
        }
    }
    let fill = context.db.write(move |tx| {
        Box::pin(async move {
            right.fence(tx).await?;
            table::fill(tx, words, reached).await
        })
    });
    fill.await?;
    Ok(reached)
}

/// Returns the text of an event that can be searched, and which part that is.
pub(super) fn text_of(event: &Event) -> Option<(i64, String)> {
    let event_type = event.event_type().to_string();
    let (key, _, field) = FIELDS.iter().find(|(_, of, _)| *of == event_type)?;
    let content: Value = event.content_as().ok()?;
    let text = content.get(key.strip_prefix("content.")?)?.as_str()?;
    Some((*field, text.to_owned()))
}

/// Splits text into its words in lower case, each once, in the order of the alphabet.
pub(super) fn split(text: &str) -> Vec<String> {
    let parts = text.split(|letter: char| !letter.is_alphanumeric());
    let mut words: Vec<String> = parts
        .filter(|part| !part.is_empty())
        .map(|part| part.to_lowercase().chars().take(WORD_CHARS_MAX).collect())
        .collect();
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::split;

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        assert_eq!(split("Hello, hello WORLD-42! Ärger"), ["42", "hello", "world", "ärger"]);
        assert_eq!(split("  ...  "), Vec::<String>::new());
        assert_eq!(split(&"x".repeat(100)), ["x".repeat(64)]);
    }
    #[test]
    fn what_can_be_searched_is_the_text_of_messages_names_and_topics() {
        let text = |kind: &str, content| {
            let event = colonnade_testkit_rooms::event(kind, None, content);
            super::text_of(&event).map(|(_, text)| text)
        };
        assert_eq!(text("m.room.message", json!({ "body": "b" })).as_deref(), Some("b"));
        assert_eq!(text("m.room.name", json!({ "name": "n" })).as_deref(), Some("n"));
        assert_eq!(text("m.room.topic", json!({ "topic": "t" })).as_deref(), Some("t"));
        assert_eq!(text("m.room.message", json!({ "body": 5 })), None);
        assert_eq!(text("m.room.topic", json!({ "body": "b" })), None);
        assert_eq!(text("m.room.encrypted", json!({ "body": "b" })), None);
    }
}

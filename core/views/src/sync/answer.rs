//! An answer as its client gets it: what fits into one piece whole, the rest of any other as it is taken.

use std::{pin::Pin, sync::Arc};

use colonnade_rooms::Result;
use colonnade_users::answers::{Answers, Reserved};
use tokio::sync::mpsc;

use super::writer::Writer;

/// Makes an answer: returns its last piece, and whether it says anything a client wants to be woken for.
type Making = Pin<Box<dyn Future<Output = Result<(String, bool)>> + Send>>;

/// The answer to a sync, as JSON.
pub struct SyncAnswer {
    /// Its first piece: all of it if there is no rest.
    pub first: String,
    /// What comes after that.
    pub rest: Option<Rest>,
    /// What was set aside to make it, if anything had to be read.
    pub reserved: Option<Reserved>,
}

impl SyncAnswer {
    /// Makes an answer of which all is there.
    pub(super) fn whole(first: String) -> Self {
        Self { first, rest: None, reserved: None }
    }

    /// Makes the first piece of an answer, which may be all of it. Says, too, whether it says anything:
    /// nothing that has a second piece says nothing.
    pub(super) async fn begun(mut rest: Rest, reserved: Option<Reserved>) -> Result<(Self, bool)> {
        let (first, rest, says_something) = match rest.step().await? {
            Some(Step::Piece(first)) => (first, Some(rest), true),
            Some(Step::Last(first, says_something)) => (first, None, says_something),
            None => (String::new(), None, false),
        };
        Ok((Self { first, rest, reserved }, says_something))
    }

    /// Returns all of it in one piece.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn into_json(self) -> Result<String> {
        let mut json = self.first;
        let mut rest = self.rest;
        while let Some(rest) = &mut rest
            && let Some(piece) = rest.next().await?
        {
            json.push_str(&piece);
        }
        Ok(json)
    }
}

/// The rest of an answer: nothing of it is made before it is asked for.
pub struct Rest {
    pieces: mpsc::Receiver<String>,
    /// `None` at the end, and after an error.
    making: Option<Making>,
}

/// A step on the way to a whole answer.
enum Step {
    /// A piece; there is more.
    Piece(String),
    /// The last piece, and whether the answer says anything.
    Last(String, bool),
}

impl Rest {
    /// Begins with nothing. `making` hands over all pieces but the last through a channel with place for one.
    fn new(pieces: mpsc::Receiver<String>, making: Making) -> Self {
        Self { pieces, making: Some(making) }
    }

    /// Begins an answer that `write` writes as it is asked for. All pieces of one that is large are made by
    /// turns, else those after the first: few answers have a second.
    pub(super) fn written<Writing>(
        answers: &Arc<Answers>,
        is_large: bool,
        write: impl FnOnce(Writer) -> Writing + Send + 'static,
    ) -> Self
    where
        Writing: Future<Output = Result<Writer>> + Send + 'static,
    {
        let (sender, pieces) = mpsc::channel(1);
        let mut out = Writer::begin(Arc::clone(answers), sender);
        let making = async move {
            if is_large {
                out.take_turn().await;
            }
            Ok(write(out).await?.end())
        };
        Self::new(pieces, Box::pin(making))
    }

    /// Makes the next piece.
    async fn step(&mut self) -> Result<Option<Step>> {
        let Some(making) = &mut self.making else { return Ok(None) };
        tokio::select! {
            biased;
            Some(piece) = self.pieces.recv() => Ok(Some(Step::Piece(piece))),
            made = making => {
                self.making = None;
                let (piece, says_something) = made?;
                Ok(Some(Step::Last(piece, says_something)))
            }
        }
    }

    /// Makes the next piece of about 256 KiB; `None` at the end.
    ///
    /// # Errors
    /// When the database fails. The answer is of no use then.
    pub async fn next(&mut self) -> Result<Option<String>> {
        Ok(self.step().await?.map(|step| match step {
            Step::Piece(piece) | Step::Last(piece, _) => piece,
        }))
    }
}

#[cfg(test)]
mod tests {
    use colonnade_rooms::Error;

    use super::*;

    #[tokio::test]
    async fn what_cannot_be_made_is_an_error_and_no_end() {
        let (sender, pieces) = mpsc::channel(1);
        let making = async move {
            sender.send("first".to_owned()).await.unwrap();
            drop(sender.reserve().await.unwrap());
            Err(Error::internal("read the rest", std::io::Error::other("gone")))
        };
        let mut rest = Rest::new(pieces, Box::pin(making));
        assert_eq!(rest.next().await.unwrap().as_deref(), Some("first"));
        rest.next().await.unwrap_err();
        assert_eq!(rest.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn pieces_come_one_after_the_other_and_the_last_one_too() {
        let (sender, pieces) = mpsc::channel(1);
        let making = async move {
            for piece in ["one ", "two "] {
                sender.send(piece.to_owned()).await.unwrap();
                drop(sender.reserve().await.unwrap());
            }
            Ok(("three".to_owned(), true))
        };
        let mut rest = Rest::new(pieces, Box::pin(making));
        let first = rest.next().await.unwrap().unwrap();
        let answer = SyncAnswer { first, rest: Some(rest), reserved: None };
        assert_eq!(answer.into_json().await.unwrap(), "one two three");
    }
}

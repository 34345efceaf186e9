//! Files of the static folder, in pieces, compressed where that is wanted.

use super::{After, Handler};
use crate::metrics::Attempt;
use crate::pipeline::{Ctx, Ended, FileAnswer};
use crate::proxy::compression::Compressor;
use crate::proxy::response::write_head;
use colonnade_http1::AnswerFraming;
use colonnade_http1::{LAST_CHUNK, write_chunk};

impl Handler<'_> {
    /// Answers with a file, as much of it as was announced.
    pub(crate) async fn answer_file(&mut self, ctx: &Ctx, answer: FileAnswer) -> (Ended, After) {
        let mut shrink = match &answer.file {
            Some(_) if self.gateway.compression => Compressor::new(self.head),
            _ => None,
        };
        let last = self.is_last() || self.unread() != Some(0);
        let (chunks, last) = self.begin_file(&answer, last, &mut shrink);
        let mut ended = Ended { status: answer.status, bytes: 0, attempt: Attempt::Abandoned };
        let patience = ctx.live.config.limits.body_timeout;
        let mut rest = answer.file.filter(|(_, length)| *length > 0);
        while let Some((file, left)) = rest.take() {
            let Ok((file, piece)) = FileAnswer::read(file, left).await else {
                return (ended, After::Abort);
            };
            let left = left - piece.len() as u64;
            let shrunk = shrink.as_mut().map(|filter| filter.piece(&piece, left == 0));
            let piece = shrunk.as_deref().unwrap_or(&piece);
            ended.bytes += piece.len();
            match chunks {
                true => write_chunk(&mut self.client.output, piece),
                false => self.client.output.extend_from_slice(piece),
            }
            if self.client.drain(patience).await.is_err() {
                return (ended, After::End);
            }
            rest = (left > 0).then_some((file, left));
        }
        if chunks {
            self.client.output.extend_from_slice(LAST_CHUNK);
        }
        if self.client.drain(patience).await.is_err() {
            return (ended, After::End);
        }
        let after = match last {
            true if self.unread() != Some(0) => After::Linger,
            true => self.ending(),
            false => After::Next,
        };
        (ended, after)
    }

    /// Writes the head; whether the body comes in chunks, and whether the connection ends behind it.
    fn begin_file(
        &mut self,
        answer: &FileAnswer,
        last: bool,
        shrink: &mut Option<Box<Compressor>>,
    ) -> (bool, bool) {
        let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let mut becoming: Vec<(String, Vec<u8>)> = Vec::new();
        let empty = answer.file.as_ref().is_none_or(|(_, length)| *length == 0);
        if let Some(filter) = shrink {
            let mut put = |name: &str, value: &[u8]| becoming.push((name.to_owned(), value.into()));
            filter.headers(answer.status, headers.clone(), empty, &mut put);
        }
        if !shrink.as_ref().is_some_and(|filter| filter.is_at_work()) {
            *shrink = None;
            let manner = self.manner(last);
            write_head(&mut self.client.output, answer.status, headers, manner);
            return (false, last);
        }
        let chunks = self.head.wire.http11;
        if chunks {
            becoming.push(("transfer-encoding".to_owned(), b"chunked".to_vec()));
        }
        let last = last || !chunks;
        let manner = AnswerFraming { last, ..self.manner(last) };
        let headers = becoming.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        write_head(&mut self.client.output, answer.status, headers, manner);
        (chunks, last)
    }
}

//! Finds a request's head in what a client has sent, within its size; whoever reads the connection.

use crate::metrics::Refused;
use crate::pipeline::reply::{self, Reply};
use colonnade_http1::{Scan, Scanner};

/// What is refused before it is a request: the answer, and what is counted.
pub(crate) type NoHead = (Reply, Refused);

/// The search for one head.
#[derive(Debug, Default)]
pub(crate) struct HeadSearch(Scanner);

impl HeadSearch {
    /// Takes the head off the input once it is whole; none while more must come.
    pub(crate) fn find(
        &mut self,
        input: &mut Vec<u8>,
        bytes_max: u64,
    ) -> Option<Result<Vec<u8>, NoHead>> {
        // Empty lines before a request are passed over (RFC 9112 §2.2).
        let empty = input.chunks(2).take_while(|pair| *pair == b"\r\n").count() * 2;
        if empty > 0 {
            input.drain(..empty);
            self.0 = Scanner::default();
        }
        if input.len() < 2 {
            // A lone CR may become an empty line.
            return match input.first() {
                Some(b'\n') => Some(Err((reply::MALFORMED, Refused::Malformed))),
                _ => None,
            };
        }
        let max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        match self.0.scan(input) {
            Scan::End(end) if end <= max => {
                let rest = input.split_off(end);
                let mut head = std::mem::replace(input, rest);
                // What came behind it has left room that is not needed as long as the request takes.
                if !input.is_empty() {
                    head.shrink_to_fit();
                }
                Some(Ok(head))
            }
            Scan::More if input.len() <= max => None,
            Scan::Loose => Some(Err((reply::MALFORMED, Refused::Malformed))),
            _ => Some(Err((reply::HEADER_TOO_LARGE, Refused::HeaderTooLarge))),
        }
    }
}

//! Writing the head of an answer.

/// How the client is sent an answer.
#[derive(Debug, Clone, Copy)]
pub struct AnswerFraming {
    /// Whether the client knows HTTP/1.1.
    pub http11: bool,
    /// Whether this is the connection's last answer.
    pub last: bool,
    /// Whether no body follows, whatever the headers say.
    pub bodiless: bool,
}

/// How an answer's body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// As it is: its length has been told, or the connection's end tells it.
    Plain,
    /// In chunks.
    Chunks,
}

/// Writes the first line.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &str) {
    let digits = [status / 100 % 10, status / 10 % 10, status % 10].map(|d| b'0' + d as u8);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&digits);
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes one header line.
pub fn header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes what becomes of the connection, where that is not understood, and the empty line.
pub fn end_head(out: &mut Vec<u8>, framing: AnswerFraming) {
    out.extend_from_slice(match (framing.last, framing.http11) {
        (true, _) => b"connection: close\r\n\r\n",
        (false, true) => b"\r\n",
        (false, false) => b"connection: keep-alive\r\n\r\n",
    });
}

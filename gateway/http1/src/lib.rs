//! The bytes of HTTP/1 as a proxy reads and writes them (RFC 9112): heads of requests and answers, bodies and
//! their framing, and which headers belong to one connection alone. Without I/O: bytes in, facts and bytes
//! out. Whatever two readers could understand differently is refused; [`hop_by_hop`] says what is not
//! passed on. Where this is stricter than other readers stands in docs/http1.md.

mod authority;
mod body;
pub mod hop_by_hop;
mod request;
mod response;
mod write;

pub use authority::{host_of, is_authority};
pub use body::{BadBody, Body, Chunk, LAST_CHUNK, write_chunk};
pub use request::{
    Framing, HeaderAction, RequestError, RequestHead, Scan, Scanner, is_bearer, length,
};
pub use response::{BadAnswer, HEAD_BYTES_MAX, ResponseHead, read};
pub use write::{AnswerFraming, Writing, end_head, header, status_line};

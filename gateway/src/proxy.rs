//! Requests on their way to a worker and answers on their way back: HTTP/1 and HTTP/2 from clients, one
//! path for both to the worker. What is decided is decided in `pipeline`.

pub(crate) mod attempt;
pub(crate) mod compression;
pub(crate) mod forward;
pub mod http1;
pub(crate) mod http2;
pub(crate) mod pingora;
pub(crate) mod request_transfer;
pub(crate) mod response;
pub(crate) mod response_transfer;
pub(crate) mod timer;
pub(crate) mod worker_connection;
pub(crate) mod write_buffer;

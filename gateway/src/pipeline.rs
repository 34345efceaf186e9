//! What becomes of a request: who asks, whether it may, which rule, pool and worker take it, what is
//! answered at the door, and what is counted at the end. Knows heads, not how they were read: HTTP/1
//! and HTTP/2 (`proxy/`) both ask here.

pub mod access_log;
pub mod active_config;
mod admit;
mod answer;
mod context;
pub mod folder;
pub mod forwarded;
mod gateway;
pub mod graceful_shutdown;
mod next_worker;
pub mod own_headers;
pub mod rate_limit;
pub mod replay_memory;
pub mod reply;
mod request_ids;
mod token_owner;

pub use admit::Disposition;
pub use answer::{Answer, FileAnswer, PIECE_BYTES, off_thread};
pub use context::{Ctx, Ended};
pub use gateway::{
    Gateway, REFUSED_DRAIN, REFUSED_DRAIN_BYTES_MAX, REQUESTS_PER_CONNECTION_MAX, UNWANTED_BODY_MAX,
};
pub use next_worker::WORKER_IDLE;
pub use request_ids::RequestIds;

//! What operators see of a process: its log, its metrics, spans of requests.

pub mod logging;
pub mod metrics;
pub mod spans;

//! The gateway as clients and workers meet it: real sockets on port 0, nothing mocked.
#![allow(clippy::unwrap_used, reason = "tests")]

mod client;
mod worker;

mod both_engines;
mod edge;
mod engines;
mod forwarding;
mod frames;
mod hostile;
mod http1;
mod http2;
mod http2_hostile;
mod http2_random;
mod lifecycle;
mod nginx;
mod page;
mod reload;
mod slots;
mod stale;
mod targets;
mod tls;
mod traces;
mod trusting;
mod workers;

//! For tests only: a homeserver in this process behind a real socket, and users who talk to it.

pub mod authority;
pub mod federation;
pub mod openapi;
pub mod peer;
mod processes;
pub mod push_gateway;
pub mod reader;
pub mod server;
mod shape;
pub mod user;

pub use reqwest::Method;
pub use server::TestServer;
pub use user::{Answer, Client, RawAnswer};

//! Client-server and server-server HTTP, thin: extract → service → reply. `routes.rs` lists what is mounted;
//! `table.rs` turns a typed endpoint into a route, `server/endpoint.rs` one that other servers ask; nothing here decides anything a service should decide.

pub mod bounds;
pub mod call;
pub mod reply;
pub mod request;
pub mod request_target;
mod restricted;
pub mod router;
pub mod routes;
pub mod table;

mod client;
mod enums;
mod guests;
mod needs;
mod pieces;
mod server;

pub use reply::Reply;
pub use request::{ByteBody, ClientAddress, OverTls};
pub use router::Router;

/// Returns what `/versions` names as unstable features, each with the path by which it shows.
pub fn client_features() -> &'static [(&'static str, &'static str)] {
    client::versions::FEATURES
}

//! Which rule takes a request, and by which key it sticks. Pure: the compiled table, the sticky keys and the
//! rules as typed values; no sockets, no clock.

pub mod head;
pub mod request_target;
pub mod routes;
pub mod sticky;
pub mod table;

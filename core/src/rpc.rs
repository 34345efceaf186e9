//! Requests between the processes of a deployment: the client, what is answered, and the answer of a process
//! that owns something no more.

pub(crate) mod client;
pub(crate) mod internal;
pub(crate) mod wrong_owner;

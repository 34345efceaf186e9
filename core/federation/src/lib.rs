//! Federation: talking to other servers, below every use case. The order of the folders is checked
//! (`core/tests/it/circles.rs`).
//!
//! [`messaging`] → [`pdu`] → [`transaction`] → [`keys`] → [`transport`]: each may import those to its right. Beside them
//! [`policy_servers`] imports `transport` alone.
//! Nothing here imports users, views or delivery: what another server wants of them comes back as a value, and
//! a use case of `services` passes it on.

pub mod keys;
pub mod messaging;
pub mod pdu;
pub mod policy_servers;
pub mod transaction;
pub mod transport;

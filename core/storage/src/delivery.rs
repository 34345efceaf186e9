//! What waits to be delivered: to-device messages, pushers, and the leases of background jobs.

pub mod jobs;
pub mod push;
pub mod pushers;
pub mod to_device;

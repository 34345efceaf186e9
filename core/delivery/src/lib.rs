//! Delivery: what is done without a request, by one process of a deployment at a time.
//!
//! [`jobs`] is done from time to time: which process does a job, when it is due, and when it is tried again
//! after it failed.
//!
//! What is delivered to others as it happens has its place here, and each target is its own: [`push`] (notifications to
//! push gateways) and [`federation`] (transactions to other servers). Each follows the streams of the process
//! ([`colonnade_replication::Follower`]), not `/sync`; the process that owns the target's slot delivers from a position
//! stored in the database, and stores the next one when the target took what it was sent.

pub mod federation;
pub mod jobs;
pub mod push;

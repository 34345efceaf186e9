//! What is stored of other servers: whether they are reached, the keys they
//! sign with, what they sent (before its room was entered, too) and what they are still to be sent.

pub mod destinations;
pub mod entering;
pub mod inbound_messages;
pub mod outbox;
pub mod outgoing_changes;
pub mod outgoing_receipts;
pub mod positions;
pub mod server_keys;
pub mod signing_keys;
pub mod transactions;

#[cfg(test)]
mod tests;

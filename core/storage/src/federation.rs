//! What is stored of other servers: whether they are reached, and the keys they sign with.

pub mod destinations;
pub mod positions;
pub mod server_keys;
pub mod signing_keys;
pub mod transactions;

#[cfg(test)]
mod tests;

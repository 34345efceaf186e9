//! What is stored of other servers: whether they are reached, and the keys they sign with.

pub mod destinations;
pub mod server_keys;
pub mod signing_keys;

#[cfg(test)]
mod tests;

//! Conversations of the matrix-sdk client with `colonnade up`, every request through the gateway.

mod backup;
mod conversation;

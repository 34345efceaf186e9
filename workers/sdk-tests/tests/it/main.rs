//! Conversations of the matrix-sdk client with `colonnade up`, every request through the gateway.

mod across;
mod backup;
mod conversation;

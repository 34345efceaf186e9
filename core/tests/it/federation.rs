//! Several homeservers over TLS, and peers that do not behave.

mod edus;
mod front;
mod reach;
mod rooms;

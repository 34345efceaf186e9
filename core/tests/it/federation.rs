//! Several homeservers over TLS, and peers that do not behave.

mod edus;
mod front;
mod media;
mod reach;
mod rooms;

//! Conversations with another server about a room: joining, leaving and knocking over it (make and send),
//! inviting, asking for what is missing (backfill, missing events, a state by its event). The use cases of
//! `services` call it. It may import all of this crate.

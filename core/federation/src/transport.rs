//! The way to another server: finding its address (well-known files, SRV records), TLS, signed requests, who is
//! not reached at the moment and when it is tried again. It imports nothing of this crate.

//! Signing keys: this server's own as others ask for them, and those of other servers, fetched, checked and
//! remembered. It may import `transport`.

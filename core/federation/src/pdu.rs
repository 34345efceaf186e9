//! Events of other servers before they are events of a room: size and format, hashes and signatures, which
//! room, and whether that room's server ACL lets their server in. What passes goes to `Rooms::receive`. It may
//! import `transaction`, `keys` and `transport`.

//! Views: what clients are shown of rooms. `/sync` and what wakes it, timelines and search, the directory of
//! rooms, receipts and who is typing. What is newest of that is kept in memory. It writes no events but those by which an alias is changed.

pub mod directory;
pub mod receipts;
pub mod recent;
pub mod sync;
pub mod timeline;
pub mod typing;

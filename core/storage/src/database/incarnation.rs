//! The states of an incarnation, as the column `incarnations.state` has them.

/// An incarnation that lives; see the column `incarnations.state`.
pub const LIVE: i64 = 1;

/// An incarnation that hands over its slots, and may write to those it still has.
pub const DRAINING: i64 = 2;

/// An incarnation that may never write again.
pub const FENCED: i64 = 3;

//! The list of what other servers ask that writes, or costs as much, by its newest path. All that is signed counts
//! in the class `federation`, by the server that signed it.

use colonnade_users::limits::Class;
use http::Method;

use super::kinds::{
    Bounds,
    Owner::{self, Nothing},
    Rate::{self, Inside},
};

const fn row(
    method: Method,
    path: &'static str,
    rate: Rate,
    item: &'static str,
    owner: Owner,
) -> Bounds {
    Bounds { method, path, rate, item, owner }
}

/// The bounds of every endpoint of other servers that writes.
pub(super) static ALL: &[Bounds] = &[row(
    Method::POST,
    "/_matrix/key/v2/query",
    Inside(Class::Stranger, "per address"),
    "100 servers, 8 KiB",
    Nothing,
)];

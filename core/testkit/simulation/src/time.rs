//! The simulated time.

use futures_util::FutureExt as _;

/// A database that is only read, and at once.
pub(crate) fn now<T>(read: impl Future<Output = colonnade_storage::Result<T>>) -> T {
    let read = read.now_or_never().expect("a read of the observer takes no time");
    read.expect("the observer can read")
}

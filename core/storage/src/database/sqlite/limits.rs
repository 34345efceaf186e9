//! How every connection to the file is opened.

use std::time::Duration;

/// Prepared statements kept per connection: all there are, since preparing one again costs more than
/// running it. About 5 kB each.
pub(super) const STATEMENTS_MAX: usize = 512;

/// How long a statement waits for a lock; only a backup or a check ever holds one.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

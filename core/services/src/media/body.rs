//! What an upload is: an id, and a body that comes in pieces.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;

/// The body of an upload as it arrives.
pub trait Body: Stream<Item = std::io::Result<Bytes>> + Send + Unpin {}

/// How long an upload may pause between two pieces of its body.
pub(super) const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// The length of a media id: 24 letters and digits, 143 random bits.
pub(super) const MEDIA_ID_LENGTH: usize = 24;

/// The longest media id looked up; the specification sets no limit, ours have 24 letters.
pub(super) const MEDIA_ID_BYTES_MAX: usize = 255;

impl<S: Stream<Item = std::io::Result<Bytes>> + Send + Unpin> Body for S {}

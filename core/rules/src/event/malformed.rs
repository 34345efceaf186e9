//! What bounds an event, and what is said of one that is none.

/// The most bytes of the canonical JSON of a whole event, signatures included (Matrix v1.19,
/// client-server, §Size limits).
pub const EVENT_BYTES_MAX: usize = 65_536;

/// The most bytes of an event's `sender`, `room_id`, `state_key`, `type` or id (Matrix v1.19,
/// client-server, §Size limits).
pub const FIELD_BYTES_MAX: usize = 255;

/// The greatest integer of canonical JSON, so the greatest depth of an event made here.
pub(super) const DEPTH_MAX: u64 = (1 << 53) - 1;

/// An event does not have the form its room version demands.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed event: {0}")]
pub struct Malformed(pub String);

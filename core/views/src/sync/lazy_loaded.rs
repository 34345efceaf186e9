//! Which member events a device was sent, so that lazy loading does not repeat them.

use colonnade_model::{nid::UserNid, stream::Position};

/// Of whom a device was sent the member event, and where the events stream then stood. It has the
/// event once it presents a token at least as high.
pub(super) type LazyLoaded = std::collections::HashMap<UserNid, Position>;

//! What is kept in memory of a session, by the hash of its access token.

use std::sync::atomic::{AtomicI64, Ordering};

use colonnade_model::session::Session;

/// Sessions kept in memory, about 300 bytes each; one per device that is in use at the same time.
pub(super) const CACHED_MAX: usize = 50_000;
/// How often a device in use is noted as seen, in milliseconds: nobody reads it to the second.
const SEEN_EVERY_MS: i64 = 60_000;

/// A session and what has to be checked each time.
pub(super) struct Cached {
    pub(super) session: Session,
    /// When the access token expires; `None` for never.
    pub(super) expires_ts: Option<i64>,
    noted_ms: AtomicI64,
}

impl Cached {
    pub(super) fn new(session: Session, expires_ts: Option<i64>) -> Self {
        Self { session, expires_ts, noted_ms: AtomicI64::new(0) }
    }

    /// Tells whether it is time to note again that the device was seen; true once per interval.
    pub(super) fn is_news(&self, now_ms: i64) -> bool {
        let noted_ms = self.noted_ms.load(Ordering::Relaxed);
        // Also after the clock was set back.
        let due = now_ms.abs_diff(noted_ms) >= SEEN_EVERY_MS.unsigned_abs();
        let swap = |from| {
            self.noted_ms.compare_exchange(from, now_ms, Ordering::Relaxed, Ordering::Relaxed)
        };
        due && swap(noted_ms).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use colonnade_model::{
        nid::{DeviceNid, UserNid},
        ruma::user_id,
    };

    use super::*;

    fn cached() -> Cached {
        let session = Session {
            user_id: user_id!("@alice:localhost").to_owned(),
            user: UserNid(1),
            device_id: "DEVICE".into(),
            device: DeviceNid(1),
            is_guest: false,
            restriction: colonnade_model::session::Restriction::None,
            address: None,
        };
        Cached::new(session, None)
    }

    #[test]
    fn a_device_is_news_once_a_minute() {
        let cached = cached();
        assert!(cached.is_news(1_000_000));
        assert!(!cached.is_news(1_059_999));
        assert!(cached.is_news(1_060_000));
        assert!(cached.is_news(60_000), "the clock was set back");
        assert!(!cached.is_news(60_001));
    }
}

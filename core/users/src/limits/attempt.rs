//! An attempt at something that may be guessed: it is counted before it is made, so that many at the
//! same moment count, and given back when it was right. Only failures remain counted, here and in
//! the other processes; so does an attempt whose end nobody waited for.

use std::sync::Arc;

use colonnade_model::MatrixError;

use super::{Bucket, Class, Key, Limits};

/// An attempt under way, of one or several that count for it.
#[must_use = "dropped, it counts as a failure"]
pub struct Attempt {
    limits: Arc<Limits>,
    taken: Vec<(Class, Key)>,
}

impl Attempt {
    /// Counts the attempt under another key, too.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when too many failed; then it is not made and counts nowhere.
    pub fn and(mut self, class: Class, key: impl Into<Key>) -> Result<Self, MatrixError> {
        if !self.limits.context.settings.rate_limits.enabled {
            return Ok(self);
        }
        let key = (class, key.into());
        if let Err(error) = self.limits.take(key, 1) {
            self.was_right();
            return Err(error);
        }
        self.taken.push(key);
        Ok(self)
    }

    /// Counts the attempt under another key, too, if that has any left; it is made in any case.
    pub fn also(mut self, class: Class, key: impl Into<Key>) -> Self {
        let key = (class, key.into());
        if self.limits.context.settings.rate_limits.enabled && self.limits.take(key, 1).is_ok() {
            self.taken.push(key);
        }
        self
    }

    /// Gives back what was counted: the attempt was right.
    pub fn was_right(mut self) {
        for key in self.taken.drain(..) {
            self.limits.give_back(key);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        for key in self.taken.drain(..) {
            self.limits.note_taken(key, 1);
        }
    }
}

impl Limits {
    /// Begins an attempt that counts under nothing yet.
    pub fn attempt(self: &Arc<Self>) -> Attempt {
        Attempt { limits: Arc::clone(self), taken: Vec::new() }
    }

    fn give_back(&self, key: (Class, Key)) {
        let (rate, now_ms) = (self.rate(key.0), self.context.now_ms());
        self.bucket(key, now_ms).lock().give_back(rate, now_ms);
    }
}

impl Bucket {
    /// Puts a token back.
    fn give_back(&mut self, rate: colonnade_rooms::settings::Rate, now_ms: i64) {
        self.grow(rate, now_ms);
        self.tokens = (self.tokens + 1.0).min(f64::from(rate.burst));
    }
}

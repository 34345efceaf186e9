//! A value of which only the latest counts, and those who wait for it to get somewhere. They are woken
//! in the order in which they came, so that what a process does follows from what happened to it
//! (tokio's `watch` wakes in an order by chance).

use parking_lot::RwLock;
use tokio::sync::Notify;

/// A value that changes.
#[derive(Debug, Default)]
pub struct Latest<T> {
    value: RwLock<T>,
    changed: Notify,
}

impl<T: Copy> Latest<T> {
    /// Makes one.
    pub fn new(value: T) -> Self {
        Self { value: RwLock::new(value), changed: Notify::new() }
    }

    /// Returns the value.
    pub fn get(&self) -> T {
        *self.value.read()
    }

    /// Replaces the value and wakes everybody who waits.
    pub fn set(&self, value: T) {
        *self.value.write() = value;
        self.changed.notify_waiters();
    }

    /// Changes the value and wakes everybody who waits.
    pub fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value.write());
        self.changed.notify_waiters();
    }

    /// Waits until the value is as wanted, and returns it. A value that is replaced before the waiter
    /// gets to look is never seen.
    pub async fn when(&self, wanted: impl Fn(&T) -> bool) -> T {
        loop {
            // Before the look: what changes after it wakes us.
            let changed = self.changed.notified();
            let value = self.get();
            if wanted(&value) {
                return value;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_are_woken_in_the_order_they_came() {
        let (latest, woken) = (Arc::new(Latest::new(0)), Arc::new(Mutex::new(Vec::new())));
        let waiters = (0..20).map(|number| {
            let (latest, woken) = (Arc::clone(&latest), Arc::clone(&woken));
            tokio::spawn(async move {
                assert_eq!(latest.when(|value| *value >= 2).await, 2);
                woken.lock().push(number);
            })
        });
        let waiters: Vec<_> = waiters.collect();
        tokio::task::yield_now().await;
        latest.set(1);
        tokio::task::yield_now().await;
        assert!(woken.lock().is_empty(), "not there yet");
        latest.set(2);
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(*woken.lock(), (0..20).collect::<Vec<_>>());
        assert_eq!(latest.when(|value| *value == 2).await, 2, "no change is needed");
    }
}

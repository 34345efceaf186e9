//! Whose pushers, rules or rooms may have changed.

use std::collections::HashSet;

use colonnade_model::{
    nid::UserNid,
    stream::{Positions, Stream, StreamAdvance, Touch},
};
use colonnade_replication::Subscriber;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Users that wait to be looked at; of more everybody is looked at.
const USERS_MAX: usize = 20_000;

#[derive(Default)]
struct Changed {
    users: HashSet<UserNid>,
    anybody: bool,
}

/// Who was touched since it was looked at last.
#[derive(Default)]
pub struct PusherChanges {
    changed: Mutex<Changed>,
    news: Notify,
}

/// Whom to look at again.
pub(super) enum Again {
    These(Vec<UserNid>),
    Everybody,
}

impl PusherChanges {
    /// Takes what there is.
    pub(super) fn take(&self) -> Again {
        let changed = std::mem::take(&mut *self.changed.lock());
        match changed.anybody {
            true => Again::Everybody,
            false => Again::These(changed.users.into_iter().collect()),
        }
    }

    /// Waits for more.
    pub(super) async fn more(&self) {
        self.news.notified().await;
    }
}

impl Subscriber for PusherChanges {
    fn advanced(&self, advance: &StreamAdvance) {
        // Memberships, pushers and devices that take theirs along.
        let concerns = [Stream::Events, Stream::AccountData, Stream::DeviceLists];
        if !concerns.contains(&advance.stream) {
            return;
        }
        let mut changed = self.changed.lock();
        for (touch, _) in &advance.touched {
            match touch {
                Touch::User(user) if changed.users.len() < USERS_MAX => {
                    changed.users.insert(*user);
                }
                Touch::User(_) | Touch::Anybody => changed.anybody = true,
                _ => continue,
            }
            self.news.notify_one();
        }
    }

    fn missed(&self, _: Positions) {
        self.changed.lock().anybody = true;
        self.news.notify_one();
    }
}

//! Telling what changed: once a second at most, all of it together. What one change costs, looking at
//! the rooms and waking whoever waits in them, a hundred in the same second cost once.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::{Position, Positions, Stream, StreamAdvance, Touch},
};
use colonnade_replication::Subscriber;
use colonnade_rooms::{Error, Result};
use colonnade_storage::users::presence as rows;
use tokio::sync::Notify;

use super::{Presence, SWEEP, Users};

/// How long the next change waits after one was told.
const STEP: Duration = Duration::from_secs(1);
/// Users told of in one step; the rest comes with the next.
const STEP_USERS_MAX: usize = 1_000;

/// Tells what changed, as long as the service lives, and looks who went.
async fn keep_telling(presence: Weak<Presence>, news: Arc<Notify>) {
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            () = news.notified() => {}
            _ = sweep.tick() => {
                let Some(presence) = presence.upgrade() else { return };
                presence.sweep();
                continue;
            }
        }
        let Some(presence) = presence.upgrade() else { return };
        if let Err(error) = presence.take_early().await {
            tracing::debug!(%error, "what another server said early is not taken in");
        }
        if let Err(error) = presence.tell().await {
            tracing::warn!(%error, "cannot tell who is there; trying again");
        }
        drop(presence);
        tokio::time::sleep(STEP).await;
    }
}

impl Presence {
    /// Tells changes from now on, as long as the service lives.
    pub(super) fn begin_telling(self: &Arc<Self>, news: Arc<Notify>) {
        tokio::spawn(keep_telling(Arc::downgrade(self), news));
    }

    /// Gives the changes that are due their position, and wakes those who are to hear of them.
    async fn tell(&self) -> Result<()> {
        let (due, moved) = {
            let mut users = self.users.lock();
            (take(&mut users.due), take(&mut users.moved))
        };
        self.tell_of(due, moved).await
    }

    /// Tells what is due of some users now, so that whoever newly shares a room with them is told once, and
    /// returns how far the changes that were told have come.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tell_now(self: &Arc<Self>, some: &[UserNid]) -> Result<Position> {
        let (due, moved) = {
            let mut users = self.users.lock();
            let due: HashSet<UserNid> =
                some.iter().copied().filter(|user| users.due.remove(user)).collect();
            let moved = due.iter().copied().filter(|user| users.moved.remove(user)).collect();
            (due, moved)
        };
        if !due.is_empty() {
            // It goes on when whoever asked gives up: it is due no more.
            let presence = Arc::clone(self);
            let told = tokio::spawn(async move { presence.tell_of(due, moved).await });
            told.await.map_err(|error| Error::internal("tell who is there", error))??;
        }
        Ok(self.context.streams.position(Stream::Presence))
    }

    async fn tell_of(&self, due: HashSet<UserNid>, moved: HashSet<UserNid>) -> Result<()> {
        let asked: Vec<UserNid> = due.union(&moved).copied().collect();
        self.users.lock().asked.extend(&asked);
        let read = rows::rooms_joined(&self.context.db, &asked).await;
        let mut users = self.users.lock();
        users.asked.retain(|user| !due.contains(user) && !moved.contains(user));
        let result = match read {
            Ok(rooms) => {
                self.note(&mut users, &due, &asked, &rooms);
                Ok(())
            }
            Err(error) => {
                users.due.extend(due);
                users.moved.extend(moved);
                Err(error.into())
            }
        };
        if !users.due.is_empty() || !users.moved.is_empty() {
            self.news.notify_one();
        }
        result
    }

    /// `rooms` are those of all who were `asked` for, in order of the users. Whoever has moved since is
    /// told of later: a client that already knows of the new room would never hear of a change that
    /// was told to the rooms of before alone.
    fn note(
        &self,
        users: &mut Users,
        due: &HashSet<UserNid>,
        asked: &[UserNid],
        rooms: &[(UserNid, RoomNid)],
    ) {
        for user in asked {
            let from = rooms.partition_point(|(of, _)| of < user);
            let own = rooms[from..].iter().take_while(|(of, _)| of == user);
            if let Some(known) = users.known.get_mut(user) {
                known.rooms = own.map(|(_, room)| *room).collect();
            }
        }
        let (later, due): (HashSet<UserNid>, HashSet<UserNid>) =
            due.iter().copied().partition(|user| users.moved.contains(user));
        users.due.extend(later);
        if due.is_empty() {
            return;
        }
        let concerned = rooms.iter().filter(|(user, _)| due.contains(user));
        let touched: HashSet<Touch> = concerned.map(|(_, room)| Touch::Room(*room)).collect();
        let touched: Vec<Touch> = touched.into_iter().collect();
        // Under the lock of the users: whoever is woken finds the changes noted.
        let pos = self.context.streams.advance_in_memory(Stream::Presence, &touched);
        for user in &due {
            let Some(known) = users.known.get_mut(user) else { continue };
            known.is_announced = !users.due.contains(user);
            let before = std::mem::replace(&mut known.pos, pos);
            users.by_pos.remove(&(before, *user));
            users.by_pos.insert((pos, *user));
        }
    }
}

/// What is kept here of memberships no writer forgets.
impl Subscriber for Presence {
    /// Notes whose memberships an advance says have changed.
    fn advanced(&self, advance: &StreamAdvance) {
        if advance.stream != Stream::Events {
            return;
        }
        if self.early.lock().look_at(advance) {
            self.news.notify_one();
        }
        let mut users = self.users.lock();
        let Users { known, moved, .. } = &mut *users;
        let before = moved.len();
        for (touch, _) in &advance.touched {
            match touch {
                Touch::User(user) if known.contains_key(user) => drop(moved.insert(*user)),
                Touch::Anybody => moved.extend(known.keys()),
                _ => {}
            }
        }
        if moved.len() > before {
            self.news.notify_one();
        }
    }

    /// Notes that anybody may have moved.
    fn missed(&self, _: Positions) {
        let mut users = self.users.lock();
        let Users { known, moved, .. } = &mut *users;
        moved.extend(known.keys());
        self.news.notify_one();
    }
}

/// Takes what fits into a step out of those who wait.
fn take(waiting: &mut HashSet<UserNid>) -> HashSet<UserNid> {
    if waiting.len() <= STEP_USERS_MAX {
        return std::mem::take(waiting);
    }
    let taken: HashSet<UserNid> = waiting.iter().take(STEP_USERS_MAX).copied().collect();
    waiting.retain(|user| !taken.contains(user));
    taken
}

#[cfg(test)]
mod tests;

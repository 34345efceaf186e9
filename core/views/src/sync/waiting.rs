//! The long poll: look, and if there is nothing, wait to be woken and look again.

use std::{sync::Arc, time::Duration};

use colonnade_model::session::Session;
use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::{Positions, Stream},
};
use colonnade_rooms::Result;
use colonnade_users::{
    answers::{Need, PAGE_BYTES},
    bodies::Payer,
};
use tokio::time::Instant;

use super::{
    answer::{Rest, SyncAnswer},
    filter,
    notifier::Watch,
    service::{Memberships, Sync, SyncContext, SyncRequest},
};
use crate::timeline::{PAGE_BYTES_MAX, Viewer};

/// The longest a client may wait, in milliseconds.
const TIMEOUT_MS_MAX: u64 = 5 * 60 * 1_000;

/// What a look found.
pub(super) enum Outcome<T> {
    /// Something to tell.
    News(T),
    /// Nothing of concern.
    Nothing,
}

/// How a wait ended.
pub(super) enum Waited<T> {
    /// With something to tell.
    News(T),
    /// With nothing up to these positions.
    Nothing(Positions),
}

/// From where to where to look.
pub(super) struct Look {
    /// Up to where the client was told all there is; `None` for an initial sync.
    pub(super) since: Option<Positions>,
    /// Where everything stands now.
    pub(super) now: Positions,
    /// The rooms that are looked at.
    pub(super) memberships: Arc<Memberships>,
    /// The time is over.
    pub(super) is_last: bool,
}

/// Who waits, and for what.
pub(super) struct Wait<'a> {
    pub(super) session: &'a Session,
    pub(super) request: &'a SyncRequest,
    /// The one room of which news are waited for, whether the user is in it or not; `None` for his own.
    pub(super) room: Option<RoomNid>,
}

impl Sync {
    /// Looks until there is something to tell or the time is over.
    pub(super) async fn answer(
        self: &Arc<Self>,
        session: &Session,
        since: Option<Positions>,
        request: Arc<SyncRequest>,
    ) -> Result<SyncAnswer> {
        let wait = Wait { session, request: &request, room: None };
        let waited = self.wait(wait, since, |look| self.look_from(session, look, &request));
        match waited.await? {
            Waited::News(answer) => Ok(answer),
            Waited::Nothing(now) => {
                Box::pin(self.nothing(session.device, now)).await.map(SyncAnswer::whole)
            }
        }
    }

    /// Looks by `look` until it finds something to tell or the time is over.
    pub(super) async fn wait<T, Found>(
        &self,
        wait: Wait<'_>,
        mut since: Option<Positions>,
        look: impl Fn(Look) -> Found,
    ) -> Result<Waited<T>>
    where
        Found: Future<Output = Result<Outcome<T>>>,
    {
        let Wait { session, request, room } = wait;
        let timeout = Duration::from_millis(request.timeout_ms.min(TIMEOUT_MS_MAX));
        let deadline = Instant::now() + timeout;
        let mut stopping = self.stopping.subscribe();
        let mut watch: Option<(Watch, i64)> = None;
        loop {
            // 2. Sample, 3. look. Whoever is about to wait has registered (1.) and looked again.
            // Boxed, as every look is: a client that waits keeps only what it waits with.
            let (memberships, now) = Box::pin(self.sample(session.user)).await?;
            let memberships = match room {
                Some(room) => Arc::new(memberships.only(session.user, room)),
                None => memberships,
            };
            let at = memberships.at;
            let is_last = Instant::now() >= deadline || *stopping.borrow();
            if self.has_moved(session, &memberships, since, request) || request.full_state {
                let memberships = Arc::clone(&memberships);
                match Box::pin(look(Look { since, now, memberships, is_last })).await? {
                    // What moved was of no concern: no need to look at it again when woken.
                    Outcome::Nothing if !is_last => since = Some(now),
                    Outcome::Nothing => return Ok(Waited::Nothing(now)),
                    Outcome::News(news) => return Ok(Waited::News(news)),
                }
            } else if is_last {
                return Ok(Waited::Nothing(now));
            }
            // Registered for other rooms than now, or not at all: register and look again.
            let Some((watch, _)) = watch.as_ref().filter(|(_, watched)| *watched == at) else {
                watch = Some((self.watch(session, &memberships), at));
                continue;
            };
            tokio::select! {
                biased;
                () = watch.moved() => {}
                () = tokio::time::sleep_until(deadline) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Looks, as this session sees it, once there is room for the answer. Returns its first piece, which
    /// may be all of it, if it says anything or has to be told: nothing that has a second piece says nothing.
    async fn look_from(
        self: &Arc<Self>,
        session: &Session,
        look: Look,
        request: &Arc<SyncRequest>,
    ) -> Result<Outcome<SyncAnswer>> {
        let Look { since, now, memberships, is_last } = look;
        let need = match since {
            Some(since) if !request.full_state => self.need(&memberships, since),
            _ => Need::Pieces,
        };
        let reserved = self.from.answers.reserve(Payer::User(session.user), need).await?;
        let context = self.context_of(session, (since, now), Arc::clone(request)).await?;
        let sync = Arc::clone(self);
        let is_large = need == Need::Pieces;
        let rest = Rest::written(&self.from.answers, is_large, move |mut out| async move {
            sync.look(&context, &memberships, &mut out).await?;
            Ok(out)
        });
        let (answer, says_something) = SyncAnswer::begun(rest, reserved).await?;
        if since.is_none() || request.full_state || is_last || says_something {
            return Ok(Outcome::News(answer));
        }
        Ok(Outcome::Nothing)
    }

    /// Says who asks for what, from where to where.
    pub(super) async fn context_of(
        &self,
        session: &Session,
        (since, now): (Option<Positions>, Positions),
        request: Arc<SyncRequest>,
    ) -> Result<SyncContext> {
        let ignored = self.ignored(session.user).await?;
        let viewer = Viewer::from(session);
        let (data, timelines) = Default::default();
        Ok(SyncContext {
            viewer,
            since,
            now,
            request,
            ignored,
            data,
            timelines,
            names_rooms: false,
        })
    }

    /// Returns what an answer takes: as much as a page if the timelines in it are few. What is more than it
    /// seemed is sent by pieces nevertheless.
    fn need(&self, memberships: &Memberships, since: Positions) -> Need {
        let heads = self.heads.rooms(memberships.joined());
        let moved = heads.iter().filter(|head| head.events > since.get(Stream::Events)).count();
        match moved * PAGE_BYTES_MAX <= PAGE_BYTES {
            true => Need::Page,
            false => Need::Pieces,
        }
    }

    /// Registers for everything that may concern the user.
    fn watch(&self, session: &Session, memberships: &Memberships) -> Watch {
        self.heads.watch(memberships.joined(), session.user, session.device)
    }

    /// Tells whether the user himself came or went: what a sync says of it wakes nobody, but is told.
    fn own_presence_moved(&self, user: UserNid, since: Positions) -> bool {
        self.from.presence.has_own_change(user, since.get(Stream::Presence))
    }

    /// Tells whether anything that may concern the user has moved: integers only, no database.
    fn has_moved(
        &self,
        session: &Session,
        memberships: &Memberships,
        since: Option<Positions>,
        request: &SyncRequest,
    ) -> bool {
        let Some(since) = since else { return true };
        let later = |stream, head: i64| head > since.get(stream);
        let user = self.heads.user(session.user);
        let wants_presence = filter::wants_plain(&request.filter.presence, "m.presence", None);
        let own = later(Stream::Events, user.events)
            || later(Stream::AccountData, user.account_data)
            || later(Stream::DeviceLists, user.device_lists)
            || later(Stream::ToDevice, self.heads.device(session.device))
            || wants_presence && self.own_presence_moved(session.user, since);
        own || {
            let heads = self.heads.rooms(memberships.joined());
            heads.iter().any(|head| {
                later(Stream::Events, head.events)
                    || later(Stream::Receipts, head.receipts)
                    || later(Stream::Typing, head.typing)
                    || later(Stream::DeviceLists, head.device_lists)
                    || wants_presence && later(Stream::Presence, head.presence)
            })
        }
    }
}

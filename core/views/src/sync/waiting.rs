//! The long poll: look, and if there is nothing, wait to be woken and look again.

use std::time::Duration;

use colonnade_model::session::Session;
use colonnade_model::stream::{Positions, Stream};
use colonnade_rooms::Result;
use colonnade_users::{
    answers::{Growth, Need, PAGE_BYTES},
    bodies::Payer,
};
use tokio::time::Instant;

use super::{
    filter,
    notifier::Watch,
    response::SyncResponse,
    service::{Memberships, Sync, SyncContext, SyncRequest},
};
use crate::timeline::{PAGE_BYTES_MAX, Viewer};

/// The longest a client may wait, in milliseconds.
const TIMEOUT_MS_MAX: u64 = 5 * 60 * 1_000;

impl Sync {
    /// Looks until there is something to tell or the time is over.
    pub(super) async fn answer(
        &self,
        session: &Session,
        mut since: Option<Positions>,
        request: &SyncRequest,
    ) -> Result<SyncResponse> {
        let wait = Duration::from_millis(request.timeout_ms.min(TIMEOUT_MS_MAX));
        let deadline = Instant::now() + wait;
        let mut stopping = self.stopping.subscribe();
        let mut watch: Option<(Watch, i64)> = None;
        loop {
            // 2. Sample, 3. look. Whoever is about to wait has registered (1.) and looked again.
            // Boxed, as every look is: a client that waits keeps only what it waits with.
            let (memberships, now) = Box::pin(self.sample(session.user)).await?;
            let over = Instant::now() >= deadline || *stopping.borrow();
            if self.has_moved(session, &memberships, since, request) || request.full_state {
                let response =
                    Box::pin(self.look_from(session, since, now, request, &memberships)).await?;
                if since.is_none() || request.full_state || over || !response.is_empty() {
                    return Ok(response);
                }
                // What moved was of no concern: no need to look at it again when woken.
                since = Some(now);
            } else if over {
                return Box::pin(self.nothing(session.device, now)).await;
            }
            // Registered for other rooms than now, or not at all: register and look again.
            let Some((watch, _)) = watch.as_ref().filter(|(_, at)| *at == memberships.at) else {
                watch = Some((self.watch(session, &memberships), memberships.at));
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

    /// Looks, as this session sees it, once there is room for the answer.
    async fn look_from(
        &self,
        session: &Session,
        since: Option<Positions>,
        now: Positions,
        request: &SyncRequest,
        memberships: &Memberships,
    ) -> Result<SyncResponse> {
        let need = match since {
            Some(since) if !request.full_state => self.need(memberships, since),
            _ => Need::Whole,
        };
        let reserved = self.from.answers.reserve(Payer::User(session.user), need).await?;
        let _permit = match since {
            // Closed never: an error would only mean no limit.
            None => self.initial.acquire().await.ok(),
            Some(_) => None,
        };
        let ignored = self.ignored(session.user).await?;
        let viewer = Viewer::from(session);
        let (data, timelines) = Default::default();
        let growth = Growth::from(reserved);
        let context = SyncContext { viewer, since, now, request, ignored, data, timelines, growth };
        let answer = self.look(&context, memberships).await?;
        Ok(SyncResponse { reserved: context.growth.into_reserved(), ..answer })
    }

    /// Returns what an answer takes: as much as a page if the timelines in it are few.
    fn need(&self, memberships: &Memberships, since: Positions) -> Need {
        let heads = self.heads.rooms(memberships.joined());
        let moved = heads.iter().filter(|head| head.events > since.get(Stream::Events)).count();
        match moved * PAGE_BYTES_MAX <= PAGE_BYTES {
            true => Need::Page,
            false => Need::Whole,
        }
    }

    /// Registers for everything that may concern the user.
    fn watch(&self, session: &Session, memberships: &Memberships) -> Watch {
        self.heads.watch(memberships.joined(), session.user, session.device)
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
        let own = later(Stream::Events, user.events)
            || later(Stream::AccountData, user.account_data)
            || later(Stream::DeviceLists, user.device_lists)
            || later(Stream::ToDevice, self.heads.device(session.device));
        let wants_presence = filter::wants_plain(&request.filter.presence, "m.presence", None);
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

//! What other servers say of who is there. They say it when it changes and twice an hour, so it holds longer
//! than what a sync says. They may say it before the join of their user, or of ours, is done here: that waits.
//!
//! Source: Matrix v1.19, server-server, "Presence".

use std::collections::HashSet;

use super::{
    CHANNEL, Presence, PresenceUpdate, REMOTE_MS, STATUS_BYTES_MAX, early::RemotePresence,
};
use colonnade_model::{
    nid::UserNid,
    ruma::{OwnedUserId, UserId, presence::PresenceState},
};
use colonnade_rooms::Result;
use colonnade_storage::users::presence as rows;

impl Presence {
    /// Notes what another server says of its users: of those who are in a room that is known here, or will be soon.
    /// That it speaks for them is the caller's to know.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn receive(&self, said: Vec<RemotePresence>) -> Result<()> {
        let is_state = |said: &RemotePresence| {
            use PresenceState::{Offline, Online, Unavailable};
            matches!(said.presence, Online | Unavailable | Offline)
        };
        let shown = said.into_iter().filter(is_state).map(|mut said| {
            said.status_msg = said.status_msg.filter(|text| text.len() <= STATUS_BYTES_MAX);
            said
        });
        let early = self.take_in(shown.collect()).await?;
        let early = early.into_iter().map(|said| (said.user_id.clone(), said));
        self.early.lock().keep(early.collect(), self.context.now_ms());
        Ok(())
    }

    /// Looks again at what was said too early, if somebody came into a room meanwhile.
    pub(super) async fn take_early(&self) -> Result<()> {
        let waiting = self.early.lock().take(self.context.now_ms());
        if waiting.is_empty() {
            return Ok(());
        }
        let said = waiting.values().map(|(_, said)| said.clone()).collect();
        let early = self.take_in(said).await?;
        let early: HashSet<OwnedUserId> = early.into_iter().map(|said| said.user_id).collect();
        let still = waiting.into_iter().filter(|(user, _)| early.contains(user));
        self.early.lock().put_back(still);
        Ok(())
    }

    /// Takes in what is said of users in a room that is known here, and returns the rest.
    async fn take_in(&self, said: Vec<RemotePresence>) -> Result<Vec<RemotePresence>> {
        let names: Vec<OwnedUserId> = said.iter().map(|said| said.user_id.clone()).collect();
        let nids = self.context.interned.find_users(names.iter().map(|name| &**name)).await?;
        let users: Vec<UserNid> = nids.values().copied().collect();
        let joined = rows::rooms_joined(&self.context.db, &users).await?;
        let joined: HashSet<UserNid> = joined.into_iter().map(|(user, _)| user).collect();
        let nid_of = |user: &UserId| nids.get(user).copied().filter(|nid| joined.contains(nid));
        let now_ms = self.context.now_ms();
        let mut early = Vec::new();
        for said in said {
            let Some(user) = nid_of(&said.user_id) else {
                early.push(said);
                continue;
            };
            let update = PresenceUpdate {
                user,
                state: said.presence,
                status_msg: said.status_msg,
                last_active_ms: now_ms - i64::from(said.last_active_ago.unwrap_or(0)),
                gone_ms: now_ms + REMOTE_MS,
                is_remote: true,
                is_said: false,
            };
            self.heard(update.clone());
            CHANNEL.send(&self.context.streams, &update);
        }
        Ok(early)
    }
}

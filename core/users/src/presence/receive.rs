//! What other servers say of who is there. They say it when it changes and twice an hour, so it holds longer
//! than what a sync says.
//!
//! Source: Matrix v1.19, server-server, "Presence".

use std::collections::HashSet;

use colonnade_model::{
    nid::UserNid,
    ruma::{OwnedUserId, presence::PresenceState},
};
use colonnade_rooms::Result;
use colonnade_storage::users::presence as rows;
use serde::Deserialize;

use super::{CHANNEL, Presence, PresenceUpdate, REMOTE_MS, STATUS_BYTES_MAX};

/// One of the updates of `m.presence` between servers.
#[derive(Debug, Deserialize)]
pub struct RemotePresence {
    /// Who.
    pub user_id: OwnedUserId,
    /// There, or not.
    pub presence: PresenceState,
    /// What the user says of it.
    #[serde(default)]
    pub status_msg: Option<String>,
    /// How long ago the user did something, in milliseconds.
    #[serde(default)]
    pub last_active_ago: Option<u32>,
}

impl Presence {
    /// Notes what another server says of its users, by what they are known as here: of those who are in a room that
    /// is known here. That it speaks for them is the caller's to know.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn receive(&self, said: Vec<(UserNid, RemotePresence)>) -> Result<()> {
        let users: Vec<UserNid> = said.iter().map(|(user, _)| *user).collect();
        let joined = rows::rooms_joined(&self.context.db, &users).await?;
        let joined: HashSet<UserNid> = joined.into_iter().map(|(user, _)| user).collect();
        let now_ms = self.context.now_ms();
        for (user, said) in said {
            let RemotePresence { presence: state, status_msg, last_active_ago, .. } = said;
            let is_state = matches!(
                state,
                PresenceState::Online | PresenceState::Unavailable | PresenceState::Offline
            );
            if !is_state || !joined.contains(&user) {
                continue;
            }
            let update = PresenceUpdate {
                user,
                state,
                status_msg: status_msg.filter(|text| text.len() <= STATUS_BYTES_MAX),
                last_active_ms: now_ms - i64::from(last_active_ago.unwrap_or(0)),
                gone_ms: now_ms + REMOTE_MS,
                is_remote: true,
            };
            self.heard(update.clone());
            CHANNEL.send(&self.context.streams, &update);
        }
        Ok(())
    }
}

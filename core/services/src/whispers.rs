//! What processes tell each other of what lives in memory only: who types, who is there, what counts
//! against a limit. It may get lost, and then is said again or runs out.

use std::sync::Arc;

use colonnade_replication::Streams;
use serde::{Deserialize, Serialize};

use crate::{
    limits::{Class, Key, Limits},
    presence::{Heard, Presence},
    typing::{Said, Typing},
};

/// One thing said.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Whisper {
    /// A user types in a room, or stopped.
    Typing(Said),
    /// A user is there.
    Presence(Heard),
    /// So much was taken from these buckets.
    Taken(Vec<(Class, Key, u32)>),
}

impl Whisper {
    /// Tells the other processes, if there are any.
    pub(crate) fn say(&self, streams: &Streams) {
        if streams.is_shared()
            && let Ok(text) = serde_json::to_vec(self)
        {
            streams.whisper(&text);
        }
    }
}

/// Takes in what other processes say, as long as the services live.
pub(crate) fn listen(
    streams: &Arc<Streams>,
    (typing, presence, limits): (&Arc<Typing>, &Arc<Presence>, &Arc<Limits>),
) {
    let Some(mut whispers) = streams.whispers() else { return };
    let (typing, presence) = (Arc::downgrade(typing), Arc::downgrade(presence));
    let limits = Arc::downgrade(limits);
    tokio::spawn(async move {
        while let Some(text) = whispers.next().await {
            let (Some(typing), Some(presence)) = (typing.upgrade(), presence.upgrade()) else {
                return;
            };
            // What a newer version says and we do not understand is passed over.
            match serde_json::from_slice(&text) {
                Ok(Whisper::Typing(said)) => typing.heard(said),
                Ok(Whisper::Presence(heard)) => presence.heard(heard),
                Ok(Whisper::Taken(taken)) => {
                    if let Some(limits) = limits.upgrade() {
                        limits.heard(&taken);
                    }
                }
                Err(error) => tracing::debug!(%error, "a whisper is not understood"),
            }
        }
    });
}

//! What another server says of a user, and what of it comes before he comes into a room: that is kept for a while,
//! and looked at again when somebody did.

use std::collections::BTreeMap;

use colonnade_model::{
    ruma::{OwnedUserId, presence::PresenceState},
    stream::{StreamAdvance, Touch},
};
use serde::Deserialize;

/// One of the updates of `m.presence` between servers.
#[derive(Debug, Clone, Deserialize)]
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

/// How long it is kept, in milliseconds.
const EARLY_MS: i64 = 60_000;
/// Users of whom something is kept, some 300 bytes each and a status.
const EARLY_MAX: usize = 1_000;
/// And of one server.
const OF_SERVER_MAX: usize = 200;

/// What is kept of users, each with the time until which it is, in milliseconds since 1970.
pub(super) struct Early<T> {
    said: BTreeMap<OwnedUserId, (i64, T)>,
    /// Somebody came into a room since it was looked at.
    is_due: bool,
}

impl<T> Default for Early<T> {
    fn default() -> Self {
        Self { said: BTreeMap::new(), is_due: false }
    }
}

impl<T> Early<T> {
    /// Notes an advance that may say that somebody came into a room, and tells whether to look again.
    pub(super) fn look_at(&mut self, advance: &StreamAdvance) -> bool {
        let moves = |touch: &Touch| matches!(touch, Touch::User(_) | Touch::Anybody);
        self.is_due |=
            !self.said.is_empty() && advance.touched.iter().any(|(touch, _)| moves(touch));
        self.is_due
    }

    /// Takes what is kept, if it has to be looked at again.
    pub(super) fn take(&mut self, now_ms: i64) -> BTreeMap<OwnedUserId, (i64, T)> {
        if !std::mem::take(&mut self.is_due) {
            return BTreeMap::new();
        }
        // None is kept longer, whatever the clock says meanwhile.
        self.said.retain(|_, (until, _)| (now_ms..=now_ms + EARLY_MS).contains(until));
        std::mem::take(&mut self.said)
    }

    /// Keeps what a server says of its users, unless too much is kept.
    pub(super) fn keep(&mut self, said: Vec<(OwnedUserId, T)>, now_ms: i64) {
        self.put_back(said.into_iter().map(|(user, said)| (user, (now_ms + EARLY_MS, said))));
    }

    /// Keeps what was taken as long as it would have been.
    pub(super) fn put_back(&mut self, said: impl Iterator<Item = (OwnedUserId, (i64, T))>) {
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        for (user, said) in said {
            let server = user.server_name();
            let of_server = counted.entry(server.to_string()).or_insert_with(|| {
                self.said.keys().filter(|user| user.server_name() == server).count()
            });
            let is_known = self.said.contains_key(&user);
            if is_known || self.said.len() < EARLY_MAX && *of_server < OF_SERVER_MAX {
                *of_server += usize::from(!is_known);
                self.said.insert(user, said);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use colonnade_model::{
        nid::{RoomNid, UserNid},
        stream::Stream,
    };

    use super::*;

    fn said(server: &str, count: usize, text: &'static str) -> Vec<(OwnedUserId, &'static str)> {
        let user = |number| OwnedUserId::try_from(format!("@u{number}:{server}")).unwrap();
        (0..count).map(|number| (user(number), text)).collect()
    }

    fn advance(touch: Touch) -> StreamAdvance {
        StreamAdvance { stream: Stream::Events, prev: 1, upto: 2, touched: vec![(touch, 2)] }
    }

    #[test]
    fn what_is_kept_is_bounded_for_each_server_and_for_all() {
        let mut early = Early::default();
        early.keep(said("a", 500, "first"), 1);
        assert_eq!(early.said.len(), OF_SERVER_MAX);
        early.keep(said("a", 1, "second"), 2);
        let last = early.said.first_key_value().unwrap();
        assert_eq!((last.0.as_str(), *last.1), ("@u0:a", (2 + EARLY_MS, "second")));
        for server in ["b", "c", "d", "e", "f", "g"] {
            early.keep(said(server, 500, "first"), 1);
        }
        assert_eq!(early.said.len(), EARLY_MAX);
    }

    #[test]
    fn it_is_looked_at_when_somebody_moves_and_not_for_ever() {
        let mut early = Early::default();
        assert!(!early.look_at(&advance(Touch::User(UserNid(1)))), "nothing is kept");
        early.keep(said("a", 2, "here"), 1_000);
        assert!(!early.look_at(&advance(Touch::Room(RoomNid(1)))), "nobody moved");
        assert!(early.take(1_001).is_empty());
        assert!(early.look_at(&advance(Touch::User(UserNid(1)))));
        let taken = early.take(1_001);
        assert_eq!(taken.len(), 2);
        early.put_back(taken.into_iter());
        assert!(early.look_at(&advance(Touch::Anybody)));
        assert!(early.take(1_001 + EARLY_MS).is_empty(), "it is old");
    }
}

//! What is kept in memory of rows that another process may change, and which touch of which stream
//! says that it did. One task calls [`Caches::freshen`] with every advance before anybody is woken
//! by it.
//!
//! The process that writes forgets by itself, right after its commit; this is for all the others, and
//! does nothing where there are none. The list of all caches is in docs/decisions/0020-caches.md.

use std::sync::Arc;

use colonnade_model::stream::{Stream, StreamAdvance, Touch};
use colonnade_replication::Streams;

use crate::{
    Context, account_data::AccountDataService, accounts::Accounts, encryption::Encryption,
    presence::Presence, push::Push, rooms::Rooms, typing::Typing,
};

/// The caches over rows that change.
pub(crate) struct Caches {
    pub(crate) streams: Arc<Streams>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) account_data: Arc<AccountDataService>,
    pub(crate) push: Arc<Push>,
    pub(crate) encryption: Arc<Encryption>,
    pub(crate) rooms: Rooms,
    pub(crate) presence: Arc<Presence>,
    pub(crate) typing: Arc<Typing>,
}

impl Caches {
    /// Collects them.
    pub(crate) fn of(
        context: &Context,
        rooms: &Rooms,
        (accounts, account_data, push): (&Arc<Accounts>, &Arc<AccountDataService>, &Arc<Push>),
        (encryption, presence, typing): (&Arc<Encryption>, &Arc<Presence>, &Arc<Typing>),
    ) -> Self {
        Self {
            streams: Arc::clone(&context.streams),
            accounts: Arc::clone(accounts),
            account_data: Arc::clone(account_data),
            push: Arc::clone(push),
            encryption: Arc::clone(encryption),
            rooms: rooms.clone(),
            presence: Arc::clone(presence),
            typing: Arc::clone(typing),
        }
    }

    /// Forgets what an advance says is stale.
    pub(crate) fn freshen(&self, advance: &StreamAdvance) {
        // What they keep of memberships no writer forgets.
        self.presence.follow(advance);
        self.typing.follow(advance);
        if !self.streams.is_shared() {
            return;
        }
        for (touch, _) in &advance.touched {
            match (touch, advance.stream) {
                (Touch::Redacted(event), _) => self.rooms.forget_event(Some(*event)),
                (Touch::Stale(device), _) => {
                    self.accounts.forget_sessions(Some(*device));
                    self.encryption.forget_counts(Some(*device));
                }
                (Touch::User(user), Stream::AccountData) => {
                    self.account_data.forget_ignored(Some(*user));
                    self.push.forget_rules(Some(*user));
                }
                (Touch::Anybody, stream) => self.clear_those_of(stream),
                (Touch::Room(_) | Touch::User(_) | Touch::Device(_), _) => {}
            }
        }
    }

    /// Forgets everything: nobody knows what was missed.
    pub(crate) fn clear(&self) {
        self.presence.follow_all();
        self.typing.follow_all();
        for stream in Stream::ALL {
            self.clear_those_of(stream);
        }
    }

    fn clear_those_of(&self, stream: Stream) {
        match stream {
            Stream::Events => self.rooms.forget_event(None),
            Stream::AccountData => {
                self.account_data.forget_ignored(None);
                self.push.forget_rules(None);
            }
            Stream::ToDevice => {
                self.accounts.forget_sessions(None);
                self.encryption.forget_counts(None);
            }
            Stream::Receipts | Stream::DeviceLists | Stream::Presence | Stream::Typing => {}
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! Keys as they are known, and as they are looked for. Pure.

use std::{collections::BTreeMap, sync::Arc};

use colonnade_model::ruma::{
    OwnedServerName, ServerName,
    serde::Base64,
    signatures::{PublicKeyMap, PublicKeySet},
};

/// A key that a signature was made with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WantedKey {
    /// The server.
    pub server: OwnedServerName,
    /// The key's name, `ed25519:a_key` say.
    pub key_id: String,
    /// When it has to have been valid, in milliseconds since the Unix epoch; `None`: at any time, as in rooms
    /// of versions 1 to 4.
    pub valid_at_ms: Option<i64>,
}

/// Keys that are looked for, and until when they are wanted to be valid; none: all the server has.
pub(super) type Names = BTreeMap<String, Option<i64>>;

/// A key of a server.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) public: Base64,
    pub(super) valid_until_ms: i64,
}

impl Key {
    fn is_valid_at(&self, ms: Option<i64>) -> bool {
        ms.is_none_or(|ms| ms <= self.valid_until_ms)
    }
}

/// The keys of a server, by name.
pub(super) type ServerKeys = BTreeMap<String, Key>;

/// Says whether every key is there that is looked for, valid when it has to be.
pub(super) fn has_all(keys: &ServerKeys, names: &Names) -> bool {
    let is_there = |(name, at): (&String, &Option<i64>)| {
        keys.get(name).is_some_and(|key| key.is_valid_at(*at))
    };
    names.iter().all(is_there)
}

/// Until when a server is left alone that was asked for its keys.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pause {
    pub(super) until_ms: i64,
    /// How often it was asked and answered since when.
    pub(super) answered: (u32, i64),
    /// The pause that was doubled last; 0: it told its keys.
    pub(super) failed_ms: i64,
}

impl Pause {
    /// The pause after an answer: none until there were so many in so many milliseconds.
    pub(super) fn after_answer(self, (max, within_ms): (u32, i64), now_ms: i64) -> Self {
        let (count, since_ms) = self.answered;
        let is_over = !(since_ms..since_ms.saturating_add(within_ms)).contains(&now_ms);
        let (count, since_ms) = if is_over { (1, now_ms) } else { (count + 1, since_ms) };
        let until_ms = if count >= max { since_ms.saturating_add(within_ms) } else { now_ms };
        Self { until_ms, answered: (count, since_ms), failed_ms: 0 }
    }
}

/// Keys that were looked for and found.
#[derive(Debug, Clone, Default)]
pub struct VerificationKeys(pub(super) BTreeMap<OwnedServerName, Arc<ServerKeys>>);

impl VerificationKeys {
    /// Returns a server's key that was valid at a time; `None`: at any time.
    pub fn key(&self, server: &ServerName, key_id: &str, at_ms: Option<i64>) -> Option<Base64> {
        let key = self.0.get(server)?.get(key_id)?;
        key.is_valid_at(at_ms).then(|| key.public.clone())
    }

    /// Returns the keys that were valid at a time, as `ruma::signatures` takes them; `None`: at any time.
    pub fn valid_at(&self, at_ms: Option<i64>) -> PublicKeyMap {
        self.of(self.0.keys().map(AsRef::as_ref), at_ms)
    }

    /// Returns the keys of some servers that were valid at a time, as `ruma::signatures` takes them.
    pub fn of<'s>(
        &self,
        servers: impl IntoIterator<Item = &'s ServerName>,
        at_ms: Option<i64>,
    ) -> PublicKeyMap {
        let known = servers.into_iter().filter_map(|server| self.0.get_key_value(server));
        let valid = |keys: &ServerKeys| -> PublicKeySet {
            let valid = keys.iter().filter(|(_, key)| key.is_valid_at(at_ms));
            valid.map(|(name, key)| (name.clone(), key.public.clone())).collect()
        };
        known.map(|(server, keys)| (server.to_string(), valid(keys))).collect()
    }
}

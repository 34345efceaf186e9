//! Interning many names at a time: a room of another server brings thousands.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use colonnade_model::{
    nid::{StateKeyNid, UserNid},
    ruma::UserId,
};

use super::{Interned, LIST_MAX, StateKey};
use crate::{
    database::{Bulk, sql, text_list},
    error::{Result, StorageError},
};

impl Interned {
    /// Returns the ids of many users, interning the names that are new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn users<'u>(
        &self,
        user_ids: impl IntoIterator<Item = &'u UserId>,
    ) -> Result<HashMap<&'u UserId, UserNid>> {
        const INSERT: &str =
            "INSERT INTO users (user_id) VALUES ($1) ON CONFLICT (user_id) DO NOTHING";
        let names: BTreeSet<&UserId> = user_ids.into_iter().collect();
        let mut found = self.find_users(names.iter().copied()).await?;
        let new: Vec<&UserId> =
            names.iter().copied().filter(|name| !found.contains_key(name)).collect();
        for part in new.chunks(LIST_MAX) {
            let texts: Vec<String> = part.iter().map(ToString::to_string).collect();
            self.db
                .write_twice(move |tx| {
                    Box::pin(async move {
                        let mut rows = Bulk::new(INSERT);
                        texts.into_iter().for_each(|text| rows.row([text.into()]));
                        rows.insert(tx).await
                    })
                })
                .await?;
            found.extend(self.find_users(part.iter().copied()).await?);
        }
        if let Some(name) = names.iter().find(|name| !found.contains_key(*name)) {
            return Err(StorageError::corrupt("users", "user_id", name, "row vanished"));
        }
        Ok(found)
    }

    /// Returns the ids of many event types with state keys, in the order asked for, interning those that
    /// are new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn state_key_nids(&self, keys: &[StateKey]) -> Result<Vec<StateKeyNid>> {
        const INSERT: &str = "INSERT INTO state_keys (type, state_key) VALUES ($1, $2) \
             ON CONFLICT (type, state_key) DO NOTHING";
        self.find_state_key_nids(keys).await?;
        let unknown: BTreeSet<(String, String)> = keys
            .iter()
            .filter(|key| self.state_key_nids.get(*key).is_none())
            .map(|key| (key.event_type.to_string(), key.state_key.to_string()))
            .collect();
        let unknown: Vec<(String, String)> = unknown.into_iter().collect();
        for part in unknown.chunks(LIST_MAX) {
            let part = part.to_vec();
            self.db
                .write_twice(move |tx| {
                    Box::pin(async move {
                        let mut rows = Bulk::new(INSERT);
                        part.into_iter().for_each(|(kind, key)| {
                            rows.row([kind.into(), key.into()]);
                        });
                        rows.insert(tx).await
                    })
                })
                .await?;
        }
        let found = self.find_state_key_nids(keys).await?;
        let vanished = |key: &StateKey| {
            StorageError::corrupt("state_keys", "state_key", &key.state_key, "row vanished")
        };
        keys.iter().map(|key| found.get(key).copied().ok_or_else(|| vanished(key))).collect()
    }

    /// Returns the ids of those of many event types with state keys that were ever seen.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_state_key_nids(
        &self,
        keys: &[StateKey],
    ) -> Result<HashMap<StateKey, StateKeyNid>> {
        const FIND: &str = "SELECT skey_nid, state_key FROM state_keys \
             WHERE type = $1 AND state_key IN {TEXTS 2}";
        let mut found = HashMap::with_capacity(keys.len());
        let mut unknown: BTreeMap<&str, Vec<&StateKey>> = BTreeMap::new();
        for key in keys {
            match self.state_key_nids.get(key) {
                Some(nid) => drop(found.insert(key.clone(), nid)),
                None => unknown.entry(&key.event_type).or_default().push(key),
            }
        }
        for (event_type, keys) in unknown {
            for part in keys.chunks(LIST_MAX) {
                let names: Vec<&str> = part.iter().map(|key| &*key.state_key).collect();
                let list = text_list(&names);
                let kind = event_type.to_owned();
                let rows: Vec<(i64, String)> = read_list!(self.db, FIND, |sql, c| {
                    sql::query_as(sql).bind(kind).bind(list).fetch_all(c)
                })?;
                for (nid, state_key) in rows {
                    let key =
                        StateKey { event_type: event_type.into(), state_key: state_key.into() };
                    self.state_key_nids.insert(key.clone(), StateKeyNid(nid));
                    self.state_key_names.insert(StateKeyNid(nid), key.clone());
                    found.insert(key, StateKeyNid(nid));
                }
            }
        }
        Ok(found)
    }
}

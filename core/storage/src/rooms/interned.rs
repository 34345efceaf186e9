//! Interned names: users, event types and state keys as small integers. Rows are inserted in a
//! write of their own before the main one; an orphan is harmless and a name never changes its id,
//! so the caches need no invalidation.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::{
    nid::{StateKeyNid, TypeNid, UserNid},
    ruma::{OwnedUserId, UserId},
};
use quick_cache::sync::Cache;

mod bulk;

use crate::{
    Database,
    database::{int_list, metrics::CacheFigures, sql, text_list},
    error::{Result, StorageError},
};

/// Names kept in memory, per table and direction; about 150 bytes each.
const CACHED_MAX: usize = 50_000;

/// Names bound to one statement at most; longer lists are read in parts.
const LIST_MAX: usize = 5_000;

/// An event type with a state key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StateKey {
    /// The event type, `m.room.member` say.
    pub event_type: Arc<str>,
    /// The state key, a user id or the empty string mostly.
    pub state_key: Arc<str>,
}

/// The interned names of one database.
pub struct Interned {
    db: Database,
    users: Cache<Arc<str>, UserNid>,
    user_ids: Cache<UserNid, OwnedUserId>,
    types: Cache<Arc<str>, TypeNid>,
    type_names: Cache<TypeNid, Arc<str>>,
    state_key_nids: Cache<StateKey, StateKeyNid>,
    state_key_names: Cache<StateKeyNid, StateKey>,
}

impl Interned {
    /// Makes empty caches over `db`.
    pub fn new(db: Database) -> Self {
        Self {
            db,
            users: Cache::new(CACHED_MAX),
            user_ids: Cache::new(CACHED_MAX),
            types: Cache::new(1_000),
            type_names: Cache::new(1_000),
            state_key_nids: Cache::new(CACHED_MAX),
            state_key_names: Cache::new(CACHED_MAX),
        }
    }

    /// Returns how well the caches do.
    pub fn figures(&self) -> Vec<CacheFigures> {
        vec![
            CacheFigures::of("users", &self.users),
            CacheFigures::of("user_ids", &self.user_ids),
            CacheFigures::of("event_types", &self.types),
            CacheFigures::of("state_keys", &self.state_key_nids),
        ]
    }

    /// Returns the id of a user, or `None` if the user was never seen.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_user(&self, user_id: &UserId) -> Result<Option<UserNid>> {
        const FIND: &str = "SELECT user_nid FROM users WHERE user_id = $1";
        if let Some(nid) = self.users.get(user_id.as_str()) {
            return Ok(Some(nid));
        }
        let text = user_id.as_str();
        let found: Option<i64> =
            read!(self.db, |c| sql::query_scalar(FIND).bind(text.to_owned()).fetch_optional(c))?;
        Ok(found.map(|nid| {
            self.users.insert(text.into(), UserNid(nid));
            UserNid(nid)
        }))
    }

    /// Returns the ids of those of many users that were ever seen.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_users<'u>(
        &self,
        user_ids: impl IntoIterator<Item = &'u UserId>,
    ) -> Result<HashMap<&'u UserId, UserNid>> {
        const FIND: &str = "SELECT user_nid, user_id FROM users WHERE user_id IN {TEXTS 1}";
        let (mut found, mut unknown) = (HashMap::new(), Vec::new());
        for user_id in user_ids {
            match self.users.get(user_id.as_str()) {
                Some(nid) => drop(found.insert(user_id, nid)),
                None => unknown.push(user_id),
            }
        }
        for part in unknown.chunks(LIST_MAX) {
            let list = text_list(part);
            let rows: Vec<(i64, String)> =
                read_list!(self.db, FIND, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
            let nids: HashMap<&str, i64> =
                rows.iter().map(|(nid, user_id)| (user_id.as_str(), *nid)).collect();
            for user_id in part {
                if let Some(nid) = nids.get(user_id.as_str()).copied().map(UserNid) {
                    self.users.insert(user_id.as_str().into(), nid);
                    found.insert(*user_id, nid);
                }
            }
        }
        Ok(found)
    }

    /// Returns the id of a user, interning the name if it is new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user(&self, user_id: &UserId) -> Result<UserNid> {
        const INSERT: &str =
            "INSERT INTO users (user_id) VALUES ($1) ON CONFLICT (user_id) DO NOTHING";
        if let Some(nid) = self.find_user(user_id).await? {
            return Ok(nid);
        }
        let text = user_id.to_string();
        self.db
            .write_twice(|tx| Box::pin(async move { execute!(tx, sql::query(INSERT).bind(text)) }))
            .await?;
        let found = self.find_user(user_id).await?;
        found.ok_or_else(|| StorageError::corrupt("users", "user_id", user_id, "row vanished"))
    }

    /// Returns the name of a user.
    ///
    /// # Errors
    /// When the database fails or has no such row.
    pub async fn user_id(&self, nid: UserNid) -> Result<OwnedUserId> {
        const NAME: &str = "SELECT user_id FROM users WHERE user_nid = $1";
        if let Some(user_id) = self.user_ids.get(&nid) {
            return Ok(user_id);
        }
        let text: Option<String> =
            read!(self.db, |c| sql::query_scalar(NAME).bind(nid.0).fetch_optional(c))?;
        self.remember_user(nid, text.as_deref())
    }

    /// Returns the names of many users, in the order asked for.
    ///
    /// # Errors
    /// When the database fails or lacks a row.
    pub async fn user_ids(&self, nids: &[UserNid]) -> Result<Vec<OwnedUserId>> {
        const NAMES: &str = "SELECT user_nid, user_id FROM users WHERE user_nid IN {INTS 1}";
        let unknown = nids.iter().filter(|nid| self.user_ids.get(*nid).is_none()).map(|nid| nid.0);
        let unknown: Vec<i64> = unknown.collect();
        let mut fresh = HashMap::with_capacity(unknown.len());
        for chunk in unknown.chunks(LIST_MAX) {
            let list = int_list(chunk.iter().copied());
            let rows: Vec<(i64, String)> = read_list!(self.db, NAMES, |sql, c| {
                sql::query_as(sql).bind(list).fetch_all(c)
            })?;
            for (nid, text) in rows {
                fresh.insert(UserNid(nid), self.remember_user(UserNid(nid), Some(&text))?);
            }
        }
        let mut names = Vec::with_capacity(nids.len());
        for nid in nids {
            match fresh.get(nid) {
                Some(user_id) => names.push(user_id.clone()),
                None => names.push(self.user_id(*nid).await?),
            }
        }
        Ok(names)
    }

    fn remember_user(&self, nid: UserNid, text: Option<&str>) -> Result<OwnedUserId> {
        let corrupt = |why: &str| StorageError::corrupt("users", "user_id", nid, why);
        let text = text.ok_or_else(|| corrupt("no such row"))?;
        let user_id = UserId::parse(text).map_err(|error| corrupt(&error.to_string()))?;
        self.users.insert(text.into(), nid);
        self.user_ids.insert(nid, user_id.clone());
        Ok(user_id)
    }

    /// Returns the id of an event type, interning it if it is new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn event_type(&self, name: &str) -> Result<TypeNid> {
        const FIND: &str = "SELECT type_nid FROM event_types WHERE type = $1";
        const INSERT: &str =
            "INSERT INTO event_types (type) VALUES ($1) ON CONFLICT (type) DO NOTHING";
        if let Some(nid) = self.types.get(name) {
            return Ok(nid);
        }
        let find = || async {
            read!(self.db, |c| sql::query_scalar::<_, i64>(FIND)
                .bind(name.to_owned())
                .fetch_optional(c))
        };
        let mut found = find().await?;
        if found.is_none() {
            let text = name.to_owned();
            self.db
                .write_twice(|tx| {
                    Box::pin(async move { execute!(tx, sql::query(INSERT).bind(text)) })
                })
                .await?;
            found = find().await?;
        }
        let nid = found
            .map(TypeNid)
            .ok_or_else(|| StorageError::corrupt("event_types", "type", name, "row vanished"))?;
        self.types.insert(name.into(), nid);
        self.type_names.insert(nid, name.into());
        Ok(nid)
    }

    /// Returns the name of an event type.
    ///
    /// # Errors
    /// When the database fails or has no such row.
    pub async fn type_name(&self, nid: TypeNid) -> Result<Arc<str>> {
        const NAME: &str = "SELECT type FROM event_types WHERE type_nid = $1";
        if let Some(name) = self.type_names.get(&nid) {
            return Ok(name);
        }
        let text: Option<String> =
            read!(self.db, |c| sql::query_scalar(NAME).bind(nid.0).fetch_optional(c))?;
        let name: Arc<str> = text
            .ok_or_else(|| StorageError::corrupt("event_types", "type", nid, "no such row"))?
            .into();
        self.type_names.insert(nid, Arc::clone(&name));
        Ok(name)
    }

    /// Returns the id of an event type with a state key, or `None` if the pair was never seen.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_state_key_nid(
        &self,
        event_type: &str,
        state_key: &str,
    ) -> Result<Option<StateKeyNid>> {
        const FIND: &str = "SELECT skey_nid FROM state_keys WHERE type = $1 AND state_key = $2";
        let key = StateKey { event_type: event_type.into(), state_key: state_key.into() };
        if let Some(nid) = self.state_key_nids.get(&key) {
            return Ok(Some(nid));
        }
        let found: Option<i64> = read!(self.db, |c| sql::query_scalar(FIND)
            .bind(event_type.to_owned())
            .bind(state_key.to_owned())
            .fetch_optional(c))?;
        Ok(found.map(|nid| {
            self.state_key_nids.insert(key.clone(), StateKeyNid(nid));
            self.state_key_names.insert(StateKeyNid(nid), key);
            StateKeyNid(nid)
        }))
    }

    /// Returns the id of an event type with a state key, interning the pair if it is new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn state_key_nid(&self, event_type: &str, state_key: &str) -> Result<StateKeyNid> {
        const INSERT: &str = "INSERT INTO state_keys (type, state_key) VALUES ($1, $2) \
             ON CONFLICT (type, state_key) DO NOTHING";
        if let Some(nid) = self.find_state_key_nid(event_type, state_key).await? {
            return Ok(nid);
        }
        let (a, b) = (event_type.to_owned(), state_key.to_owned());
        self.db
            .write_twice(|tx| {
                Box::pin(async move { execute!(tx, sql::query(INSERT).bind(a).bind(b)) })
            })
            .await?;
        self.find_state_key_nid(event_type, state_key).await?.ok_or_else(|| {
            StorageError::corrupt("state_keys", "state_key", state_key, "row vanished")
        })
    }

    /// Returns the event types and state keys behind many ids, in the order asked for.
    ///
    /// # Errors
    /// When the database fails or lacks a row.
    pub async fn state_keys(&self, nids: &[StateKeyNid]) -> Result<Vec<StateKey>> {
        const NAMES: &str =
            "SELECT skey_nid, type, state_key FROM state_keys WHERE skey_nid IN {INTS 1}";
        let unknown =
            nids.iter().filter(|nid| self.state_key_names.get(*nid).is_none()).map(|nid| nid.0);
        let unknown: Vec<i64> = unknown.collect();
        let mut fresh = HashMap::with_capacity(unknown.len());
        for chunk in unknown.chunks(LIST_MAX) {
            let list = int_list(chunk.iter().copied());
            let rows: Vec<(i64, String, String)> = read_list!(self.db, NAMES, |sql, c| {
                sql::query_as(sql).bind(list).fetch_all(c)
            })?;
            for (nid, event_type, state_key) in rows {
                let key = StateKey { event_type: event_type.into(), state_key: state_key.into() };
                self.state_key_names.insert(StateKeyNid(nid), key.clone());
                fresh.insert(StateKeyNid(nid), key);
            }
        }
        let missing =
            |nid: StateKeyNid| StorageError::corrupt("state_keys", "skey_nid", nid, "no such row");
        nids.iter()
            .map(|nid| {
                let key = fresh.get(nid).cloned().or_else(|| self.state_key_names.get(nid));
                key.ok_or_else(|| missing(*nid))
            })
            .collect()
    }
}

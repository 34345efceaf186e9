//! Account data: what clients keep here for their user, globally and per room, tags among it; and the
//! list of users somebody ignores. Push rules are kept here too, but changed through `push`.

use std::{collections::HashSet, sync::Arc};

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{RoomNid, UserNid},
    ruma::{OwnedUserId, RoomId},
    stream::{Position, Positions, Stream, StreamAdvance, Touch},
};
use colonnade_replication::Subscriber;
use colonnade_rooms::{Context, Error, Result, generation_cache::GenerationCache};
use colonnade_rules::{
    account_data::{InvitePermission, ignored_of},
    push,
};
use colonnade_storage::{
    Database,
    rooms::{heads, members},
    users::account_data,
};
use serde_json::{Map, Value, value::RawValue};

pub use colonnade_storage::users::account_data::{AccountData, AccountDataPage, Scope};

/// The largest content, in bytes: `m.direct` of somebody who knows ten thousand people fits.
const BODY_BYTES_MAX: usize = 512 * 1024;
/// The longest type, in bytes.
const TYPE_BYTES_MAX: usize = 255;
/// The longest name of a tag, in bytes.
///
/// Source: Matrix v1.19, client-server, "Room tagging".
const TAG_BYTES_MAX: usize = 255;
/// Bytes of a page of what changed: it ends with the content that reaches them.
const PAGE_BYTES: i64 = 256 * 1024;
/// Ignore lists kept in memory, mostly empty.
const IGNORED_CACHED_MAX: usize = 20_000;

/// The type of the tags of a room.
const TAGS: &str = "m.tag";
/// The type of the list of direct chats.
const DIRECT: &str = "m.direct";
/// The type of the list of ignored users.
const IGNORED: &str = "m.ignored_user_list";
/// The types of what a user says about being invited: that of the specification, and that of before.
pub const INVITE_PERMISSIONS: [&str; 2] =
    ["m.invite_permission_config", "org.matrix.msc4155.invite_permission_config"];
/// The type of the push rules.
pub(crate) const PUSH_RULES: &str = "m.push_rules";
/// Types that have endpoints of their own.
const NOT_SET_HERE: [&str; 2] = ["m.fully_read", PUSH_RULES];

/// Returns by whom a user wants to be invited.
///
/// # Errors
/// When the database fails.
pub async fn invite_permission(db: &Database, user: UserNid) -> Result<InvitePermission> {
    let mut contents = Vec::new();
    for event_type in INVITE_PERMISSIONS {
        contents.extend(account_data::get(db, user, None, event_type).await?);
    }
    Ok(InvitePermission::read(&contents))
}

/// Which changes of a user's account data are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Changes {
    /// What they are about.
    pub scope: Scope,
    /// They are above this position.
    pub after: Position,
    /// They are not above this one.
    pub upto: Position,
    /// Who asks was told nothing yet: the last page has the push rules even of a user who never changed
    /// any.
    pub is_first: bool,
}

/// Account data of local users.
pub struct AccountDataService {
    context: Arc<Context>,
    ignored: GenerationCache<UserNid, Arc<HashSet<OwnedUserId>>>,
}

impl AccountDataService {
    /// Begins with no list of ignored users in memory.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, ignored: GenerationCache::new(IGNORED_CACHED_MAX) }
    }

    /// Returns a piece of account data.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is none.
    pub async fn get(
        &self,
        session: &Session,
        room: Option<&RoomId>,
        event_type: &str,
    ) -> Result<Box<RawValue>> {
        let room = self.room(session, room).await?;
        let found = account_data::get(&self.context.db, session.user, room, event_type).await?;
        Ok(found.ok_or_else(|| MatrixError::not_found("there is no such account data"))?)
    }

    /// Stores a piece of account data.
    ///
    /// # Errors
    /// 405 `M_BAD_JSON` for types that have endpoints of their own, `M_TOO_LARGE`, `M_FORBIDDEN` when
    /// the user keeps as much as it may, `M_NOT_FOUND` when there is no such room.
    pub async fn set(
        &self,
        session: &Session,
        room: Option<&RoomId>,
        event_type: &str,
        body: Box<RawValue>,
    ) -> Result<()> {
        require_settable(event_type)?;
        if event_type.is_empty() || event_type.len() > TYPE_BYTES_MAX {
            return Err(MatrixError::invalid_param("the type is empty or too long").into());
        }
        let room = self.room(session, room).await?;
        self.put(session.user, room, event_type, body).await?;
        Ok(())
    }

    /// Deletes a piece of account data, if there is one. Devices that had it hear that it is empty.
    ///
    /// Source: MSC3391.
    ///
    /// # Errors
    /// 405 `M_BAD_JSON` for types that have endpoints of their own, `M_NOT_FOUND` when there is no such room.
    pub async fn delete(
        &self,
        session: &Session,
        room: Option<&RoomId>,
        event_type: &str,
    ) -> Result<()> {
        require_settable(event_type)?;
        let room = self.room(session, room).await?;
        let (user, types) = (session.user, [event_type.to_owned()]);
        let write = self.context.db.write(move |tx| {
            Box::pin(async move { account_data::delete(tx, user, room, &types).await })
        });
        write.await?;
        if room.is_none() && event_type == IGNORED {
            self.ignored.remove([&user]);
        }
        Ok(())
    }

    /// Stores a piece of account data of any type, without asking whether a client may set it so.
    ///
    /// # Errors
    /// `M_TOO_LARGE`, `M_FORBIDDEN` when the user keeps as much as it may.
    pub async fn put(
        &self,
        user: UserNid,
        room: Option<RoomNid>,
        event_type: &str,
        body: Box<RawValue>,
    ) -> Result<Position> {
        require_small(&body)?;
        let body = if is_empty(&body) { deleted() } else { body };
        let data = AccountData { room, event_type: event_type.to_owned(), body };
        let quota = self.context.settings.limits.account_data();
        let write = self.context.db.write(move |tx| {
            Box::pin(async move { account_data::put(tx, user, data, &quota).await })
        });
        let position = write.await?;
        if room.is_none() && event_type == IGNORED {
            self.ignored.remove([&user]);
        }
        Ok(position)
    }

    /// Changes a piece of account data in one step: whoever else changes it comes before or after.
    /// `change` gets the content there is and returns the new one, or `None` to leave it.
    ///
    /// # Errors
    /// What `change` returned; `M_TOO_LARGE`.
    pub async fn change<F>(
        &self,
        user: UserNid,
        room: Option<RoomNid>,
        event_type: &'static str,
        change: F,
    ) -> Result<()>
    where
        F: FnOnce(Option<&RawValue>) -> Result<Option<Value>> + Clone + Send + 'static,
    {
        let quota = self.context.settings.limits.account_data();
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                let stored = account_data::get_in(tx, user, room, event_type).await?;
                let body = match change(stored.as_deref()).and_then(|new| checked(new.as_ref())) {
                    Ok(Some(body)) => body,
                    other => return Ok(other.map(|_| ())),
                };
                let data = AccountData { room, event_type: event_type.to_owned(), body };
                account_data::put(tx, user, data, &quota).await?;
                Ok(Ok(()))
            })
        });
        let changed = write.await?;
        if room.is_none() && event_type == IGNORED {
            self.ignored.remove([&user]);
        }
        changed
    }

    /// Returns a page of what changed in a user's account data, about 256 KiB of it, in that order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn page(&self, user: UserNid, changes: Changes) -> Result<AccountDataPage> {
        let Changes { scope, after, upto, is_first } = changes;
        let (db, range) = (&self.context.db, (after, upto));
        let mut page = account_data::changes_page(db, user, scope, range, PAGE_BYTES).await?;
        if after == 0 {
            // Whoever has nothing yet need not hear of what is gone.
            page.data.retain(|data| data.body.get() != account_data::DELETED);
        }
        let is_due = is_first && page.next.is_none() && !matches!(scope, Scope::Room(_));
        let is_rules = |data: &AccountData| data.room.is_none() && data.event_type == PUSH_RULES;
        if !is_due || page.data.iter().any(is_rules) {
            return Ok(page);
        }
        if account_data::get(db, user, None, PUSH_RULES).await?.is_none() {
            let user_id = self.context.interned.user_id(user).await?;
            let rules = push::render(&push::server_default(&user_id));
            let rules = rules.map_err(|error| Error::internal("render push rules", error))?;
            let body = raw(&serde_json::json!({ "global": rules }))?;
            page.data.push(AccountData { room: None, event_type: PUSH_RULES.to_owned(), body });
        }
        Ok(page)
    }

    /// Returns the rooms about which a user's account data changed above `after` and up to `upto`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn changed_rooms(
        &self,
        user: UserNid,
        after: Position,
        upto: Position,
    ) -> Result<Vec<RoomNid>> {
        Ok(account_data::changed_rooms(&self.context.db, user, after, upto).await?)
    }

    // === Ignored users ===

    /// Returns whom a user ignores.
    ///
    /// Source: Matrix v1.19, client-server, "Ignoring Users".
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ignored(&self, user: UserNid) -> Result<Arc<HashSet<OwnedUserId>>> {
        if let Some(ignored) = self.ignored.get(&user) {
            return Ok(ignored);
        }
        let generation = self.ignored.generation();
        let body = account_data::get(&self.context.db, user, None, IGNORED).await?;
        let ignored = Arc::new(body.map(|body| ignored_of(&body)).unwrap_or_default());
        self.ignored.insert(generation, user, Arc::clone(&ignored));
        Ok(ignored)
    }

    // === Tags ===

    /// Returns the tags of a room as the content of `m.tag`: none of a room that the user has nothing
    /// to do with.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tags(&self, session: &Session, room: &RoomId) -> Result<Value> {
        let room = match self.room(session, Some(room)).await {
            Ok(room) => room,
            Err(Error::Client(_)) => return Ok(Value::Object(tags_of(None))),
            Err(error) => return Err(error),
        };
        let stored = account_data::get(&self.context.db, session.user, room, TAGS).await?;
        Ok(Value::Object(tags_of(stored.as_deref())))
    }

    /// Puts a tag on a room, or takes it off with `None`.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when the user has nothing to do with the room, `M_INVALID_PARAM`, `M_TOO_LARGE`.
    pub async fn set_tag(
        &self,
        session: &Session,
        room: &RoomId,
        tag: String,
        info: Option<Value>,
    ) -> Result<()> {
        if tag.is_empty() || tag.len() > TAG_BYTES_MAX {
            return Err(MatrixError::invalid_param("the tag is empty or too long").into());
        }
        let room = self.room(session, Some(room)).await?;
        self.change(session.user, room, TAGS, move |stored| {
            let mut tags = tags_of(stored);
            let known = tags.entry("tags").or_insert_with(|| Value::Object(Map::new()));
            if !known.is_object() {
                *known = Value::Object(Map::new());
            }
            let changed = match info {
                Some(info) => {
                    known[&tag] = info;
                    true
                }
                None => known.as_object_mut().is_some_and(|known| known.remove(&tag).is_some()),
            };
            Ok(changed.then_some(Value::Object(tags)))
        })
        .await
    }

    /// Gives a room the tags that another has, unless it has some already.
    pub async fn copy_tags(&self, user: UserNid, from: RoomNid, to: RoomNid) -> Result<()> {
        let Some(tags) = account_data::get(&self.context.db, user, Some(from), TAGS).await? else {
            return Ok(());
        };
        let tags = Value::Object(tags_of(Some(&*tags)));
        let change = move |stored: Option<&RawValue>| Ok(stored.is_none().then_some(tags));
        self.change(user, Some(to), TAGS, change).await
    }

    // === Direct chats ===

    /// Makes a room a direct chat with whomever another is one with.
    ///
    /// Source: Matrix v1.19, client-server, "Direct Messaging".
    pub async fn copy_direct(&self, user: UserNid, from: &RoomId, to: &RoomId) -> Result<()> {
        let (from, to) = (from.to_string(), to.to_string());
        self.change(user, None, DIRECT, move |stored| Ok(direct_too(stored, &from, &to))).await
    }

    /// Returns a room that the user has or had to do with: nobody else is told that it exists.
    async fn room(&self, session: &Session, room: Option<&RoomId>) -> Result<Option<RoomNid>> {
        let Some(room_id) = room else { return Ok(None) };
        let foreign = || MatrixError::not_found("you have nothing to do with such a room");
        let db = &self.context.db;
        let found = heads::find(db, room_id).await?.ok_or_else(foreign)?;
        members::get(db, found.nid, session.user).await?.ok_or_else(foreign)?;
        Ok(Some(found.nid))
    }
}

/// Forgets lists of ignored users that another process changed.
impl Subscriber for AccountDataService {
    fn advanced(&self, advance: &StreamAdvance) {
        for (touch, _) in &advance.touched {
            match (touch, advance.stream) {
                (Touch::User(user), Stream::AccountData) => self.ignored.remove([user]),
                (Touch::Anybody, Stream::AccountData) => self.ignored.clear(),
                _ => {}
            }
        }
    }

    fn missed(&self, _: Positions) {
        self.ignored.clear();
    }
}

/// Reads the content of `m.tag`; what is not of its shape is as good as nothing.
fn tags_of(stored: Option<&RawValue>) -> Map<String, Value> {
    let parsed = stored.and_then(|body| serde_json::from_str(body.get()).ok());
    parsed.unwrap_or_else(|| Map::from_iter([("tags".to_owned(), Value::Object(Map::new()))]))
}

/// Returns the content of `m.direct` with `to` wherever `from` is; `None` if that changes nothing.
fn direct_too(stored: Option<&RawValue>, from: &str, to: &str) -> Option<Value> {
    let mut chats: Map<String, Value> = serde_json::from_str(stored?.get()).ok()?;
    let mut changed = false;
    for rooms in chats.values_mut().filter_map(Value::as_array_mut) {
        if rooms.iter().any(|room| room == from) && rooms.iter().all(|room| room != to) {
            rooms.push(to.into());
            changed = true;
        }
    }
    changed.then_some(Value::Object(chats))
}

pub(crate) fn raw(value: &Value) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(value).map_err(|error| Error::internal("render JSON", error))
}

fn checked(new: Option<&Value>) -> Result<Option<Box<RawValue>>> {
    let Some(new) = new else { return Ok(None) };
    let body = raw(new)?;
    require_small(&body)?;
    Ok(Some(body))
}

fn require_settable(event_type: &str) -> Result<(), MatrixError> {
    if NOT_SET_HERE.contains(&event_type) {
        let why = format!("{event_type} has an endpoint of its own");
        return Err(MatrixError::bad_json(why).with_status(405));
    }
    Ok(())
}

/// Tells whether a content is an object without anything in it, which is as good as none.
fn is_empty(body: &RawValue) -> bool {
    let inside = body.get().trim().strip_prefix('{').and_then(|body| body.strip_suffix('}'));
    inside.is_some_and(|inside| inside.trim().is_empty())
}

fn deleted() -> Box<RawValue> {
    RawValue::from_string(account_data::DELETED.to_owned()).expect("an empty object is JSON")
}

fn require_small(body: &RawValue) -> Result<(), MatrixError> {
    if body.get().len() > BODY_BYTES_MAX {
        let why = format!("account data may have {BODY_BYTES_MAX} bytes");
        return Err(MatrixError::too_large(why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_direct_chat_goes_along_to_the_room_that_replaces_it() {
        let after = |stored: Value| direct_too(Some(&raw(&stored).unwrap()), "!old:a", "!new:a");
        let chats = json!({ "@b:a": ["!old:a", "!x:a"], "@c:a": ["!x:a"] });
        let expected = json!({ "@b:a": ["!old:a", "!x:a", "!new:a"], "@c:a": ["!x:a"] });
        assert_eq!(after(chats), Some(expected));
        for unchanged in [
            json!({ "@b:a": ["!x:a"] }),
            json!({ "@b:a": ["!old:a", "!new:a"] }),
            json!({ "@b:a": "!old:a" }),
            json!({}),
            json!(["!old:a"]),
        ] {
            assert_eq!(after(unchanged.clone()), None, "{unchanged}");
        }
        assert_eq!(direct_too(None, "!old:a", "!new:a"), None);
    }

    #[test]
    fn tags_of_another_shape_are_none() {
        let read = |stored: Value| Value::Object(tags_of(Some(&raw(&stored).unwrap())));
        let tags = json!({ "tags": { "u.a": { "order": 0.5 } } });
        assert_eq!(read(tags.clone()), tags);
        assert_eq!(read(json!(["u.a"])), json!({ "tags": {} }));
        assert_eq!(Value::Object(tags_of(None)), json!({ "tags": {} }));
    }

    #[test]
    fn account_data_is_small() {
        let of_bytes = |bytes: usize| checked(Some(&json!("x".repeat(bytes - 2))));
        assert!(of_bytes(BODY_BYTES_MAX).unwrap().is_some());
        let Err(Error::Client(error)) = of_bytes(BODY_BYTES_MAX + 1) else { panic!("too large") };
        assert_eq!(error.errcode, "M_TOO_LARGE");
        assert!(checked(None).unwrap().is_none());
    }
}

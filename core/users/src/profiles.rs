//! Profiles: the name, the picture and further fields a user shows, and finding users by name. That
//! rooms hear of a new name is `services::Services::set_profile_fields`'s concern.

use std::sync::Arc;

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{RoomNid, UserNid},
    ruma::{OwnedRoomId, OwnedUserId, UserId},
};
use colonnade_rooms::{Context, Result};
use colonnade_storage::{
    StorageError, Tx,
    rooms::{heads, members},
    users::{
        accounts, profiles,
        words::{self, Reach},
    },
};
use serde_json::{Map, Value};

pub use colonnade_storage::users::profiles::{AVATAR_URL, DISPLAYNAME, Shown};

/// The largest profile, in bytes of JSON.
///
/// Source: Matrix v1.19, client-server, "Profiles", "Size limits".
const PROFILE_BYTES_MAX: usize = 64 * 1024;
/// The longest name of a field, in bytes. Source: as above.
const FIELD_BYTES_MAX: usize = 255;
/// The longest display name, in bytes: it is copied into an event per room.
const DISPLAYNAME_BYTES_MAX: usize = 1_024;
/// The longest picture URI, in bytes.
const AVATAR_URL_BYTES_MAX: usize = 1_024;
/// Words a user is found by, and the length of each in bytes.
const WORDS_MAX: usize = 20;
/// Bytes of a word that count.
const WORD_BYTES_MAX: usize = 64;
/// Users one search may return.
const RESULTS_MAX: usize = 50;
/// Users looked at for one search whose other words have to fit too.
const CANDIDATES_MAX: i64 = 500;

/// Rooms on one page of those shared with somebody.
const MUTUAL_ROOMS_MAX: usize = 1_000;

/// A user found by a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The user.
    pub user_id: OwnedUserId,
    /// What people see of the user.
    pub shown: Shown,
}

/// Profiles of local users.
pub struct Profiles {
    context: Arc<Context>,
}

impl Profiles {
    /// Works on the database of `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Returns all fields of a user.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such user here.
    pub async fn get(&self, user_id: &UserId) -> Result<Map<String, Value>> {
        let user = self.local(user_id).await?;
        Ok(profiles::fields(&self.context.db, user).await?.into_iter().collect())
    }

    /// Returns one field of a user.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such user here, or the field is not set.
    pub async fn field(&self, user_id: &UserId, name: &str) -> Result<Value> {
        let user = self.local(user_id).await?;
        let value = profiles::field(&self.context.db, user, name).await?;
        Ok(value.ok_or_else(|| MatrixError::not_found("this field of the profile is not set"))?)
    }

    /// Returns what people see of a user.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn shown(&self, user: UserNid) -> Result<Shown> {
        Ok(profiles::shown(&self.context.db, user).await?)
    }

    /// Stores fields of the session's user, or deletes those with `None`: all of them or none. Tells
    /// whether what people see of the user changed.
    ///
    /// The profile is read in the transaction that changes it: whoever changes another field at the
    /// same time comes before or after.
    ///
    /// # Errors
    /// `M_KEY_TOO_LARGE`, `M_PROFILE_TOO_LARGE`, `M_INVALID_PARAM`, `M_BAD_JSON`.
    pub async fn set(
        &self,
        session: &Session,
        changes: Vec<(String, Option<Value>)>,
    ) -> Result<bool> {
        let mut checked = Vec::with_capacity(changes.len());
        for (name, value) in changes {
            let value = check(&name, value)?;
            checked.push((name, value));
        }
        let (user, user_id) = (session.user, session.user_id.clone());
        let write = self
            .context
            .db
            .write(move |tx| Box::pin(async move { change(tx, user, &user_id, checked).await }));
        write.await?
    }

    /// Finds users by the beginnings of the words of their names: those the searcher shares a room
    /// with or could meet in a public one. Returns at most `limit` and whether there are more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn search(
        &self,
        session: &Session,
        term: &str,
        limit: usize,
    ) -> Result<(Vec<Found>, bool)> {
        let limit = limit.clamp(1, RESULTS_MAX);
        let term = term.strip_prefix('@').map_or(term, |id| {
            id.strip_suffix(self.context.server_name.as_str())
                .and_then(|name| name.strip_suffix(':'))
                .unwrap_or(id)
        });
        let mut wanted = words(term);
        wanted.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let Some(first) = wanted.first() else { return Ok((Vec::new(), false)) };
        let reach = match self.context.settings.user_directory.search_all_users {
            true => Reach::Everybody,
            false => Reach::SharedOrPublic(session.user),
        };
        let (from, upto) = (first.as_bytes().to_vec(), after(first));
        let (db, me) = (&self.context.db, session.user);
        let users = words::search(db, from, upto, me, reach, CANDIDATES_MAX).await?;
        let names = self.context.interned.user_ids(&users).await?;
        let mut shown = profiles::shown_many(db, &users).await?;
        let mut found = Vec::new();
        for (user, user_id) in users.into_iter().zip(names) {
            let place = shown.iter().position(|(known, _)| *known == user);
            let shown = place.map(|place| shown.swap_remove(place).1).unwrap_or_default();
            let has = words_of(&user_id, shown.displayname.as_deref());
            let fits = |word: &String| has.iter().any(|known| known.starts_with(word.as_bytes()));
            if wanted.iter().all(fits) {
                found.push(Found { user_id, shown });
            }
        }
        // Whoever is called exactly so comes first.
        found.sort_by_key(|found| (!is_exact(found, term), found.user_id.as_str().len()));
        let limited = found.len() > limit;
        found.truncate(limit);
        Ok((found, limited))
    }

    /// Returns a page of the rooms that both the session's user and another are in, how many there
    /// are, and from where to go on. `from` is empty for the first page.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when `from` is not from an earlier page.
    pub async fn mutual_rooms(
        &self,
        session: &Session,
        user_id: &UserId,
        from: &str,
    ) -> Result<(Vec<OwnedRoomId>, usize, Option<String>)> {
        let invalid = |_| MatrixError::invalid_param("from is not from an earlier answer");
        let after: i64 = if from.is_empty() { 0 } else { from.parse().map_err(invalid)? };
        let Some(other) = self.context.interned.find_user(user_id).await? else {
            return Ok((Vec::new(), 0, None));
        };
        let db = &self.context.db;
        let mut shared = members::shared_rooms(db, session.user, other).await?;
        shared.sort_unstable();
        let total = shared.len();
        let mut page: Vec<RoomNid> = shared.into_iter().filter(|room| room.0 > after).collect();
        let is_last = page.len() <= MUTUAL_ROOMS_MAX;
        page.truncate(MUTUAL_ROOMS_MAX);
        let next = page.last().filter(|_| !is_last).map(|room| room.0.to_string());
        let known = heads::many(db, &page).await?;
        Ok((known.into_iter().map(|room| room.room_id).collect(), total, next))
    }

    async fn local(&self, user_id: &UserId) -> Result<UserNid> {
        let unknown = || MatrixError::not_found("there is no such user on this server");
        if user_id.server_name() != self.context.server_name {
            return Err(unknown().into());
        }
        let user = self.context.interned.find_user(user_id).await?.ok_or_else(unknown)?;
        accounts::find(&self.context.db, user).await?.ok_or_else(unknown)?;
        Ok(user)
    }
}

/// Changes a profile inside a transaction; tells whether what people see changed.
async fn change(
    tx: &mut Tx,
    user: UserNid,
    user_id: &UserId,
    changes: Vec<(String, Option<Value>)>,
) -> Result<Result<bool>, StorageError> {
    let mut fields: Map<String, Value> = profiles::fields_in(tx, user).await?.into_iter().collect();
    let before = fields.clone();
    for (name, value) in &changes {
        match value {
            Some(value) => fields.insert(name.clone(), value.clone()),
            None => fields.remove(name),
        };
    }
    let bytes = serde_json::to_string(&fields).map_or(usize::MAX, |text| text.len());
    if fields != before && bytes > PROFILE_BYTES_MAX {
        let why = format!("a profile may have {PROFILE_BYTES_MAX} bytes");
        return Ok(Err(MatrixError::new(400, "M_PROFILE_TOO_LARGE", why).into()));
    }
    let differs = |name: &str| fields.get(name) != before.get(name);
    if differs(DISPLAYNAME) {
        let name = fields.get(DISPLAYNAME).and_then(Value::as_str);
        words::replace(tx, user, words_of(user_id, name)).await?;
    }
    for (name, value) in changes {
        if differs(&name) {
            profiles::set(tx, user, name, value).await?;
        }
    }
    Ok(Ok(differs(DISPLAYNAME) || differs(AVATAR_URL)))
}

/// Checks a field; the empty name and picture mean that there is none.
fn check(name: &str, value: Option<Value>) -> Result<Option<Value>, MatrixError> {
    if name.len() > FIELD_BYTES_MAX {
        let why = format!("the name of the field is longer than {FIELD_BYTES_MAX} bytes");
        return Err(MatrixError::new(400, "M_KEY_TOO_LARGE", why));
    }
    let longest = match name {
        DISPLAYNAME => DISPLAYNAME_BYTES_MAX,
        AVATAR_URL => AVATAR_URL_BYTES_MAX,
        "m.tz" => PROFILE_BYTES_MAX,
        _ if is_namespaced(name) => return Ok(value),
        _ => return Err(MatrixError::invalid_param("this is not the name of a profile field")),
    };
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() > longest => {
            Err(MatrixError::invalid_param(format!("{name} is longer than {longest} bytes")))
        }
        Some(Value::String(text)) => Ok(Some(Value::String(text))),
        Some(_) => Err(MatrixError::bad_json(format!("{name} is not a string"))),
    }
}

/// Tells whether a name follows the grammar of namespaced identifiers.
///
/// Source: Matrix v1.19, appendices, "Common Namespaced Identifier Grammar".
fn is_namespaced(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(allowed)
}

/// Returns the words a user is found by, as the index stores them.
pub(crate) fn words_of(user_id: &UserId, displayname: Option<&str>) -> Vec<Vec<u8>> {
    let mut all = words(user_id.localpart());
    all.extend(words(displayname.unwrap_or_default()));
    all.truncate(WORDS_MAX);
    all.into_iter().map(String::into_bytes).collect()
}

/// Splits a name into words in small letters.
fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.take(WORDS_MAX).map(|word| shorten(word).to_owned()).collect()
}

fn shorten(word: &str) -> &str {
    let mut end = word.len().min(WORD_BYTES_MAX);
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    &word[..end]
}

/// Returns the first byte string after everything that begins with `word`. UTF-8 never has the byte
/// 255, so it sorts after every continuation.
fn after(word: &str) -> Vec<u8> {
    let mut upto = word.as_bytes().to_vec();
    upto.push(u8::MAX);
    upto
}

fn is_exact(found: &Found, term: &str) -> bool {
    let displayname = found.shown.displayname.as_deref().unwrap_or_default();
    found.user_id.localpart().eq_ignore_ascii_case(term)
        || displayname.to_lowercase() == term.to_lowercase()
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::user_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_split_into_small_words() {
        assert_eq!(words("Anna-Lena  Müller_92"), ["anna", "lena", "müller", "92"]);
        assert_eq!(words(" .-"), Vec::<String>::new());
        assert_eq!(words(&"é".repeat(60))[0].len(), 64);
        let words = words_of(user_id!("@anna.m:localhost"), Some("Anna Müller"));
        assert_eq!(words.len(), 4);
        assert!("müllerin".as_bytes() < after("müller").as_slice());
        assert!("mv".as_bytes() > after("mü").as_slice() || "mv".as_bytes() < "mü".as_bytes());
    }

    #[test]
    fn fields_have_names_and_kinds() {
        assert_eq!(check(DISPLAYNAME, Some(json!(""))), Ok(None));
        assert_eq!(check(DISPLAYNAME, Some(json!("A"))), Ok(Some(json!("A"))));
        assert_eq!(check(DISPLAYNAME, Some(json!(7))).unwrap_err().errcode, "M_BAD_JSON");
        assert_eq!(check("org.example.x", Some(json!(null))), Ok(Some(json!(null))));
        let long = "a".repeat(256);
        assert_eq!(check(&long, None).unwrap_err().errcode, "M_KEY_TOO_LARGE");
        assert_eq!(check("Ä", None).unwrap_err().errcode, "M_INVALID_PARAM");
        let wide = json!("x".repeat(2_000));
        assert_eq!(check(AVATAR_URL, Some(wide)).unwrap_err().errcode, "M_INVALID_PARAM");
    }
    #[test]
    fn an_empty_name_and_an_empty_picture_are_none() {
        for name in [DISPLAYNAME, AVATAR_URL, "m.tz"] {
            for empty in [None, Some(json!(null)), Some(json!(""))] {
                assert_eq!(check(name, empty), Ok(None), "{name}");
            }
        }
        // Of others nobody knows what empty means.
        assert_eq!(check("org.example.x", Some(json!(""))), Ok(Some(json!(""))));
    }

    #[test]
    fn a_field_is_named_by_the_common_grammar() {
        for name in ["m.tz", "a", "org.example.x-y_1", "a."] {
            assert!(is_namespaced(name), "{name}");
        }
        for name in ["", "1a", ".a", "_a", "A.b", "a b", "ä", "a/b"] {
            assert!(!is_namespaced(name), "{name}");
        }
    }

    #[test]
    fn a_long_word_ends_between_letters() {
        assert_eq!(shorten("short"), "short");
        assert_eq!(shorten(&"x".repeat(WORD_BYTES_MAX + 1)).len(), WORD_BYTES_MAX);
        let odd = "x".to_owned() + &"é".repeat(WORD_BYTES_MAX);
        assert_eq!(shorten(&odd).len(), WORD_BYTES_MAX - 1);
    }

    #[test]
    fn a_user_is_found_by_few_words() {
        let long: Vec<String> = (0..WORDS_MAX + 5).map(|n| format!("w{n}")).collect();
        let found = words_of(user_id!("@a-b:localhost"), Some(&long.join(" ")));
        assert_eq!(found.len(), WORDS_MAX);
        assert_eq!(found[..3], [b"a".to_vec(), b"b".to_vec(), b"w0".to_vec()]);
    }
}

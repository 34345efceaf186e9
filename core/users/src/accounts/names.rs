//! The grammar of user names, new and historical, and how a name a client gives is read.
//!
//! Source: Matrix v1.19, appendices, "User identifiers" and "Historical user IDs".

use colonnade_model::{
    MatrixError,
    ruma::{OwnedUserId, ServerName, UserId},
};
use serde_json::Value;

/// The longest user id, in bytes, with `@`, colon and server name.
const USER_ID_BYTES_MAX: usize = 255;

/// Reads the name of a user to be: capitals become small, then the grammar for new users holds.
///
/// # Errors
/// `M_INVALID_USERNAME` when the name cannot be one.
pub fn new_user(name: &str, server_name: &ServerName) -> Result<OwnedUserId, MatrixError> {
    let name = name.to_ascii_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._=-/+".contains(c);
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(MatrixError::invalid_username(
            "a user name has letters a to z, digits and the characters . _ = - / + only",
        ));
    }
    if name.len() + server_name.as_str().len() + 2 > USER_ID_BYTES_MAX {
        return Err(MatrixError::invalid_username("the user name is too long"));
    }
    UserId::parse(format!("@{name}:{server_name}"))
        .map_err(|error| MatrixError::invalid_username(format!("not a user name: {error}")))
}

/// Reads a name somebody logs in with, a localpart or a whole user id, into the user ids it may
/// mean: as written first (historical names have capitals), then in small letters.
pub fn login_candidates(name: &str, server_name: &ServerName) -> Vec<OwnedUserId> {
    let full =
        if name.starts_with('@') { name.to_owned() } else { format!("@{name}:{server_name}") };
    let Ok(written) = UserId::parse(full) else { return Vec::new() };
    if written.server_name() != server_name {
        return Vec::new();
    }
    let small = format!("@{}:{server_name}", written.localpart().to_lowercase());
    let mut candidates = vec![written];
    candidates.extend(UserId::parse(small).ok().filter(|small| *small != candidates[0]));
    candidates
}

/// Whom an identifier names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A user, by localpart or user id.
    User(String),
    /// Somebody by an address or number, which no account here has.
    Unknown,
}

/// Reads whom a client names, from the identifier or its old form, `user` or `medium` and `address`.
///
/// Source: Matrix v1.19, client-server, "Identifier types".
///
/// # Errors
/// `M_MISSING_PARAM` when nobody is named, `M_BAD_JSON` when the name is not text, `M_UNKNOWN` for an unknown type of identifier.
pub fn named(
    identifier: Option<&Value>,
    user: Option<&str>,
    by_address: bool,
) -> Result<Named, MatrixError> {
    let missing = |what: &str| MatrixError::missing_param(what);
    let Some(identifier) = identifier.filter(|identifier| !identifier.is_null()) else {
        return match user {
            Some(user) => Ok(Named::User(user.to_owned())),
            None if by_address => Ok(Named::Unknown),
            None => Err(missing("no identifier")),
        };
    };
    match identifier.get("type").and_then(Value::as_str) {
        Some("m.id.user") => match identifier.get("user") {
            Some(Value::String(name)) => Ok(Named::User(name.clone())),
            None | Some(Value::Null) => Err(missing("the identifier has no user")),
            Some(_) => Err(MatrixError::bad_json("the identifier's user is not text")),
        },
        Some("m.id.thirdparty" | "m.id.phone") => Ok(Named::Unknown),
        _ => Err(MatrixError::unknown("the type of the identifier is not known")),
    }
}

/// The longest name of a device, in bytes.
const DISPLAY_NAME_BYTES_MAX: usize = 100;

/// Makes sure that a device's name is short.
pub(crate) fn require_short_device_name(display_name: Option<&str>) -> Result<(), MatrixError> {
    let name = display_name.unwrap_or_default();
    if name.len() > DISPLAY_NAME_BYTES_MAX {
        let why = format!("the device's name is longer than {DISPLAY_NAME_BYTES_MAX} bytes");
        return Err(MatrixError::too_large(why).with_status(400));
    }
    if name.contains('\0') {
        return Err(MatrixError::invalid_param("the device's name contains a NUL character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::server_name;
    use serde_json::json;

    use super::*;

    #[test]
    fn new_names_are_small_and_plain() {
        let here = server_name!("example.org");
        let name = |text: &str| new_user(text, here).map(|id| id.to_string());
        assert_eq!(name("Alice"), Ok("@alice:example.org".to_owned()));
        assert_eq!(name("a.b_c=d-e/f+9"), Ok("@a.b_c=d-e/f+9:example.org".to_owned()));
        for wrong in ["", "a b", "é", "a:b", "@a", "a\0", "a!", "a#"] {
            assert_eq!(name(wrong).unwrap_err().errcode, "M_INVALID_USERNAME", "{wrong:?}");
        }
        assert!(name(&"a".repeat(255 - 13)).is_ok());
        assert!(name(&"a".repeat(255 - 12)).is_err());
    }

    #[test]
    fn logins_may_be_short_long_or_shouted() {
        let here = server_name!("example.org");
        let ids = |text: &str| -> Vec<String> {
            login_candidates(text, here).iter().map(ToString::to_string).collect()
        };
        assert_eq!(ids("alice"), ["@alice:example.org"]);
        assert_eq!(ids("@alice:example.org"), ["@alice:example.org"]);
        assert_eq!(ids("Alice"), ["@Alice:example.org", "@alice:example.org"]);
        assert!(ids("@alice:elsewhere.org").is_empty());
        assert!(ids("@alice").is_empty());
        assert!(ids("a:b").is_empty());
    }
    #[test]
    fn an_identifier_says_whom_it_names() {
        let user = |name: &str| Ok(Named::User(name.to_owned()));
        let read = |value: Value, old: Option<&str>, by_address: bool| {
            named(Some(&value), old, by_address).map_err(|error| error.errcode)
        };
        assert_eq!(read(json!({ "type": "m.id.user", "user": "a" }), Some("b"), true), user("a"));
        assert_eq!(read(json!(null), Some("b"), false), user("b"));
        assert_eq!(read(json!(null), None, true), Ok(Named::Unknown));
        assert_eq!(read(json!(null), None, false), Err("M_MISSING_PARAM".into()));
        assert_eq!(read(json!({ "type": "m.id.thirdparty" }), None, false), Ok(Named::Unknown));
        assert_eq!(
            read(json!({ "type": "m.id.user" }), None, false),
            Err("M_MISSING_PARAM".into())
        );
        let number = json!({ "type": "m.id.user", "user": 5 });
        assert_eq!(read(number, None, false), Err("M_BAD_JSON".into()));
        for wrong in [json!({}), json!("a"), json!({ "type": "m.id.nobody" }), json!([])] {
            assert_eq!(read(wrong.clone(), Some("b"), false), Err("M_UNKNOWN".into()), "{wrong}");
        }
    }

    #[test]
    fn a_device_has_a_short_name() {
        let code = |name: Option<&str>| {
            require_short_device_name(name).err().map(|error| (error.status, error.errcode))
        };
        assert_eq!(code(None), None);
        assert_eq!(code(Some(&"x".repeat(DISPLAY_NAME_BYTES_MAX))), None);
        let long = "x".repeat(DISPLAY_NAME_BYTES_MAX + 1);
        assert_eq!(code(Some(&long)), Some((400, "M_TOO_LARGE".into())));
        assert_eq!(code(Some("a\0b")), Some((400, "M_INVALID_PARAM".into())));
    }
}

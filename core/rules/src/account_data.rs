//! What a user's account data means to the server.

use std::collections::HashSet;

use colonnade_model::ruma::{OwnedUserId, UserId};
use serde_json::{Value, value::RawValue};

/// Reads the content of `m.ignored_user_list`; what is not of its shape ignores nobody.
pub fn ignored_of(body: &RawValue) -> HashSet<OwnedUserId> {
    let Ok(Value::Object(body)) = serde_json::from_str(body.get()) else {
        return HashSet::new();
    };
    let users = body.get("ignored_users").and_then(Value::as_object);
    let names = users.into_iter().flat_map(|users| users.keys());
    names.filter_map(|name| UserId::parse(name).ok()).collect()
}

/// Tells whether a user wants no invitations. What is malformed or not known says nothing.
///
/// Source: Matrix v1.19, client-server, "Invite permission".
pub fn blocks_invites(permission: &RawValue) -> bool {
    let permission: Option<Value> = serde_json::from_str(permission.get()).ok();
    permission.is_some_and(|permission| permission["default_action"] == "block")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_ignore_list_ignores_whom_it_can() {
        let read = |text: &str| {
            let body = RawValue::from_string(text.to_owned()).unwrap();
            ignored_of(&body).len()
        };
        assert_eq!(read(r#"{"ignored_users":{"@a:b.c":{},"nonsense":{}}}"#), 1);
        assert_eq!(read(r#"{"ignored_users":["@a:b.c"]}"#), 0);
        assert_eq!(read("[]"), 0);
    }
}

//! What a user's account data means to the server.

use std::collections::HashSet;

use colonnade_model::ruma::{OwnedUserId, UserId};
use serde_json::{Value, value::RawValue};
use wildmatch::WildMatch;

/// Reads the content of `m.ignored_user_list`; what is not of its shape ignores nobody.
pub fn ignored_of(body: &RawValue) -> HashSet<OwnedUserId> {
    let Ok(Value::Object(body)) = serde_json::from_str(body.get()) else {
        return HashSet::new();
    };
    let users = body.get("ignored_users").and_then(Value::as_object);
    let names = users.into_iter().flat_map(|users| users.keys());
    names.filter_map(|name| UserId::parse(name).ok()).collect()
}

/// What happens to an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteAction {
    /// The user is shown it.
    Allow,
    /// It is made, and the user is not shown it.
    Ignore,
    /// It is refused.
    Block,
}

/// What a list of an invite permission names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListOf {
    Users,
    Servers,
}

/// The lists of an invite permission, the first that names the inviter counts.
const INVITE_LISTS: [(&str, ListOf, InviteAction); 6] = [
    ("allowed_users", ListOf::Users, InviteAction::Allow),
    ("ignored_users", ListOf::Users, InviteAction::Ignore),
    ("blocked_users", ListOf::Users, InviteAction::Block),
    ("allowed_servers", ListOf::Servers, InviteAction::Allow),
    ("ignored_servers", ListOf::Servers, InviteAction::Ignore),
    ("blocked_servers", ListOf::Servers, InviteAction::Block),
];

/// By whom a user wants to be invited. What is malformed or not known says nothing.
///
/// Source: Matrix v1.19, client-server, "Invite permission"; MSC4155 for the lists of users and servers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InvitePermission {
    lists: Vec<(ListOf, InviteAction, Vec<WildMatch>)>,
    blocks_others: bool,
}

impl InvitePermission {
    /// Reads it from the contents there are, under its name and under the one of before it was specified.
    pub fn read(contents: &[Box<RawValue>]) -> Self {
        let mut permission = Self::default();
        for content in contents {
            let Ok(content) = serde_json::from_str::<Value>(content.get()) else { continue };
            if content["enabled"] == Value::Bool(false) {
                continue;
            }
            permission.blocks_others |= content["default_action"] == "block";
            for (list, named, action) in INVITE_LISTS {
                let patterns = content[list].as_array().into_iter().flatten();
                let patterns = patterns.filter_map(|pattern| pattern.as_str().map(WildMatch::new));
                permission.lists.push((named, action, patterns.collect()));
            }
        }
        permission
    }

    /// Says what happens to an invitation by a user.
    pub fn of(&self, inviter: &UserId) -> InviteAction {
        let names = |(named, _, patterns): &&(ListOf, InviteAction, Vec<WildMatch>)| {
            let name = match named {
                ListOf::Users => inviter.as_str(),
                ListOf::Servers => inviter.server_name().host(),
            };
            patterns.iter().any(|pattern| pattern.matches(name))
        };
        match (self.lists.iter().find(names), self.blocks_others) {
            (Some((_, action, _)), _) => *action,
            (None, true) => InviteAction::Block,
            (None, false) => InviteAction::Allow,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_list_that_names_the_inviter_counts() {
        use InviteAction::{Allow, Block, Ignore};
        let of = |content: Value, inviter: &str| {
            let content = serde_json::value::to_raw_value(&content).unwrap();
            InvitePermission::read(&[content]).of(<&UserId>::try_from(inviter).unwrap())
        };
        for (content, expected) in [
            (json!({}), Allow),
            (json!(["blocked_users"]), Allow),
            (json!({ "default_action": "block" }), Block),
            (json!({ "default_action": "block", "enabled": false }), Allow),
            (json!({ "default_action": "block", "allowed_users": ["@bob:b.org"] }), Allow),
            (json!({ "blocked_users": null, "blocked_servers": [5, null] }), Allow),
            (json!({ "blocked_users": ["@bo?:*"] }), Block),
            (json!({ "blocked_users": ["@bo"] }), Allow),
            (json!({ "ignored_users": ["@bob:b.org"], "blocked_users": ["*"] }), Ignore),
            (json!({ "allowed_servers": ["b.org"], "blocked_users": ["*"] }), Block),
            (json!({ "allowed_servers": ["b.*"], "ignored_servers": ["*"] }), Allow),
            (json!({ "ignored_servers": ["b.org"], "blocked_servers": ["b.org"] }), Ignore),
            (json!({ "blocked_servers": ["?.org"], "enabled": true }), Block),
        ] {
            assert_eq!(of(content.clone(), "@bob:b.org"), expected, "{content}");
        }
        assert_eq!(of(json!({ "blocked_servers": ["b.org"] }), "@bob:b.org:8448"), Block);
        assert_eq!(InvitePermission::default().of("@bob:b.org".try_into().unwrap()), Allow);
    }

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

//! Push rules as they are stored and shown.

use colonnade_model::ruma::{UserId, push::Ruleset};
use serde_json::{Value, json, value::RawValue};

use super::server_default;

/// Reads stored rules, with what the server's defaults have become since. Rules that cannot be read
/// (an older client may have left some) are as good as none.
pub fn read(user_id: &UserId, stored: Option<&RawValue>) -> Ruleset {
    let defaults = server_default(user_id);
    let global = stored.and_then(|body| {
        let mut body: Value = serde_json::from_str(body.get()).ok()?;
        serde_json::from_value(body["global"].take()).ok()
    });
    match global {
        Some(mut rules) => {
            Ruleset::update_with_server_default(&mut rules, defaults);
            rules
        }
        None => defaults,
    }
}

/// Renders rules with every kind, also those without rules.
///
/// # Errors
/// Never for rules that were read from JSON.
pub fn render(rules: &Ruleset) -> serde_json::Result<Value> {
    let mut rendered = serde_json::to_value(rules)?;
    for kind in ["override", "content", "room", "sender", "underride"] {
        if rendered.get(kind).is_none() {
            rendered[kind] = json!([]);
        }
    }
    Ok(rendered)
}

//! JSON that was stored, on its way back to clients. Older versions stored what some clients cannot read
//! ([`colonnade_model::json`]); one such row must not make every answer it is part of unreadable.

use colonnade_model::json;
use serde_json::value::RawValue;

/// Returns a stored text as JSON, and an empty object in place of what clients cannot read.
pub fn readable(text: String, table: &'static str) -> Box<RawValue> {
    if json::is_readable(&text)
        && let Ok(body) = RawValue::from_string(text)
    {
        return body;
    }
    tracing::warn!(table, "a row holds JSON that clients cannot read; they are given {{}} instead");
    RawValue::from_string("{}".to_owned()).expect("this is JSON")
}

//! Events in the shape a filter asks for: only some of their fields, or as servers exchange them.
//!
//! Source: Matrix v1.19, client-server, "Filtering", `event_fields` and `event_format`.

use std::collections::BTreeMap;

use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

use crate::timeline::Shown;

/// Renders events as servers exchange them, and names them: a client cannot know the name otherwise where it
/// is the hash of the event.
pub(super) fn federation_format(events: &[Shown]) -> Vec<Box<RawValue>> {
    let rendered = events.iter().filter_map(|shown| {
        let event = &shown.row.event;
        let mut fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(event.json()).ok()?;
        if !fields.contains_key("event_id") {
            fields.insert("event_id".to_owned(), to_raw_value(event.event_id()).ok()?);
        }
        to_raw_value(&fields).ok()
    });
    rendered.collect()
}

/// Keeps of each event only the named fields, `content.body` say; all of them if `None`.
pub(super) fn with_fields(
    events: Vec<Box<RawValue>>,
    fields: Option<&[String]>,
) -> Vec<Box<RawValue>> {
    let Some(fields) = fields else { return events };
    let paths: Vec<Vec<String>> = fields.iter().map(|field| path_of(field)).collect();
    let kept = events.into_iter().filter_map(|event| {
        let whole: Value = serde_json::from_str(event.get()).ok()?;
        let mut kept = Map::new();
        for path in &paths {
            copy(&whole, path, &mut kept);
        }
        to_raw_value(&kept).ok()
    });
    kept.collect()
}

/// Splits a field at its dots; `\.` and `\\` stand for the characters themselves.
fn path_of(field: &str) -> Vec<String> {
    let mut path = vec![String::new()];
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        let literal = match letter {
            '.' => {
                path.push(String::new());
                continue;
            }
            '\\' => match letters.next() {
                Some(escaped @ ('.' | '\\')) => escaped,
                Some(other) => {
                    path.last_mut().expect("never empty").push('\\');
                    other
                }
                None => '\\',
            },
            other => other,
        };
        path.last_mut().expect("never empty").push(literal);
    }
    path
}

fn copy(from: &Value, path: &[String], into: &mut Map<String, Value>) {
    let Some((first, rest)) = path.split_first() else { return };
    let Some(value) = from.get(first) else { return };
    if rest.is_empty() {
        into.insert(first.clone(), value.clone());
        return;
    }
    if !value.is_object() {
        return;
    }
    let mut inner = Map::new();
    copy(value, rest, &mut inner);
    if inner.is_empty() {
        return;
    }
    let known = into.entry(first.clone()).or_insert_with(|| Value::Object(Map::new()));
    // Anything but an object is there as a whole already.
    if let Value::Object(known) = known {
        merge(known, inner);
    }
}

fn merge(known: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        match (known.get_mut(&key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => merge(known, more),
            (Some(_), _) => {}
            (None, value) => {
                known.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(fields: &[&str]) -> Value {
        let event = json!({
            "type": "m", "content": { "a.b": 1, "c": { "d": 2, "e": 3 }, "f": 4 }, "sender": "@a:b",
        });
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        let events = with_fields(vec![to_raw_value(&event).unwrap()], Some(&fields));
        serde_json::from_str(events[0].get()).unwrap()
    }

    #[test]
    fn fields_are_kept() {
        assert_eq!(kept(&["type"]), json!({ "type": "m" }));
        assert_eq!(
            kept(&["content.c.d", "content.f"]),
            json!({ "content": { "c": { "d": 2 }, "f": 4 } })
        );
        assert_eq!(kept(&["content.a\\.b"]), json!({ "content": { "a.b": 1 } }));
        assert_eq!(
            kept(&["content.c.d", "content.c.e"]),
            json!({ "content": { "c": { "d": 2, "e": 3 } } })
        );
        assert_eq!(kept(&["sender.x", "no", "", "\\", "content."]), json!({}));
    }
    #[test]
    fn a_field_is_split_at_dots_that_are_not_escaped() {
        for (field, path) in [
            ("a", &["a"][..]),
            ("a.b", &["a", "b"]),
            (r"a\.b", &["a.b"]),
            (r"a\\.b", &[r"a\", "b"]),
            (r"a\x", &[r"a\x"]),
            ("", &[""]),
            (".", &["", ""]),
        ] {
            assert_eq!(path_of(field), path, "{field}");
        }
    }

    #[test]
    fn a_whole_part_is_not_made_smaller_by_a_part_of_it() {
        let whole = json!({ "a.b": 1, "c": { "d": 2, "e": 3 }, "f": 4 });
        assert_eq!(kept(&["content", "content.c.d"])["content"], whole);
        assert_eq!(kept(&["content.c.d", "content"])["content"], whole);
    }

    #[test]
    fn without_a_list_events_stay_as_they_are() {
        let text = r#"{ "b": 1,  "a": 2 }"#.to_owned();
        let events = vec![RawValue::from_string(text.clone()).unwrap()];
        assert_eq!(with_fields(events, None)[0].get(), text);
        let none = with_fields(vec![RawValue::from_string(text).unwrap()], Some(&[]));
        assert_eq!(none[0].get(), "{}");
    }
}

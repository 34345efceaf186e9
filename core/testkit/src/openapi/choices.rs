//! Where a request says something in words, and which values the specification lists for it: of
//! parameters, and in JSON bodies.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use super::path::normal;

/// Schemas within schemas that are looked into; those of the specification are far flatter.
const DEPTH_MAX: usize = 12;
/// The step into the elements of an array.
const EACH: &str = "[]";

/// A place in a JSON body that takes one of some values, or any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The way there: names of members, and `[]` for the elements of an array.
    pub place: Vec<String>,
    /// What may stand there; of any text, the specification's example.
    pub values: Vec<String>,
}

impl Choice {
    /// Returns a body with this value at the place, made where there is none.
    pub fn put(&self, body: &Value, value: &str) -> Value {
        put(body, &self.place, value)
    }
}

fn put(body: &Value, place: &[String], value: &str) -> Value {
    let Some((step, rest)) = place.split_first() else { return json!(value) };
    if step == EACH {
        let first = body.get(0).unwrap_or(&Value::Null);
        return json!([put(first, rest, value)]);
    }
    let mut members = body.as_object().cloned().unwrap_or_default();
    let member = put(members.get(step).unwrap_or(&Value::Null), rest, value);
    members.insert(step.clone(), member);
    Value::Object(members)
}

/// Looks in a schema of a document for what takes one of some values, and for what takes any text.
pub(super) fn of_schema(
    documents: &BTreeMap<String, Value>,
    name: &str,
    schema: &Value,
) -> (Vec<Choice>, Vec<Choice>) {
    let mut walk = Walk { documents, choices: Vec::new(), texts: Vec::new() };
    walk.visit(name, schema, &mut Vec::new(), DEPTH_MAX);
    (walk.choices, walk.texts)
}

struct Walk<'a> {
    documents: &'a BTreeMap<String, Value>,
    choices: Vec<Choice>,
    texts: Vec<Choice>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, name: &str, schema: &Value, place: &mut Vec<String>, depth: usize) {
        if depth == 0 {
            return;
        }
        if let Some(reference) = schema["$ref"].as_str() {
            if let Some((name, schema)) = self.target(name, reference) {
                self.visit(&name, schema, place, depth - 1);
            }
            return;
        }
        if let Some(values) = schema["enum"].as_array() {
            let values = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            self.choices.push(Choice { place: place.clone(), values });
        } else if schema["type"] == "string" {
            let values = schema["example"].as_str().map(str::to_owned).into_iter().collect();
            self.texts.push(Choice { place: place.clone(), values });
        }
        for (member, inner) in schema["properties"].as_object().into_iter().flatten() {
            place.push(member.clone());
            self.visit(name, inner, place, depth - 1);
            place.pop();
        }
        if schema["items"].is_object() {
            place.push(EACH.to_owned());
            self.visit(name, &schema["items"], place, depth - 1);
            place.pop();
        }
        for together in ["allOf", "oneOf", "anyOf"] {
            for part in schema[together].as_array().into_iter().flatten() {
                self.visit(name, part, place, depth - 1);
            }
        }
    }

    /// Finds what a reference names, in this document or another.
    fn target(&self, name: &str, reference: &str) -> Option<(String, &'a Value)> {
        let (file, place) = reference.split_once('#').unwrap_or((reference, ""));
        let name = match file {
            "" => name.to_owned(),
            file => normal(&Path::new(name).parent().unwrap_or(Path::new("")).join(file)),
        };
        let schema = self.documents.get(&name)?.pointer(place)?;
        Some((name, schema))
    }
}

//! The shape of an answer is the server's to say: every list and every object that the schema of a
//! successful answer names is sent, empty where nothing is in it. Clients read them without asking
//! whether they are there.
//!
//! Reads schemas along an answer; what they say of types is the validator's business. Alternatives
//! (`oneOf`, `anyOf`) are not followed: which of them is meant, they do not say.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value};

use super::{operation::Operation, path::normal};

/// Operations whose answers leave out what is empty, by the specification's own examples: an answer
/// to a sync is mostly what did not happen.
const LEAN: &[&str] = &["sync"];

/// Containers that may be absent: the operation, the place in its answer, and why.
pub(super) const ABSENT: &[(&str, &str, &str)] = &[
    ("getCapabilities", "/capabilities/m.profile_fields/allowed", "empty would allow no field"),
    ("getCapabilities", "/capabilities/m.profile_fields/disallowed", "all fields are allowed"),
    ("getCapabilities", "/capabilities/m.account_moderation", "its presence offers it"),
    ("login", "/well_known", "its presence moves the client to another address"),
    ("getWellknown", "/m.identity_server", "its presence names one, and must have an address"),
    ("getPushRule", "/conditions", "content, room and sender rules have none by definition"),
    ("getPushRules", "/global/content/[]/conditions", "has a pattern in their place"),
    ("getPushRules", "/global/room/[]/conditions", "has the room in their place"),
    ("getPushRules", "/global/sender/[]/conditions", "has the sender in their place"),
    ("getPushRulesGlobal", "/content/[]/conditions", "has a pattern in their place"),
    ("getPushRulesGlobal", "/room/[]/conditions", "has the room in their place"),
    ("getPushRulesGlobal", "/sender/[]/conditions", "has the sender in their place"),
    ("initialSync", "/rooms/[]/invite", "only of a room that the user is invited to"),
    ("initialSync", "/rooms/[]/messages", "who is only invited is shown none"),
    ("initialSync", "/rooms/[]/state", "who is only invited is shown it with the invitation"),
    ("initialSync", "/rooms/[]/account_data", "a room that he is only invited to has none to tell"),
    ("search", "/search_categories/room_events", "the request names the categories"),
    ("search", "/search_categories/room_events/results/[]/context", "only if it was asked for"),
];

/// Schemas of what users wrote, which is handed on as it is: places below `spec/`.
const OF_USERS: &[&str] = &[
    "event-schemas/",
    "api/client-server/definitions/client_event",
    "api/client-server/definitions/room_event_filter.yaml",
    "api/client-server/definitions/sync_filter.yaml",
];

/// The schemas of all documents, by their name below `spec/`.
pub(super) struct Schemas {
    documents: BTreeMap<String, Value>,
}

/// A schema and the document it stands in, to which its references are relative.
#[derive(Clone)]
struct Placed<'a> {
    document: String,
    schema: &'a Value,
}

impl Schemas {
    pub(super) fn new(documents: BTreeMap<String, Value>) -> Self {
        Self { documents }
    }

    /// Returns the places in a successful answer where a container is missing.
    pub(super) fn missing(&self, operation: &Operation, schema: &str, body: &Value) -> Vec<String> {
        let mut walk = Walk { schemas: self, operation: &operation.id, missing: Vec::new() };
        if !LEAN.contains(&operation.id.as_str())
            && let Some(placed) = self.at(schema)
        {
            walk.look(&placed, body, "");
        }
        walk.missing
    }

    /// Tells whether a schema has a container at a place.
    #[cfg(test)]
    pub(super) fn names(&self, schema: &str, place: &str) -> bool {
        let mut placed = self.at(schema);
        for step in place.split('/').skip(1) {
            let Some(outer) = placed.map(|placed| self.followed(placed)) else { return false };
            let mut properties = Vec::new();
            self.properties(&outer, &mut properties);
            placed = if step == "[]" {
                Some(Placed { schema: &outer.schema["items"], document: outer.document })
            } else {
                properties.into_iter().find(|(name, _)| *name == step).map(|(_, schema)| schema)
            };
        }
        placed.is_some_and(|placed| self.is_container(&placed))
    }

    /// Finds a schema by its whole address.
    fn at(&self, address: &str) -> Option<Placed<'_>> {
        let (document, place) = address.strip_prefix("file:///spec/")?.split_once('#')?;
        let place =
            place.replace("%7B", "{").replace("%7D", "}").replace("%20", " ").replace("%25", "%");
        let schema = self.documents.get(document)?.pointer(&place)?;
        Some(self.followed(Placed { document: document.to_owned(), schema }))
    }

    /// Follows references until there is none.
    fn followed<'a>(&'a self, mut placed: Placed<'a>) -> Placed<'a> {
        while let Some(reference) = placed.schema["$ref"].as_str() {
            let (file, place) = reference.split_once('#').unwrap_or((reference, ""));
            let mut document = placed.document.clone();
            if !file.is_empty() {
                let folder = Path::new(&document).parent().unwrap_or(Path::new(""));
                document = normal(&folder.join(file));
            }
            let schema = self.documents.get(&document).and_then(|whole| whole.pointer(place));
            let Some(schema) = schema else { panic!("{} is not in the specification", reference) };
            placed = Placed { document, schema };
        }
        placed
    }

    /// Tells whether a schema is of nothing but lists or objects.
    fn is_container(&self, placed: &Placed<'_>) -> bool {
        let placed = self.followed(placed.clone());
        let is = |name: &Value| name == "object" || name == "array";
        match &placed.schema["type"] {
            Value::String(_) => is(&placed.schema["type"]),
            Value::Array(names) => names.iter().all(is),
            _ => {
                let parts = placed.schema["allOf"].as_array().into_iter().flatten();
                placed.schema["properties"].is_object()
                    || parts.into_iter().any(|schema| {
                        self.is_container(&Placed { document: placed.document.clone(), schema })
                    })
            }
        }
    }

    /// Collects the properties of an object, those of its `allOf` included.
    fn properties<'a>(&'a self, placed: &Placed<'a>, found: &mut Vec<(&'a str, Placed<'a>)>) {
        let placed = self.followed(placed.clone());
        for (name, schema) in placed.schema["properties"].as_object().into_iter().flatten() {
            found.push((name, Placed { document: placed.document.clone(), schema }));
        }
        for schema in placed.schema["allOf"].as_array().into_iter().flatten() {
            self.properties(&Placed { document: placed.document.clone(), schema }, found);
        }
    }
}

/// One walk along an answer.
struct Walk<'a> {
    schemas: &'a Schemas,
    operation: &'a str,
    missing: Vec<String>,
}

impl<'a> Walk<'a> {
    fn look(&mut self, placed: &Placed<'a>, body: &Value, path: &str) {
        let placed = self.schemas.followed(placed.clone());
        if OF_USERS.iter().any(|place| placed.document.starts_with(place)) {
            return;
        }
        match body {
            Value::Object(members) => self.look_at_members(&placed, members, path),
            Value::Array(values) if placed.schema["items"].is_object() => {
                let document = placed.document.clone();
                let items = Placed { document, schema: &placed.schema["items"] };
                for value in values {
                    self.look(&items, value, &format!("{path}/[]"));
                }
            }
            _ => {}
        }
    }

    fn look_at_members(&mut self, placed: &Placed<'a>, members: &Map<String, Value>, path: &str) {
        let mut properties = Vec::new();
        self.schemas.properties(placed, &mut properties);
        for (name, schema) in &properties {
            let place = format!("{path}/{name}");
            match members.get(*name) {
                Some(value) => self.look(schema, value, &place),
                None if self.schemas.is_container(schema) && !self.may_be_absent(&place) => {
                    self.missing.push(place);
                }
                None => {}
            }
        }
        let patterns = placed.schema["patternProperties"].as_object().into_iter().flatten();
        let patterns = patterns.map(|(_, schema)| schema);
        for schema in patterns.chain([&placed.schema["additionalProperties"]]) {
            let other = Placed { document: placed.document.clone(), schema };
            let others = members.iter().filter(|(name, _)| {
                schema.is_object() && !properties.iter().any(|(known, _)| known == name)
            });
            for (_, value) in others {
                self.look(&other, value, &format!("{path}/*"));
            }
        }
    }

    fn may_be_absent(&self, place: &str) -> bool {
        ABSENT
            .iter()
            .any(|(operation, allowed, _)| *operation == self.operation && *allowed == place)
    }
}

//! The specification's description of the client-server API, from `spec/`: which operations there
//! are, what their requests look like, and whether an answer of ours is one of theirs.
//!
//! [`Spec::check`] runs on every answer a test client gets. Schemas of the specification rarely
//! forbid further members, so this finds what is missing or of the wrong type, not what is extra.
//! Containers must be there whether or not the schema demands them: see [`containers`].

mod choices;
mod containers;
mod operation;
mod parse;
mod path;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use colonnade_model::ruma::{EventId, MxcUri, RoomAliasId, RoomId, ServerName, UserId};
use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

pub use choices::Choice;
pub use operation::{Operation, Parameter};

/// The specification, read once per process.
pub static SPEC: LazyLock<Spec> = LazyLock::new(Spec::read);

/// Answers whose shape a query parameter decides, which their schema does not know: `oneOf` of any
/// object and an event is never satisfied by an event, and chosen fields leave required ones out.
const SHAPED: &[(&str, &str)] =
    &[("getRoomStateWithKey", "format=event"), ("sync", "event_fields")];
/// Answers whose `chunk` has beside events what was never part of a room's history, such as who types:
/// their schema, of version 1.19, knows events alone.
const MIXED: &[&str] = &["getEvents"];
/// The schema of every error that has none of its own.
const ERROR: &str = "file:///spec/api/client-server/definitions/errors/error.yaml";
/// The schema of a demand for user-interactive authentication.
const PROVE: &str = "file:///spec/api/client-server/definitions/auth_response.yaml";
/// Codes that any endpoint may answer with, whatever else it says about that status.
const GENERAL: [&str; 6] = [
    "M_MISSING_TOKEN",
    "M_UNKNOWN_TOKEN",
    "M_UNRECOGNIZED",
    "M_LIMIT_EXCEEDED",
    "M_USER_LOCKED",
    "M_TOO_LARGE",
];
/// Statuses HTTP itself gives to conditional and partial requests.
const OF_HTTP: [u16; 3] = [206, 304, 416];
/// Path segments, an empty one at the end included.
type Segments = Vec<String>;

/// The specification.
pub struct Spec {
    /// Every operation, in the order of the files.
    pub operations: Vec<Operation>,
    /// Operations by method, for matching.
    by_method: HashMap<String, Vec<(Segments, usize)>>,
    schemas: containers::Schemas,
    registry: Registry<'static>,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Spec {
    fn read() -> Self {
        let mut documents = parse::documents();
        let operations = parse::operations(&documents);
        let mut by_method: HashMap<String, Vec<(Segments, usize)>> = HashMap::new();
        for (place, operation) in operations.iter().enumerate() {
            let entry = (segments(&operation.path), place);
            by_method.entry(operation.method.clone()).or_default().push(entry);
        }
        // What validators see: examples may hold references of another kind.
        documents.values_mut().for_each(parse::strip_examples);
        let schemas = containers::Schemas::new(documents.clone());
        let documents = documents.into_iter();
        let documents =
            documents.map(|(name, document)| (format!("file:///spec/{name}"), document));
        let registry = Registry::new()
            .draft(jsonschema::Draft::Draft202012)
            .extend(documents)
            .and_then(|builder| builder.prepare())
            .expect("the specification's schemas");
        Self { operations, by_method, schemas, registry, validators: Mutex::default() }
    }

    /// Finds the operation a request is for; `None` for what the specification does not describe.
    pub fn find(&self, method: &str, path: &str) -> Option<&Operation> {
        let path = path.split('?').next().unwrap_or_default().replacen("/r0/", "/v3/", 1);
        let asked = segments(&path);
        let candidates = self.by_method.get(method)?.iter();
        let fitting = candidates.filter(|(template, _)| {
            template.len() == asked.len()
                && template.iter().zip(&asked).all(|(one, other)| is_name(one) || one == other)
        });
        let best = fitting.max_by_key(|(template, place)| {
            let literal = template.iter().filter(|segment| !is_name(segment)).count();
            (literal, usize::MAX - place)
        });
        best.map(|(_, place)| &self.operations[*place])
    }

    /// Checks an answer against the specification. `body` is `None` when it is not JSON.
    ///
    /// # Errors
    /// What the specification says otherwise.
    pub fn check(
        &self,
        method: &str,
        path: &str,
        status: u16,
        body: Option<&Value>,
    ) -> Result<(), String> {
        if OF_HTTP.contains(&status) {
            return Ok(());
        }
        let Some(operation) = self.find(method, path) else {
            return match status {
                400.. if path.starts_with("/_matrix") => self.error(body),
                _ => Ok(()),
            };
        };
        if SHAPED.iter().any(|(id, query)| operation.id == *id && path.contains(query)) {
            return Ok(());
        }
        let events_alone = body.filter(|_| MIXED.contains(&&*operation.id)).map(events_alone);
        let body = events_alone.as_ref().or(body);
        let general = body.and_then(|body| body["errcode"].as_str());
        let general = general.is_some_and(|code| GENERAL.contains(&code));
        let checked = match operation.answers.get(&status) {
            Some(Some(schema)) if status < 300 => {
                self.validate(schema, body).and_then(|()| self.is_whole(operation, schema, body))
            }
            Some(Some(schema)) if status < 400 || !general => self.validate(schema, body),
            Some(None) if status < 400 => Ok(()),
            None if status == 401 && body.is_some_and(|body| body["flows"].is_array()) => {
                self.validate(PROVE, body)
            }
            None if status < 400 => Err("the specification knows no such success".to_owned()),
            _ => self.error(body),
        };
        checked.map_err(|why| {
            let shown = body.map_or("no JSON".to_owned(), Value::to_string);
            let shown: String = shown.chars().take(2_000).collect();
            format!("{} ({method} {path}) answers {status}: {why}\n{shown}", operation.id)
        })
    }

    /// Checks that no container is missing.
    fn is_whole(
        &self,
        operation: &Operation,
        schema: &str,
        body: Option<&Value>,
    ) -> Result<(), String> {
        let missing = body.map(|body| self.schemas.missing(operation, schema, body));
        match missing.unwrap_or_default() {
            missing if missing.is_empty() => Ok(()),
            missing => Err(format!(
                "the schema names {missing:?}, which clients read unasked: send them empty, or say \
                 in core/testkit/src/openapi/containers.rs why they may be absent"
            )),
        }
    }

    /// Checks an error that has no schema of its own.
    fn error(&self, body: Option<&Value>) -> Result<(), String> {
        self.validate(ERROR, body)
    }

    fn validate(&self, schema: &str, body: Option<&Value>) -> Result<(), String> {
        let Some(body) = body else { return Err("the body is not JSON".to_owned()) };
        let validator = self.validator(schema);
        let problems = validator.iter_errors(body);
        let problems = problems.map(|problem| format!("at {}: {problem}", problem.instance_path()));
        let problems: Vec<String> = problems.take(5).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    fn validator(&self, schema: &str) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(|broken| broken.into_inner());
        if let Some(validator) = validators.get(schema) {
            return Arc::clone(validator);
        }
        let validator = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .with_registry(&self.registry)
            .should_ignore_unknown_formats(true)
            .should_validate_formats(true)
            .with_format("mx-user-id", |text: &str| UserId::parse(text).is_ok())
            .with_format("mx-room-id", |text: &str| RoomId::parse(text).is_ok())
            .with_format("mx-event-id", |text: &str| EventId::parse(text).is_ok())
            .with_format("mx-room-alias", |text: &str| RoomAliasId::parse(text).is_ok())
            .with_format("mx-server-name", |text: &str| ServerName::parse(text).is_ok())
            .with_format("mx-mxc-uri", |text: &str| <&MxcUri>::from(text).validate().is_ok())
            .build(&json!({ "$ref": schema }));
        let validator = Arc::new(validator.expect("a schema of the specification"));
        validators.insert(schema.to_owned(), Arc::clone(&validator));
        validator
    }
}

/// Leaves out of an answer what is no event of a room's history.
fn events_alone(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(chunk) = body["chunk"].as_array_mut() {
        chunk.retain(|event| event.get("event_id").is_some());
    }
    body
}

fn segments(path: &str) -> Segments {
    path.split('/').map(str::to_owned).collect()
}

fn is_name(segment: &str) -> bool {
    segment.starts_with('{')
}

#[cfg(test)]
mod tests;

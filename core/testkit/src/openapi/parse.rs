//! Reads the files below `spec/` into operations. Knows nothing of answers.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use super::{
    choices,
    operation::{Operation, Parameter},
    path::normal,
};

/// Methods an OpenAPI path may have.
const METHODS: [&str; 6] = ["get", "put", "post", "delete", "patch", "head"];

/// Returns every document by its name below `spec/`.
pub(super) fn documents() -> BTreeMap<String, Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec");
    let mut documents = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the specification's folder") {
            let path = entry.expect("a file").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).expect("a file below the root");
            let name = name.to_string_lossy().into_owned();
            if !name.ends_with(".yaml") && !name.starts_with("event-schemas/examples") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a readable file");
            let document = serde_saphyr::from_str(&text)
                .unwrap_or_else(|error| panic!("{name} cannot be read: {error}"));
            documents.insert(name, document);
        }
    }
    documents
}

/// Removes examples, which may hold `$ref`s of another kind, from what validators see.
pub(super) fn strip_examples(document: &mut Value) {
    match document {
        Value::Object(members) => {
            members.retain(|key, _| key != "example" && key != "examples");
            members.values_mut().for_each(strip_examples);
        }
        Value::Array(values) => values.iter_mut().for_each(strip_examples),
        _ => {}
    }
}

/// Returns every operation of the client-server API.
pub(super) fn operations(documents: &BTreeMap<String, Value>) -> Vec<Operation> {
    let mut operations = Vec::new();
    let files = documents.iter().filter_map(|(name, document)| {
        let file = name.strip_prefix("api/client-server/")?.strip_suffix(".yaml")?;
        (!file.contains('/')).then_some((name, file, document))
    });
    for (name, file, document) in files {
        let base = &document["servers"][0]["variables"]["basePath"]["default"];
        let base = base.as_str().unwrap_or_default();
        let paths = document["paths"].as_object().into_iter().flatten();
        for (path, methods) in paths {
            for method in METHODS {
                if methods.get(method).is_some() {
                    let reader = Reader { documents, name, document };
                    let mut operation = reader.operation(path, method);
                    operation.path = format!("{base}{}", path.trim());
                    operation.file = file.to_owned();
                    operations.push(operation);
                }
            }
        }
    }
    operations
}

/// Reads one file.
struct Reader<'a> {
    documents: &'a BTreeMap<String, Value>,
    name: &'a str,
    document: &'a Value,
}

impl Reader<'_> {
    fn operation(&self, path: &str, method: &str) -> Operation {
        let described = &self.document["paths"][path][method];
        let parameters = described["parameters"].as_array().into_iter().flatten();
        let parameters = parameters.map(|parameter| {
            let parameter = self.resolved(parameter);
            let text = |key: &str| parameter[key].as_str().unwrap_or_default().to_owned();
            let example = [&parameter["example"], &parameter["schema"]["example"]];
            Parameter {
                name: text("name"),
                place: text("in"),
                required: parameter["required"] == true,
                example: example.into_iter().find(|example| !example.is_null()).cloned(),
                values: self.values(&parameter["schema"]),
            }
        });
        let parameters = parameters.collect();
        let request = self.resolved(&described["requestBody"]);
        let json = &request["content"]["application/json"];
        let answers = described["responses"].as_object().into_iter().flatten();
        let answers = answers.filter_map(|(status, answer)| {
            let place = match answer["$ref"].as_str() {
                Some(reference) => reference.trim_start_matches('#').to_owned(),
                None => format!("/paths/{}/{method}/responses/{status}", escaped(path)),
            };
            let schema = &self.resolved(answer)["content"]["application/json"]["schema"];
            let schema = schema.is_object().then(|| {
                let place = format!("{place}/content/application~1json/schema");
                format!("file:///spec/{}#{}", self.name, percent_encoded(&place))
            });
            Some((status.parse().ok()?, schema))
        });
        let (choices, texts) = choices::of_schema(self.documents, self.name, &json["schema"]);
        let mut schemes = described["security"].as_array().into_iter().flatten();
        Operation {
            id: described["operationId"].as_str().unwrap_or_default().to_owned(),
            method: method.to_uppercase(),
            path: String::new(),
            file: String::new(),
            deprecated: described["deprecated"] == true,
            authenticated: described["security"].is_array(),
            token_optional: schemes.any(|scheme| scheme == &serde_json::json!({})),
            parameters,
            takes_json: json.is_object(),
            choices,
            texts,
            example: self.example(json),
            answers: answers.collect(),
        }
    }

    /// Returns what the schema of a parameter lists; nothing where it takes anything.
    fn values(&self, schema: &Value) -> Vec<String> {
        let (choices, _) = choices::of_schema(self.documents, self.name, schema);
        let choices = choices.into_iter();
        choices.filter(|choice| choice.place.is_empty()).flat_map(|choice| choice.values).collect()
    }

    /// Follows a reference within the file.
    fn resolved<'v>(&'v self, value: &'v Value) -> &'v Value {
        match value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
            Some(place) => self.document.pointer(place).unwrap_or(value),
            None => value,
        }
    }

    /// Finds an example of a body: its own, or that of its schema.
    fn example(&self, json: &Value) -> Option<Value> {
        let many = json["examples"].as_object().into_iter().flatten();
        let mut found = many.map(|(_, example)| &example["value"]).collect::<Vec<_>>();
        found.extend([&json["example"], &json["schema"]["example"]]);
        let found = found.into_iter().find(|example| !example.is_null())?;
        Some(self.filled(found))
    }

    /// Replaces references in an example by what they point to; members beside them win.
    fn filled(&self, example: &Value) -> Value {
        match example {
            Value::Array(values) => values.iter().map(|value| self.filled(value)).collect(),
            Value::Object(members) => {
                let mut whole = serde_json::Map::new();
                if let Some(Value::String(reference)) = members.get("$ref") {
                    let folder = Path::new(self.name).parent().unwrap_or(Path::new(""));
                    let name = normal(&folder.join(reference));
                    if let Some(Value::Object(shared)) = self.documents.get(&name) {
                        whole.extend(shared.clone());
                    }
                }
                for (key, value) in members.iter().filter(|(key, _)| *key != "$ref") {
                    whole.insert(key.clone(), self.filled(value));
                }
                Value::Object(whole)
            }
            other => other.clone(),
        }
    }
}

/// Escapes a key for a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Escapes what a JSON pointer may hold and a URI may not.
fn percent_encoded(pointer: &str) -> String {
    pointer.replace('%', "%25").replace('{', "%7B").replace('}', "%7D").replace(' ', "%20")
}

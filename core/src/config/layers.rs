//! Puts the sources on top of each other: the file, the environment, the flags. Each setting of the
//! environment and each flag is checked alone first, so that an error can name it.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{
    file::File,
    problem::{ConfigError, Problem, from_json, from_yaml, is_of_others},
    setting::{Setting, Source, VARIABLE_PREFIX},
};

/// Keys whose values are paths: outside the file they start where the program was started.
const PATHS: [&str; 2] = ["data_dir", "routes"];
/// A variable of ours that is not a setting: it names the file.
const FILE_VARIABLE: &str = "COLONNADE_CONFIG";

/// Where the settings come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file; a missing one has no settings.
    pub path: PathBuf,
    /// The environment, names and values; only those with our prefix count, and of them those that name a topic
    /// or nearly do.
    pub environment: Vec<(String, String)>,
    /// What the command line says.
    pub flags: Vec<Setting>,
}

/// Reads and merges everything.
pub(super) fn merge(sources: &Sources) -> Result<File, ConfigError> {
    let name = sources.path.display().to_string();
    let text = match std::fs::read_to_string(&sources.path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(cause) => return Err(ConfigError::Read { path: name, cause }),
    };
    let mut problems = Vec::new();
    let yaml = |error: serde_saphyr::Error| from_yaml(&name, &text, &error);
    if let Err(error) = serde_saphyr::from_str::<Option<File>>(&text) {
        problems.push(yaml(error));
    }
    let tree = serde_saphyr::from_str::<Option<Value>>(&text);
    let mut tree = match tree {
        Ok(Some(Value::Object(tree))) => tree,
        Ok(_) | Err(_) => Map::new(),
    };
    // A URL alone stands for its section, so that other layers can add to it.
    if let Some(url @ Value::String(_)) = tree.get("database").cloned() {
        put(&mut tree, "database.url", url);
    }
    // A topic whose keys are all commented out.
    tree.retain(|_, topic| !topic.is_null());
    for setting in from_environment(&sources.environment).iter().chain(&sources.flags) {
        match checked(setting) {
            Ok(Some(value @ Value::String(_))) if setting.key == "database" => {
                put(&mut tree, "database.url", value);
            }
            Ok(Some(value)) => put(&mut tree, &setting.key, value),
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(ConfigError::Problems(problems));
    }
    serde_json::from_value(Value::Object(tree)).map_err(|error| {
        let problem = Problem { place: name, key: None, problem: error.to_string(), mend: None };
        ConfigError::Problems(vec![problem])
    })
}

/// The settings of the environment, sorted, so that the result does not depend on its order.
fn from_environment(environment: &[(String, String)]) -> Vec<Setting> {
    let ours = environment.iter().filter(|(name, _)| name != FILE_VARIABLE);
    let mut settings: Vec<Setting> = ours
        .filter_map(|(name, value)| {
            let key = name.strip_prefix(VARIABLE_PREFIX)?;
            let key = key.to_lowercase().replace("__", ".");
            Some(Setting { source: Source::Variable(name.clone()), key, value: value.clone() })
        })
        .collect();
    settings.sort_by(|a, b| a.key.cmp(&b.key));
    settings
}

/// Finds the reading of the value that its key accepts: YAML, or the bare text. None for a variable that has our
/// prefix and is somebody else's.
fn checked(setting: &Setting) -> Result<Option<Value>, Problem> {
    let mut text = setting.value.clone();
    if PATHS.contains(&setting.key.as_str())
        && let Ok(absolute) = std::path::absolute(&text)
    {
        text = absolute.to_string_lossy().into_owned();
    }
    let bare = Value::String(text.clone());
    let read = serde_saphyr::from_str::<Value>(&text).unwrap_or_else(|_| bare.clone());
    let accepted = |value: &Value| {
        let mut alone = Map::new();
        put(&mut alone, &setting.key, value.clone());
        serde_json::from_value::<File>(Value::Object(alone)).map(|_| ())
    };
    match accepted(&read) {
        Ok(()) => Ok(Some(read)),
        Err(error) => match accepted(&bare) {
            Ok(()) => Ok(Some(bare)),
            Err(_) if is_of_others(setting, &error) => Ok(None),
            Err(_) => Err(from_json(setting, &error)),
        },
    }
}

/// Sets a key in the tree, making the levels above it.
fn put(tree: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            tree.insert(key.to_owned(), value);
        }
        Some((first, rest)) => {
            let below = tree.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if !below.is_object() {
                *below = Value::Object(Map::new());
            }
            if let Value::Object(below) = below {
                put(below, rest, value);
            }
        }
    }
}

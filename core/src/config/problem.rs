//! What is wrong with the configuration, where, and how to mend it. Never repeats a value that may
//! be a secret.

use std::fmt;

use strsim::jaro_winkler;

use super::setting::{Setting, Source, VARIABLE_PREFIX};

/// How alike two keys must be before one is offered instead of the other: below this, guesses
/// mislead.
const LIKENESS_MIN: f64 = 0.75;

/// How alike a variable's topic and one of ours must be before it is taken for ours, misspelled. Others have our
/// prefix, too: for a service called `colonnade` Kubernetes sets `COLONNADE_SERVICE_HOST` in every container.
const MISSPELLED_MIN: f64 = 0.9;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `file:line:column`, a variable or a flag.
    pub place: String,
    /// The key it belongs to, if one does.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What would make it right.
    pub mend: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.problem)?;
        match &self.mend {
            Some(mend) => write!(f, "; {mend}"),
            None => Ok(()),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// It was read, and is wrong in one or more places.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// Turns the YAML parser's error into a problem of the file.
pub(super) fn from_yaml(name: &str, text: &str, error: &serde_saphyr::Error) -> Problem {
    use serde_saphyr::Error as E;
    let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    let on_line = || key_on_line(text, line);
    let (key, problem, mend) = match error.without_snippet() {
        E::SerdeUnknownField { field, expected, .. } => {
            (Some(field.clone()), UNKNOWN.to_owned(), Some(did_you_mean(field, expected)))
        }
        E::SerdeUnknownVariant { variant, expected, .. } => {
            let problem = format!("`{variant}` is not one of its values");
            (on_line(), problem, Some(did_you_mean(variant, expected)))
        }
        E::DuplicateMappingKey { key, .. } => {
            let mend = "keep one of the two".to_owned();
            (key.clone().or_else(on_line), "is given twice".to_owned(), Some(mend))
        }
        E::Message { msg, .. } => (on_line(), one_line(msg), None),
        other => (on_line(), one_line(&other.to_string()), None),
    };
    Problem { place: format!("{name}:{line}:{column}"), key, problem, mend }
}

/// How an unknown key is called out.
const UNKNOWN: &str = "there is no such key";

/// Turns an error about one setting from outside the file into a problem.
pub(super) fn from_json(setting: &Setting, error: &serde_json::Error) -> Problem {
    let place = match &setting.source {
        Source::Variable(name) => format!("environment variable {name}"),
        Source::Flag(flag) => flag.clone(),
    };
    let text = error.to_string();
    if !text.starts_with("unknown field") {
        let key = Some(setting.key.clone());
        return Problem { place, key, problem: one_line(&text), mend: None };
    }
    let (unknown, known) = unknown_and_known(&text);
    let mend = match nearest(unknown, &known) {
        Some(near) => {
            let levels = setting.key.split('.');
            let mended: Vec<&str> =
                levels.map(|level| if level == unknown { near } else { level }).collect();
            match setting.source {
                Source::Variable(_) => {
                    let name = mended.join("__").to_uppercase();
                    format!("did you mean {VARIABLE_PREFIX}{name}?")
                }
                Source::Flag(_) => format!("did you mean `{}`?", mended.join(".")),
            }
        }
        None => format!("the keys here are {}", known.join(", ")),
    };
    Problem { place, key: Some(setting.key.clone()), problem: UNKNOWN.to_owned(), mend: Some(mend) }
}

/// Whether a setting that was not accepted is a variable of somebody else: its topic is none of ours, nor nearly one.
pub(super) fn is_of_others(setting: &Setting, error: &serde_json::Error) -> bool {
    let text = error.to_string();
    let (unknown, known) = unknown_and_known(&text);
    matches!(setting.source, Source::Variable(_))
        && text.starts_with("unknown field")
        && setting.key.split('.').next() == Some(unknown)
        && known.iter().all(|key| jaro_winkler(unknown, key) < MISSPELLED_MIN)
}

/// The names in an error about an unknown key: they stand between backticks, the unknown one first.
fn unknown_and_known(text: &str) -> (&str, Vec<&str>) {
    let mut names = text.split('`').skip(1).step_by(2);
    (names.next().unwrap_or_default(), names.collect())
}

fn did_you_mean(unknown: &str, known: &[&'static str]) -> String {
    match nearest(unknown, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("possible here: {}", known.join(", ")),
    }
}

/// Finds the known key that looks most like the unknown one.
fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = known.iter().map(|key| (jaro_winkler(unknown, key), *key));
    let likely = likeness.filter(|(likeness, _)| *likeness >= LIKENESS_MIN);
    likely.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, key)| key)
}

/// The key that stands on a line of the file, for errors about its value.
fn key_on_line(text: &str, line: u64) -> Option<String> {
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let (key, _) = line.trim_start().trim_start_matches("- ").split_once(':')?;
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (plain && !key.is_empty()).then(|| key.to_owned())
}

fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or(text).trim();
    // The JSON reader adds a place in a text nobody sees.
    line.split(" at line ").next().unwrap_or(line).to_owned()
}

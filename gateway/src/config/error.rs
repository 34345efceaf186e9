//! What is wrong with a routes file, where, and how to mend it. Never a panic, never a bare
//! "invalid".

use std::fmt;

use strsim::jaro_winkler;

/// How alike two keys must be before one is offered as the mend: below this, guesses mislead.
const LIKENESS_MIN: f64 = 0.75;

/// One thing wrong in a routes file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was named to the reader.
    pub file: String,
    /// Line, from 1; 0 when the fault belongs to the whole file.
    pub line: u64,
    /// Column, from 1; 0 when the fault belongs to the whole file.
    pub column: u64,
    /// The key the fault belongs to, if one does.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What would make it right.
    pub mend: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
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

/// A routes file that cannot be used. The table in force, if there is one, stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A certificate the file names cannot be used.
    #[error("listener `{listener}`")]
    Certificate {
        /// The listener.
        listener: String,
        /// Why.
        #[source]
        cause: CertificateError,
    },
    /// The access log cannot be opened.
    #[error("cannot open the access log {path}")]
    AccessLog {
        /// The log.
        path: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file is read and wrong in one or more places.
    #[error("{}", lines(.0))]
    Faults(Vec<Fault>),
}

impl ConfigError {
    /// Says every fault found; empty when the file could not be read at all.
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Read { .. } | Self::Certificate { .. } | Self::AccessLog { .. } => &[],
            Self::Faults(faults) => faults,
        }
    }
}

fn lines(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    lines.join("\n")
}

/// Offers the known key that looks most like the unknown one.
pub(crate) fn nearest<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|key| (jaro_winkler(unknown, key), key))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}

/// Turns the parser's error into a fault with a place and a mend.
pub(super) fn from_yaml(file: &str, error: &serde_saphyr::Error) -> Fault {
    use serde_saphyr::Error as E;
    let place = error.location();
    let (key, problem, mend) = match error.without_snippet() {
        E::SerdeUnknownField { field, expected, .. } => (
            Some(field.clone()),
            "is not a key known here".to_owned(),
            Some(mend_from(field, expected, "keys")),
        ),
        E::SerdeUnknownVariant { variant, expected, .. } => (
            Some(variant.clone()),
            "is not a value known here".to_owned(),
            Some(mend_from(variant, expected, "values")),
        ),
        E::SerdeMissingField { field, .. } => (
            Some((*field).to_owned()),
            "is missing here".to_owned(),
            Some(format!("add `{field}:`")),
        ),
        E::DuplicateMappingKey { key, .. } => {
            (key.clone(), "is given twice".to_owned(), Some("keep one of the two".to_owned()))
        }
        E::Message { msg, .. } => (None, msg.clone(), None),
        other => (None, one_line(&other.to_string()), None),
    };
    Fault {
        file: file.to_owned(),
        line: place.as_ref().map_or(0, |p| p.line()),
        column: place.as_ref().map_or(0, |p| p.column()),
        key,
        problem,
        mend,
    }
}

fn mend_from(unknown: &str, expected: &[&'static str], what: &str) -> String {
    match nearest(unknown, expected.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the {what} known here are {}", expected.join(", ")),
    }
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or(text).trim().to_owned()
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read, or holds nothing of the kind.
    #[error("cannot read {what} from {path}: {why}")]
    Read {
        /// A certificate or a key.
        what: &'static str,
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// Certificate and key do not belong together, or are of no usable kind.
    #[error("cannot use {path}: {cause}")]
    Use {
        /// The certificate's file.
        path: String,
        /// Why.
        #[source]
        cause: rustls::Error,
    },
}

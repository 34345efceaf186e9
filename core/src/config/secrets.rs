//! Whether others than our own user may read a configuration file that holds secrets.

use std::path::{Path, PathBuf};

use colonnade_storage::database::secret_file::wider;
use serde_json::Value;

/// Parts of the names of keys whose values are secrets.
const SECRET_NAMES: [&str; 3] = ["secret", "password", "tokens"];

/// A configuration file with secrets that others may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    path: PathBuf,
    mode: u32,
    key: String,
}

impl Readable {
    /// Looks at a file; a missing one holds nothing.
    pub(super) fn find(path: &Path) -> Option<Self> {
        let mode = wider(path)?;
        let text = std::fs::read_to_string(path).ok()?;
        let tree: Value = serde_saphyr::from_str(&text).ok()?;
        let key = secret_in(&tree, "")?;
        Some(Self { path: path.to_owned(), mode, key })
    }

    /// Warns of it in the log.
    pub(crate) fn warn(&self) {
        let Self { path, mode, key } = self;
        let path = path.display();
        tracing::warn!(
            "others may read the configuration {path}, its rights are {mode:o}, and it holds a secret \
             ({key}); mend it with chmod 600 {path}"
        );
    }
}

/// Finds a secret: what a key's name says is one, or an address with a password.
fn secret_in(value: &Value, key: &str) -> Option<String> {
    let is_named = SECRET_NAMES.iter().any(|name| key.contains(name));
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => (is_named || has_password(text)).then(|| key.to_owned()),
        Value::Array(values) if is_named => (!values.is_empty()).then(|| key.to_owned()),
        Value::Array(values) => values.iter().find_map(|value| secret_in(value, key)),
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            secret_in(value, &key)
        }),
        Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Says whether an address carries a password, before its host or among its parameters.
fn has_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = authority.split('/').next().unwrap_or(authority);
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || query.split('&').any(|pair| pair.starts_with("password="))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_with_secrets_that_others_may_read_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("colonnade.yaml");
        let found = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Readable::find(&path).map(|found| found.key)
        };
        for (text, key) in [
            ("registration: { shared_secret: x }", Some("registration.shared_secret")),
            ("registration: { tokens: [x] }", Some("registration.tokens")),
            ("voip: { turn_password: x }", Some("voip.turn_password")),
            ("database: postgres://u:p@h/d", Some("database")),
            ("database: { url: 'postgres:///d?host=/run&password=p' }", Some("database.url")),
            ("redis: { url: 'redis://:p@127.0.0.1/0' }", Some("redis.url")),
            ("database: postgres://u@h/d", None),
            ("registration: { shared_secret: null, tokens: [] }", None),
            ("limits: { login_tokens_max: 5 }", None),
            ("server_name: localhost", None),
            ("", None),
        ] {
            assert_eq!(found(text, 0o644).as_deref(), key, "{text}");
            assert_eq!(found(text, 0o640).as_deref(), key, "{text}");
            assert_eq!(found(text, 0o600), None, "{text}");
        }
        assert_eq!(Readable::find(&folder.path().join("none")), None);
    }
}

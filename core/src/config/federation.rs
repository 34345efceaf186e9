//! What the file says of other servers, as far as its types do not say it: files exist, and their paths start at
//! the configuration's folder.

use std::path::Path;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use colonnade_model::ruma::ServerName;
use colonnade_rooms::settings::{Federation, FederationListener};

use super::problem::{ConfigError, Problem};

/// Checks the section, and decides what it leaves open: a server named `localhost` has nobody to speak with.
pub(super) fn checked(
    section: Federation,
    server_name: &ServerName,
    folder: &Path,
) -> Result<Federation, ConfigError> {
    let mut section = section;
    let mut problems = Vec::new();
    for path in &mut section.trusted_ca_files {
        *path = folder.join(&*path);
        problems.extend(missing("federation.trusted_ca_files", path));
    }
    for FederationListener { certificate, key, .. } in &mut section.listen {
        for path in [certificate, key] {
            *path = folder.join(&*path);
            problems.extend(missing("federation.listen", path));
        }
    }
    if let Some(key) = &section.well_known_policy_key
        && !is_key(key)
    {
        problems.push(Problem {
            place: "federation".to_owned(),
            key: Some("federation.well_known_policy_key".to_owned()),
            problem: "this is no ed25519 key".to_owned(),
            mend: Some("name its 32 bytes in base64, 43 characters".to_owned()),
        });
    }
    if section.retry_min_ms == 0 || section.retry_max_ms < section.retry_min_ms {
        problems.push(Problem {
            place: "federation".to_owned(),
            key: Some("federation.retry_min_ms".to_owned()),
            problem: format!(
                "pauses from {} to {} milliseconds cannot be doubled",
                section.retry_min_ms, section.retry_max_ms
            ),
            mend: Some("name 1 or more, and no more than retry_max_ms".to_owned()),
        });
    }
    if !problems.is_empty() {
        return Err(ConfigError::Problems(problems));
    }
    section.enabled = Some(section.enabled.unwrap_or(server_name.host() != "localhost"));
    if section.enabled == Some(false) {
        section.listen.clear();
    }
    Ok(section)
}

fn is_key(text: &str) -> bool {
    let bytes = STANDARD_NO_PAD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text));
    bytes.is_ok_and(|bytes| bytes.len() == 32)
}

fn missing(key: &str, path: &Path) -> Option<Problem> {
    (!path.is_file()).then(|| Problem {
        place: path.display().to_string(),
        key: Some(key.to_owned()),
        problem: "there is no such file".to_owned(),
        mend: Some("name an existing PEM file; a relative path starts beside this one".to_owned()),
    })
}

//! What the file says of other servers, as far as its types do not say it: files exist, and their paths start at
//! the configuration's folder.

use std::path::Path;

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

fn missing(key: &str, path: &Path) -> Option<Problem> {
    (!path.is_file()).then(|| Problem {
        place: path.display().to_string(),
        key: Some(key.to_owned()),
        problem: "there is no such file".to_owned(),
        mend: Some("name an existing PEM file; a relative path starts beside this one".to_owned()),
    })
}

//! Files for our own user's eyes only: they hold secrets, or may come to.

use std::{io::Write as _, path::Path};

pub use colonnade_storage::database::secret_file::make_folder;
use colonnade_storage::database::secret_file::{new_file, open_file, wider};

/// Writes a new file that only its owner may read, in a folder that is made where it is missing, and
/// makes sure it is on disk.
///
/// # Errors
/// When the file exists or cannot be written.
pub(crate) fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let mut file = new_file(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Writes a file that only its owner may read, in place of what it held.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = open_file(path)?;
    file.set_len(0)?;
    file.write_all(bytes)
}

/// Warns when others than our own user may look into what should be private.
pub(crate) fn warn_of_wider(data_dir: &Path) {
    let Some(mode) = wider(data_dir) else { return };
    // In a folder that others cannot enter, it does not matter what they could read.
    tracing::warn!(
        "others may enter the data folder {}, its rights are {mode:o}: it holds keys, messages and \
         files; mend it with chmod -R go= {}",
        data_dir.display(),
        data_dir.display(),
    );
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_private_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        write_new(&path, "first").unwrap();
        let why = write_new(&path, "second").unwrap_err();
        assert_eq!(why.kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

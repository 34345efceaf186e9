//! Files for our own user's eyes only: they hold secrets, or may come to.

use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

/// Writes a new file that only its owner may read, in a folder that is made where it is missing, and
/// makes sure it is on disk.
///
/// # Errors
/// When the file exists or cannot be written.
pub(crate) fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
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

//! Files and folders for our own user's eyes only: they hold what people say to each other, and keys.
//! Made with their rights from the beginning, whatever the process's umask is, which can only take
//! more away. What exists keeps the rights it has, and [`wider`] tells.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::Result,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// The rights of a private folder.
pub const FOLDER_MODE: u32 = 0o700;
/// The rights of a private file.
pub const FILE_MODE: u32 = 0o600;

/// Makes a folder, and those above it, where they are missing.
///
/// # Errors
/// When it cannot be made.
pub fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Opens a file for writing, and makes it where it is missing.
///
/// # Errors
/// When it cannot be opened.
pub fn open_file(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(path)
}

/// Opens a new file for writing.
///
/// # Errors
/// When it exists or cannot be made.
pub fn new_file(path: &Path) -> Result<File> {
    OpenOptions::new().create_new(true).write(true).mode(FILE_MODE).open(path)
}

/// Returns the rights of what is there if others than our own user have any.
pub fn wider(path: &Path) -> Option<u32> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_private_and_a_wider_one_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        make_folder(&inner).unwrap();
        make_folder(&inner).unwrap();
        open_file(&inner.join("open")).unwrap();
        new_file(&inner.join("new")).unwrap();
        assert!(new_file(&inner.join("new")).is_err());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path().join("a")), FOLDER_MODE);
        assert_eq!(mode(&inner), FOLDER_MODE);
        for file in ["open", "new"] {
            assert_eq!((mode(&inner.join(file)), wider(&inner.join(file))), (FILE_MODE, None));
        }
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(wider(&inner), Some(0o755));
    }
}

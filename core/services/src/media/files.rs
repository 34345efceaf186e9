//! Files on disk under the hash of their content: `media/ab/cd/<rest of the hash>`. A file is written
//! aside under a name of its own, made durable, and moved into place whole; what a crash leaves aside
//! is swept at a later start. Knows nothing of ids and users.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use colonnade_storage::{StorageError, database::secret_file, media::ContentHash};
use futures_util::StreamExt as _;
use tokio::{fs, io::AsyncWriteExt as _};

use super::body::{Body, PIECE_TIMEOUT};

/// Bytes collected before they are hashed and written: one hop to the file thread per piece.
const PIECE_BYTES: usize = 256 * 1024;
/// Files aside that are older than this belong to nobody: no upload lasts a day.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// A file operation that failed, with the file it failed on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}", path.display())]
pub(super) struct FileError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    pub(super) source: io::Error,
}

impl FileError {
    fn new(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self { doing, path, source }
    }
}

/// Why a body did not become a file.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is larger than allowed.
    TooLarge,
    /// It was not admitted any further.
    Refused(StorageError),
    /// It stopped arriving.
    Interrupted,
    /// The disk.
    Disk(FileError),
}

/// A file written aside. Dropping it deletes it there; what was put in its place stays.
pub(super) struct Aside {
    path: PathBuf,
    pub(super) hash: ContentHash,
    pub(super) bytes: u64,
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Gone already when it was moved into place; anything else is swept at a later start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Content moved away from its place. Dropping it moves it back.
pub(super) struct Taken {
    place: PathBuf,
    aside: Option<Aside>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(aside) = &self.aside {
            let _ = std::fs::rename(&aside.path, &self.place);
        }
    }
}

/// The folder of all media.
#[derive(Clone)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    /// Makes the folders and removes what uploads cut short by a crash have left.
    pub(super) async fn open(data_dir: &Path, now_ms: i64) -> Result<Self, FileError> {
        let root = data_dir.join("media");
        let aside = root.join("aside");
        make_folder(&aside).await?;
        let old =
            Duration::from_millis(u64::try_from(now_ms).unwrap_or(0)).checked_sub(LEFT_BEHIND);
        if let Some(old) = old {
            sweep(&aside, old).await.map_err(FileError::new("sweep", &aside))?;
        }
        Ok(Self { root })
    }

    /// Writes a body aside, hashing it on the way; never holds more than a piece of it in memory. Asks
    /// `admit` with the bytes so far before any more are written.
    pub(super) async fn receive(
        &self,
        name: &str,
        bytes_max: u64,
        mut body: impl Body,
        mut admit: impl FnMut(u64) -> Result<(), StorageError>,
    ) -> Result<Aside, Failure> {
        let path = self.root.join("aside").join(name);
        let disk = |doing: &'static str, path: &Path| {
            let wrap = FileError::new(doing, path);
            move |error| Failure::Disk(wrap(error))
        };
        let file = new_file(&path).await;
        let mut file = file.map_err(disk("create", &path))?;
        let mut aside = Aside { path: path.clone(), hash: [0; 32], bytes: 0 };
        let mut hasher = blake3::Hasher::new();
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        loop {
            let next = tokio::time::timeout(PIECE_TIMEOUT, body.next()).await;
            let bytes: Option<Bytes> = next
                .map_err(|_| Failure::Interrupted)?
                .transpose()
                .map_err(|_| Failure::Interrupted)?;
            let last = bytes.is_none();
            let bytes = bytes.unwrap_or_default();
            aside.bytes = aside.bytes.saturating_add(bytes.len() as u64);
            if aside.bytes > bytes_max {
                return Err(Failure::TooLarge);
            }
            admit(aside.bytes).map_err(Failure::Refused)?;
            piece.extend_from_slice(&bytes);
            if piece.len() >= PIECE_BYTES || last {
                hasher.update(&piece);
                file.write_all(&piece).await.map_err(disk("write", &path))?;
                piece.clear();
            }
            if last {
                break;
            }
        }
        file.flush().await.map_err(disk("write", &path))?;
        file.sync_all().await.map_err(disk("sync", &path))?;
        aside.hash = *hasher.finalize().as_bytes();
        Ok(aside)
    }

    /// Puts a file into its place, too, and makes that durable. The same content may be there already:
    /// then it is replaced by itself, which also mends a file that was damaged.
    pub(super) async fn keep(&self, aside: &Aside) -> Result<(), FileError> {
        let (first, second, place) = self.place(&aside.hash);
        make_folder(&second).await?;
        let twin = Aside { path: aside.path.with_extension("twin"), hash: aside.hash, bytes: 0 };
        if fs::hard_link(&aside.path, &twin.path).await.is_err() {
            // Not every file system has two names for one file.
            fs::copy(&aside.path, &twin.path).await.map_err(FileError::new("copy", &twin.path))?;
            sync_path(&twin.path).await.map_err(FileError::new("sync", &twin.path))?;
        }
        fs::rename(&twin.path, &place).await.map_err(FileError::new("create", &place))?;
        for folder in [&second, &first, &self.root] {
            sync_path(folder).await.map_err(FileError::new("sync", folder))?;
        }
        Ok(())
    }

    /// Puts a file into its place once more if somebody took it from there meanwhile.
    pub(super) async fn keep_still(&self, aside: &Aside) -> Result<(), FileError> {
        let (_, _, place) = self.place(&aside.hash);
        let is_there = fs::try_exists(&place).await.map_err(FileError::new("read", &place))?;
        if is_there { Ok(()) } else { self.keep(aside).await }
    }

    /// Opens the content with this hash.
    pub(super) async fn read(&self, hash: &ContentHash) -> Result<(fs::File, u64), FileError> {
        let (_, _, place) = self.place(hash);
        let file = fs::File::open(&place).await.map_err(FileError::new("open", &place))?;
        let facts = file.metadata().await.map_err(FileError::new("read", &place))?;
        Ok((file, facts.len()))
    }

    /// Returns where something made of the content with this hash is kept: `name` is ours.
    pub(super) fn beside(&self, hash: &ContentHash, name: &str) -> PathBuf {
        let (_, second, place) = self.place(hash);
        let hash = place.file_name().unwrap_or_default().to_string_lossy();
        second.join(format!("{hash}.{name}"))
    }

    /// Stores something that can be made again: whole or not at all.
    pub(super) async fn keep_beside(
        &self,
        place: &Path,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), FileError> {
        let path = self.root.join("aside").join(name);
        let aside = Aside { path: path.clone(), hash: [0; 32], bytes: 0 };
        let mut file = new_file(&path).await.map_err(FileError::new("create", &path))?;
        file.write_all(bytes).await.map_err(FileError::new("write", &path))?;
        file.sync_all().await.map_err(FileError::new("sync", &path))?;
        fs::rename(&path, place).await.map_err(FileError::new("create", place))?;
        drop(aside);
        Ok(())
    }

    /// Returns one of the 256 folders that hold all content, and what is in it: the files last written
    /// a day ago or earlier, by their hash. Thumbnails go with what they were made of.
    pub(super) async fn old_in(
        &self,
        first: u8,
        now_ms: i64,
    ) -> Result<Vec<ContentHash>, FileError> {
        let now = Duration::from_millis(u64::try_from(now_ms).unwrap_or(0));
        let Some(old) = now.checked_sub(LEFT_BEHIND) else { return Ok(Vec::new()) };
        let first_folder = self.root.join(format!("{first:02x}"));
        let mut hashes = Vec::new();
        let Some(mut folders) = entries(&first_folder).await? else { return Ok(hashes) };
        let wrap = || FileError::new("list", &first_folder);
        while let Some(folder) = folders.next_entry().await.map_err(wrap())? {
            let Some(mut files) = entries(&folder.path()).await? else { continue };
            while let Some(file) = files.next_entry().await.map_err(wrap())? {
                let second = folder.file_name();
                let name = file.file_name();
                let hex =
                    format!("{first:02x}{}{}", second.to_string_lossy(), name.to_string_lossy());
                // A thumbnail has a longer name, and is no hash.
                let Ok(hash) = blake3::Hash::from_hex(hex) else { continue };
                let Ok(facts) = file.metadata().await else { continue };
                if written(&facts).is_some_and(|at| at < old) {
                    hashes.push(*hash.as_bytes());
                }
            }
        }
        Ok(hashes)
    }

    /// Moves the content with this hash away under a name of its own; `None` when there is none.
    pub(super) async fn take(
        &self,
        hash: &ContentHash,
        name: &str,
    ) -> Result<Option<Taken>, FileError> {
        let (_, _, place) = self.place(hash);
        let path = self.root.join("aside").join(name);
        match fs::rename(&place, &path).await {
            Ok(()) => Ok(Some(Taken { place, aside: Some(Aside { path, hash: *hash, bytes: 0 }) })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::new("move", &place)(error)),
        }
    }

    /// Deletes content that was taken, and what was made of it.
    pub(super) async fn discard(&self, mut taken: Taken) -> Result<(), FileError> {
        let Some(aside) = taken.aside.take() else { return Ok(()) };
        let (_, second, place) = self.place(&aside.hash);
        drop(aside);
        let hash = place.file_name().unwrap_or_default().to_string_lossy().into_owned() + ".";
        let Some(mut files) = entries(&second).await? else { return Ok(()) };
        while let Some(file) = files.next_entry().await.map_err(FileError::new("list", &second))? {
            if file.file_name().to_string_lossy().starts_with(&hash) {
                let _ = fs::remove_file(file.path()).await;
            }
        }
        Ok(())
    }

    /// Deletes content that nothing else can be, and what was made of it.
    pub(super) async fn delete(&self, hash: &ContentHash, name: &str) -> Result<(), FileError> {
        match self.take(hash, name).await? {
            Some(taken) => self.discard(taken).await,
            None => Ok(()),
        }
    }

    /// Returns the two folders and the file for a hash.
    fn place(&self, hash: &ContentHash) -> (PathBuf, PathBuf, PathBuf) {
        let hex = blake3::Hash::from_bytes(*hash).to_hex();
        let first = self.root.join(&hex[..2]);
        let second = first.join(&hex[2..4]);
        let place = second.join(&hex[4..]);
        (first, second, place)
    }
}

/// Lists a folder; `None` when there is none.
async fn entries(folder: &Path) -> Result<Option<fs::ReadDir>, FileError> {
    match fs::read_dir(folder).await {
        Ok(entries) => Ok(Some(entries)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::new("list", folder)(error)),
    }
}

/// When a file was last written, since the Unix epoch.
fn written(facts: &std::fs::Metadata) -> Option<Duration> {
    facts.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok())
}

/// Makes a file, or the entries of a folder, durable.
async fn sync_path(path: &Path) -> io::Result<()> {
    fs::File::open(path).await?.sync_all().await
}

/// Makes a folder for our own user's eyes only.
async fn make_folder(path: &Path) -> Result<(), FileError> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(secret_file::FOLDER_MODE).create(path).await;
    made.map_err(FileError::new("create", path))
}

/// Makes a file for our own user's eyes only.
async fn new_file(path: &Path) -> std::io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.create_new(true).write(true).mode(secret_file::FILE_MODE).open(path).await
}

/// Deletes files last written before `old`, counted from the Unix epoch.
async fn sweep(folder: &Path, old: Duration) -> io::Result<()> {
    let mut entries = fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let Ok(facts) = entry.metadata().await else { continue };
        if facts.is_file() && written(&facts).is_some_and(|at| at < old) {
            let _ = fs::remove_file(entry.path()).await;
        }
    }
    Ok(())
}

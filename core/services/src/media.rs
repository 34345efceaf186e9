//! Uploaded files: an id and what was said about the file in the database, the bytes on disk under
//! their hash (`media/files.rs`), smaller pictures beside them (`media/thumbnails.rs`).
//!
//! Invariants:
//! 1. An upload is answered only after its file, the file's folder and its row are on disk.
//! 2. A name a client chose never becomes part of a path: paths are made of hashes and numbers.
//! 3. Memory per upload or download is one buffer, whatever the size of the file.
//! 4. What is refused leaves nothing on disk, and what is on its way counts against the quota
//!    (`media/arriving.rs`, `media/storing.rs`).
//! 5. A picture is decoded only after its header was found to be within the limits.
//!
//! Files of other servers are fetched when somebody asks for them, and kept for a while (`media/elsewhere.rs`).

mod arriving;
mod body;
mod elsewhere;
mod files;
mod keys;
mod pictures;
mod sizes;
mod storing;
mod sweeping;
mod thumbnails;
mod transfer;

use std::{sync::Arc, time::Duration};

use colonnade_federation::messaging::Messaging;
use colonnade_model::MatrixError;
use colonnade_rooms::{Context, Error, Result};
use tokio::sync::{Notify, Semaphore};

pub use body::Body;
use body::MEDIA_ID_BYTES_MAX;
pub use sizes::Method;
pub use thumbnails::{Thumbnail, ThumbnailRequest};
pub use transfer::{Described, Download};

/// Ids a user may hold without having uploaded anything to them: a batch of attachments fits, and
/// nobody fills the table.
const PENDING_PER_USER_MAX: i64 = 20;
/// How long an id waits for its content; the specification recommends a day.
const PENDING_LIFETIME_MS: i64 = 24 * 60 * 60 * 1_000;
/// How long a download waits for content when the client does not say.
const WAIT_DEFAULT: Duration = Duration::from_secs(20);
/// How long a download may wait for content: below the usual idle timeout of proxies.
const WAIT_MAX: Duration = Duration::from_secs(50);
/// How often a waiting download looks whether another process took the upload.
const WAIT_LOOK: Duration = Duration::from_secs(2);
/// Pictures decoded at once: each may take [`pictures::ALLOCATED_MAX`] bytes and a whole core.
const THUMBNAILS_AT_ONCE: usize = 2;
/// How long a request waits for its turn to have a picture decoded.
const THUMBNAIL_WAIT: Duration = Duration::from_secs(20);
/// Files remembered as impossible to thumbnail, so that they are not decoded again and again.
const REFUSED_REMEMBERED: usize = 1_000;
/// The longest file name and media type kept: what a header can carry comfortably.
const DESCRIPTION_BYTES_MAX: usize = 1_024;

/// Uploaded files.
pub struct Media {
    context: Arc<Context>,
    files: files::Files,
    arriving: arriving::Arriving,
    elsewhere: elsewhere::Elsewhere,
    /// Told whenever an id gets its content.
    filled: Notify,
    decoding: Arc<Semaphore>,
    refused: quick_cache::sync::Cache<keys::Key, pictures::Refusal>,
}

impl Media {
    pub(crate) async fn start(context: Arc<Context>, messaging: Messaging) -> Result<Self> {
        let files = files::Files::open(&context.data_dir, context.now_ms())
            .await
            .map_err(|error| Error::internal("open the media folder", error))?;
        let (ours, theirs) = (Arc::clone(&context), files.clone());
        Ok(Self {
            elsewhere: elsewhere::Elsewhere::new(ours, messaging, theirs),
            context,
            files,
            arriving: arriving::Arriving::default(),
            filled: Notify::new(),
            decoding: Arc::new(Semaphore::new(THUMBNAILS_AT_ONCE)),
            refused: quick_cache::sync::Cache::new(REFUSED_REMEMBERED),
        })
    }

    /// Returns the largest upload, in bytes.
    pub fn upload_bytes_max(&self) -> u64 {
        self.context.settings.media.upload_bytes_max
    }

    /// Tells whether `media_id` can be one at all; anything else is not even looked up.
    ///
    /// Source: Matrix v1.19, client-server, "Matrix Content (mxc://) URIs".
    fn is_media_id(media_id: &str) -> bool {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !media_id.is_empty()
            && media_id.len() <= MEDIA_ID_BYTES_MAX
            && media_id.bytes().all(letters)
    }
}

fn not_found() -> Error {
    MatrixError::not_found("there is no such media").into()
}

fn too_large(bytes_max: u64) -> Error {
    MatrixError::too_large(format!("this server takes no uploads larger than {bytes_max} bytes"))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_media_is_short_and_plain() {
        for id in ["a", "A-b_9", &"x".repeat(MEDIA_ID_BYTES_MAX)] {
            assert!(Media::is_media_id(id), "{id}");
        }
        for id in ["", "a/b", "..", "a.b", "ä", "a b", "a%2fb", &"x".repeat(MEDIA_ID_BYTES_MAX + 1)]
        {
            assert!(!Media::is_media_id(id), "{id}");
        }
    }
}

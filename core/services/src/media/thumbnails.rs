//! Thumbnails: which sizes there are, where they are kept, and how many are made at once. The pixels
//! are `pictures.rs`.

use std::{io::BufReader, sync::Arc, time::Duration};

use colonnade_model::MatrixError;
use colonnade_rooms::{Error, Result};
use colonnade_storage::media::ContentHash;

use super::{
    Media, THUMBNAIL_WAIT,
    body::MEDIA_ID_LENGTH,
    keys::Key,
    pictures::{self, Format, Picture, Refusal},
    sizes::{Method, Size},
};

/// The sizes kept, as the specification recommends them; a request gets the next larger one.
///
/// Source: Matrix v1.19, client-server, "Thumbnails".
const SIZES: [Size; 5] = [
    Size { width: 32, height: 32 },
    Size { width: 96, height: 96 },
    Size { width: 320, height: 240 },
    Size { width: 640, height: 480 },
    Size { width: 800, height: 600 },
];
/// The sizes kept of pictures cropped to a square: with the sizes above a square would be cut wrong.
const SQUARES: [Size; 5] = [
    Size { width: 32, height: 32 },
    Size { width: 96, height: 96 },
    Size { width: 240, height: 240 },
    Size { width: 480, height: 480 },
    Size { width: 800, height: 800 },
];

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct ThumbnailRequest {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// How to make it fit.
    pub method: Method,
    /// How long to wait for an id that has no content yet.
    pub wait: Option<Duration>,
}

/// A thumbnail. Small enough (at most a full-size picture of the limits in `pictures.rs`, encoded)
/// to be held in memory.
pub struct Thumbnail {
    /// `image/jpeg` or `image/png`.
    pub content_type: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
    /// The hash of the original, for caches.
    pub hash: ContentHash,
}

/// Returns the size kept for a request; `None` is the original's, for requests beyond all sizes.
fn snapped(request: &ThumbnailRequest) -> Option<Size> {
    let square = request.method == Method::Crop && request.width == request.height;
    let sizes = if square { &SQUARES } else { &SIZES };
    sizes.iter().copied().find(|size| request.width <= size.width && request.height <= size.height)
}

impl Media {
    /// Returns a thumbnail, made now or earlier.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_NOT_YET_UPLOADED`, `M_UNKNOWN` for what is not a picture, `M_TOO_LARGE` for
    /// one with too many pixels.
    pub async fn thumbnail(
        &self,
        server_name: &str,
        media_id: &str,
        request: &ThumbnailRequest,
    ) -> Result<Thumbnail> {
        if request.width == 0 || request.height == 0 {
            let why = "width and height of a thumbnail are at least 1";
            return Err(MatrixError::invalid_param(why).into());
        }
        let content = self.content(server_name, media_id, request.wait).await?;
        let size = snapped(request);
        let method = if size.is_none() { Method::Scale } else { request.method };
        let key = Key { hash: content.hash, size, method };
        if let Some(kept) = self.kept(&key).await {
            return Ok(kept);
        }
        if let Some(refusal) = self.refused.get(&key) {
            return Err(refused(refusal));
        }
        let waited = Arc::clone(&self.decoding).acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(THUMBNAIL_WAIT, waited).await else {
            let why = "too many thumbnails are being made; try again later";
            return Err(MatrixError::unavailable(why).into());
        };
        // Another request may have made it, or found that it cannot be made, meanwhile.
        if let Some(kept) = self.kept(&key).await {
            return Ok(kept);
        }
        if let Some(refusal) = self.refused.get(&key) {
            return Err(refused(refusal));
        }
        let opened = match self.files.read(&key.hash).await {
            Err(error) if self.is_lost(&error, server_name) => {
                self.elsewhere.forget(key.hash).await?;
                return Err(MatrixError::unavailable("try again: the content went away").into());
            }
            opened => opened,
        };
        let (file, _) = opened.map_err(|error| Error::internal("read an uploaded file", error))?;
        let file = BufReader::new(file.into_std().await);
        let made = tokio::task::spawn_blocking(move || {
            let made = pictures::shrink(file, key.size, key.method);
            drop(permit);
            made
        });
        // A decoder that panics on a damaged file takes only its own task with it.
        match made.await.unwrap_or(Err(Refusal::NotAPicture)) {
            Ok(picture) => Ok(self.keep_thumbnail(&key, picture).await),
            Err(refusal) => {
                self.refused.insert(key, refusal);
                Err(refused(refusal))
            }
        }
    }

    async fn kept(&self, key: &Key) -> Option<Thumbnail> {
        for format in Format::ALL {
            let place = self.files.beside(&key.hash, &key.name(format));
            if let Ok(bytes) = tokio::fs::read(place).await {
                let content_type = format.content_type();
                return Some(Thumbnail { content_type, bytes, hash: key.hash });
            }
        }
        None
    }

    /// Keeps a thumbnail for the next request. It can be made again, so failing only costs time.
    async fn keep_thumbnail(&self, key: &Key, picture: Picture) -> Thumbnail {
        let place = self.files.beside(&key.hash, &key.name(picture.format));
        let name = self.context.random.alphanumeric(MEDIA_ID_LENGTH);
        if let Err(error) = self.files.keep_beside(&place, &name, &picture.bytes).await {
            tracing::warn!(cause = %error.source, "cannot keep a thumbnail: {error}");
        }
        let content_type = picture.format.content_type();
        Thumbnail { content_type, bytes: picture.bytes, hash: key.hash }
    }
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::NotAPicture => {
            MatrixError::unknown("no thumbnail can be made of this content").into()
        }
        Refusal::TooLarge => {
            MatrixError::too_large("the picture has too many pixels for a thumbnail").into()
        }
    }
}

#[cfg(test)]
mod tests;

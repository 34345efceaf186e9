//! Uploads and downloads: who may, how large, how long one waits. The bytes go through `files.rs`.

use std::{io, time::Duration};

use bytes::Bytes;
use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    ruma::{OwnedServerName, ServerName},
};
use colonnade_rooms::{Error, Result};
use colonnade_storage::{
    media as table,
    media::{Content, Reserved, Upload},
};
use futures_util::Stream;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::{
    DESCRIPTION_BYTES_MAX, Media, PENDING_LIFETIME_MS, PENDING_PER_USER_MAX, WAIT_DEFAULT,
    WAIT_LOOK, WAIT_MAX,
    arriving::Arrival,
    body::{Body, MEDIA_ID_LENGTH},
    files::{Failure, FileError},
    not_found,
    storing::{Arrived, Row, no_room, not_stored},
    too_large,
};

/// Bytes read from a file at a time for a download.
const READ_BYTES: usize = 64 * 1024;

/// What an uploader says about a file.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// The media type.
    pub content_type: Option<String>,
    /// The file name.
    pub file_name: Option<String>,
    /// The size, if it is known before the body.
    pub bytes: Option<u64>,
}

/// A file on its way to a client.
pub struct Download {
    /// What the uploader said about it; the size is known by now.
    pub content: Content,
    file: tokio::fs::File,
}

impl Download {
    /// Returns the bytes from `first` on, `count` of them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn stream(
        mut self,
        first: u64,
        count: u64,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
        if first > 0 {
            let sought = self.file.seek(io::SeekFrom::Start(first)).await;
            sought.map_err(|error| Error::internal("read an uploaded file", error))?;
        }
        Ok(ReaderStream::with_capacity(self.file.take(count), READ_BYTES))
    }
}

impl Media {
    /// Stores a file and returns its new media id.
    ///
    /// # Errors
    /// `M_TOO_LARGE`, `M_FORBIDDEN` when the user keeps as much as it may, or `M_UNKNOWN` when the body
    /// does not arrive whole.
    pub async fn upload(
        &self,
        session: &Session,
        described: Described,
        body: impl Body,
    ) -> Result<String> {
        let arrival = self.admit(session, &described, 1).await?;
        let arrived = self.receive(described, body, arrival).await?;
        let media_id = self.context.random.alphanumeric(MEDIA_ID_LENGTH);
        let row = Row::New { media_id: media_id.clone(), uploader: session.user };
        self.store(arrived, row).await?;
        Ok(media_id)
    }

    /// Refuses a body before any of it is read that its user has no room for, be it for what is on its
    /// way. Whoever does not say how large it is is asked as it comes. `items` says how many ids it
    /// needs: none when it has one.
    async fn admit(&self, session: &Session, described: &Described, items: i64) -> Result<Arrival> {
        let quota = self.context.settings.limits.media();
        let mut arrival = self.arriving.begin(session.user, quota);
        let kept = table::kept(&self.context.db, session.user).await?;
        arrival.admit(kept, items, described.bytes.unwrap_or(0)).map_err(no_room)?;
        Ok(arrival)
    }

    /// Makes a media id to upload to later. Returns it and when it is forgotten, in milliseconds
    /// since the Unix epoch.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when the user has too many of them.
    pub async fn create(&self, session: &Session) -> Result<(String, i64)> {
        let media_id = self.context.random.alphanumeric(MEDIA_ID_LENGTH);
        let now_ms = self.context.now_ms();
        let expires_ts = now_ms + PENDING_LIFETIME_MS;
        let (id, uploader, max) = (media_id.clone(), session.user, PENDING_PER_USER_MAX);
        let reserved = self.context.db.write(move |tx| {
            Box::pin(
                async move { table::reserve(tx, &id, uploader, now_ms, expires_ts, max).await },
            )
        });
        match reserved.await? {
            Reserved::Made => Ok((media_id, expires_ts)),
            Reserved::TooMany { until_ms } => {
                let retry_after_ms = u64::try_from(until_ms - now_ms).unwrap_or(0);
                Err(MatrixError::limit_exceeded(retry_after_ms).into())
            }
        }
    }

    /// Finds out whether a body may be uploaded to an id made by [`Media::create`], before any of it
    /// is read.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_FORBIDDEN` for another user's id, `M_CANNOT_OVERWRITE_MEDIA`.
    pub async fn may_fill(
        &self,
        session: &Session,
        server_name: &str,
        media_id: &str,
    ) -> Result<()> {
        let upload = self.find(server_name, media_id).await?.ok_or_else(not_found)?;
        if upload.uploader != session.user {
            return Err(MatrixError::forbidden("another user made this media id").into());
        }
        if upload.content.is_some() {
            return Err(taken());
        }
        Ok(())
    }

    /// Stores a file under an id made by [`Media::create`].
    ///
    /// # Errors
    /// Those of [`Media::may_fill`] and [`Media::upload`].
    pub async fn fill(
        &self,
        session: &Session,
        server_name: &str,
        media_id: &str,
        described: Described,
        body: impl Body,
    ) -> Result<()> {
        self.may_fill(session, server_name, media_id).await?;
        let arrival = self.admit(session, &described, 0).await?;
        let arrived = self.receive(described, body, arrival).await?;
        let row = Row::Reserved { media_id: media_id.to_owned(), uploader: session.user };
        if !self.store(arrived, row).await? {
            return Err(taken());
        }
        self.filled.notify_waiters();
        Ok(())
    }

    /// Opens a file for download, waiting up to `wait` (20 seconds if `None`) for an id that has no
    /// content yet. One of another server is fetched.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_NOT_YET_UPLOADED`; `M_TOO_LARGE` and `M_UNKNOWN` with status 502 for what another
    /// server does not give.
    pub async fn download(
        &self,
        server_name: &str,
        media_id: &str,
        wait: Option<Duration>,
    ) -> Result<Download> {
        let (content, file, bytes) = self.open(server_name, media_id, wait).await?;
        if bytes != content.bytes {
            let why = format!("media {media_id} has {bytes} bytes, not {}", content.bytes);
            let cause = io::Error::new(io::ErrorKind::InvalidData, why);
            return Err(Error::internal("read an uploaded file", cause));
        }
        Ok(Download { content, file })
    }

    async fn open(
        &self,
        server_name: &str,
        media_id: &str,
        wait: Option<Duration>,
    ) -> Result<(Content, tokio::fs::File, u64)> {
        let content = self.content(server_name, media_id, wait).await?;
        let opened = match self.files.read(&content.hash).await {
            Err(error) if self.is_lost(&error, server_name) => {
                // It gave way just now, or the folder was not copied with the database.
                self.elsewhere.forget(content.hash).await?;
                let content = self.content(server_name, media_id, wait).await?;
                self.files.read(&content.hash).await.map(|(file, bytes)| (content, file, bytes))
            }
            opened => opened.map(|(file, bytes)| (content, file, bytes)),
        };
        opened.map_err(|error| Error::internal("read an uploaded file", error))
    }

    /// Tells whether a file is one that can be fetched again, and is not there.
    pub(super) fn is_lost(&self, error: &FileError, server_name: &str) -> bool {
        server_name != self.context.server_name.as_str()
            && error.source.kind() == io::ErrorKind::NotFound
    }

    /// Refuses what the endpoints without authentication do not serve (any more).
    ///
    /// Source: Matrix v1.19, client-server, "Content repository", on freezing.
    ///
    /// # Errors
    /// `M_NOT_FOUND` for what is served to logged-in users only.
    pub async fn may_be_public(&self, server_name: &str, media_id: &str) -> Result<()> {
        let Some(until_ms) = self.context.settings.media.unauthenticated_until_ms else {
            return Ok(());
        };
        let came_ts = match self.of_another(server_name, media_id) {
            // Nothing is fetched for strangers once that is over.
            Some(name) => match self.elsewhere.kept(&name).await? {
                Some(kept) => Some(kept.fetched_ts),
                None => Some(self.context.now_ms()),
            },
            None => self.find(server_name, media_id).await?.map(|upload| upload.created_ts),
        };
        match came_ts.is_some_and(|came_ts| came_ts < until_ms) {
            true => Ok(()),
            false => Err(not_found()),
        }
    }

    /// Refuses what would have to be fetched: whoever asks wants only what is here.
    ///
    /// # Errors
    /// `M_NOT_FOUND`.
    pub async fn require_here(&self, server_name: &str, media_id: &str) -> Result<()> {
        match self.of_another(server_name, media_id) {
            Some(name) if self.elsewhere.kept(&name).await?.is_none() => Err(not_found()),
            _ => Ok(()),
        }
    }

    /// Returns the name of a file of another server.
    fn of_another(&self, server_name: &str, media_id: &str) -> Option<(OwnedServerName, String)> {
        let server = ServerName::parse(server_name).ok()?;
        let is_another = server != self.context.server_name && Self::is_media_id(media_id);
        is_another.then(|| (server, media_id.to_owned()))
    }

    /// Returns what is known of a file once it is there.
    pub(super) async fn content(
        &self,
        server_name: &str,
        media_id: &str,
        wait: Option<Duration>,
    ) -> Result<Content> {
        let wait = wait.unwrap_or(WAIT_DEFAULT).min(WAIT_MAX);
        if let Some(name) = self.of_another(server_name, media_id) {
            return self.elsewhere.content(name, wait).await;
        }
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            // Listening starts before the look, so that nothing falls between the two.
            let mut filled = std::pin::pin!(self.filled.notified());
            filled.as_mut().enable();
            let upload = self.find(server_name, media_id).await?.ok_or_else(not_found)?;
            if let Some(content) = upload.content {
                return Ok(content);
            }
            if tokio::time::Instant::now() >= deadline {
                let error = MatrixError::not_yet_uploaded("the content is not uploaded yet");
                return Err(error.into());
            }
            let look = deadline.min(tokio::time::Instant::now() + WAIT_LOOK);
            let _ = tokio::time::timeout_at(look, filled).await;
        }
    }

    /// Looks an upload up; one that expired before its content came is gone.
    async fn find(&self, server_name: &str, media_id: &str) -> Result<Option<Upload>> {
        if ServerName::parse(server_name).is_err() || !Self::is_media_id(media_id) {
            return Ok(None);
        }
        if server_name != self.context.server_name.as_str() {
            return Ok(None);
        }
        let now_ms = self.context.now_ms();
        let upload = table::find(&self.context.db, media_id).await?;
        Ok(upload.filter(|upload| {
            upload.content.is_some() || upload.expires_ts.is_none_or(|expires| expires > now_ms)
        }))
    }

    /// Writes a body aside, durably, and says what it is.
    async fn receive(
        &self,
        described: Described,
        body: impl Body,
        mut arrival: Arrival,
    ) -> Result<Arrived> {
        let bytes_max = self.upload_bytes_max();
        if described.bytes.is_some_and(|bytes| bytes > bytes_max) {
            return Err(too_large(bytes_max));
        }
        let content_type = described.content_type.map(|kind| sound(kind, "media type"));
        let file_name = described.file_name.map(|name| sound(name, "file name"));
        let (content_type, file_name) = (content_type.transpose()?, file_name.transpose()?);
        let name = self.context.random.alphanumeric(MEDIA_ID_LENGTH);
        let received = self.files.receive(&name, bytes_max, body, |bytes| arrival.reach(bytes));
        let aside = received.await.map_err(|failure| match failure {
            Failure::TooLarge => too_large(bytes_max),
            Failure::Refused(error) => no_room(error),
            Failure::Interrupted => MatrixError::unknown("the upload did not arrive whole").into(),
            Failure::Disk(error) => not_stored(error),
        })?;
        let content = Content { hash: aside.hash, bytes: aside.bytes, content_type, file_name };
        Ok(Arrived { aside, content, arrival })
    }
}

/// Refuses descriptions too long to be handed on in a header, and drops control characters.
fn sound(text: String, what: &str) -> Result<String> {
    if text.len() > DESCRIPTION_BYTES_MAX {
        let why = format!("the {what} is longer than {DESCRIPTION_BYTES_MAX} bytes");
        return Err(MatrixError::invalid_param(why).into());
    }
    Ok(text.chars().filter(|letter| !letter.is_control()).collect())
}

fn taken() -> Error {
    MatrixError::cannot_overwrite_media("this media id has content already").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_short_and_have_no_control_characters() {
        assert_eq!(sound("a\r\nb\u{7f}c ü".to_owned(), "file name").unwrap(), "abc ü");
        let longest = "x".repeat(DESCRIPTION_BYTES_MAX);
        assert_eq!(sound(longest.clone(), "file name").unwrap(), longest);
        assert!(sound(longest + "x", "file name").is_err());
    }
}

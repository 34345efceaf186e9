//! Files of other servers: fetched once for all who wait, written to disk as they come, and kept here while there
//! is room. What another server says of a file is believed no more than what an uploader says of his.
//!
//! Each lies under a name that is drawn for it: nothing else is deleted with it, and it with nothing else.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use colonnade_federation::{
    messaging::{Messaging, MessagingError, RemoteFile},
    transport::{FetchBounds, TransportError},
};
use colonnade_model::{MatrixError, ruma::OwnedServerName};
use colonnade_rooms::{Context, Error, Result};
use colonnade_storage::media::{
    Content, ContentHash,
    elsewhere::{self as table, RemoteContent},
};
use futures_util::{
    FutureExt as _, TryStreamExt as _,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    body::MEDIA_ID_LENGTH,
    files::{Failure, Files},
};

/// Files fetched at a time: each holds a connection and a buffer.
const AT_ONCE: usize = 32;
/// How long one may take: a hundred megabytes over three of a second.
const WITHIN: Duration = Duration::from_secs(5 * 60);
/// How long a client waits for one: below the usual idle timeout of proxies. It goes on without him.
const WAIT_MAX: Duration = Duration::from_secs(50);
/// How long the other server is told to wait for an upload at most: so that it answers before he gives up.
const UPLOAD_WAIT_MAX: Duration = Duration::from_secs(40);
/// A file that was asked for is noted as such again after this time, in milliseconds: reading seldom writes.
const USED_STEP_MS: i64 = 60 * 60 * 1_000;
/// The longest file name and media type kept: what a header can carry comfortably.
const DESCRIPTION_BYTES_MAX: usize = 1_024;

/// A file of another server: whose, and its id there.
type Name = (OwnedServerName, String);
/// What all who wait for a file get.
type Fetching = Shared<BoxFuture<'static, Result<Content, MatrixError>>>;

/// Files of other servers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Elsewhere {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<Context>,
    messaging: Messaging,
    files: Files,
    turns: Semaphore,
    under_way: Mutex<HashMap<Name, Fetching>>,
}

impl Elsewhere {
    pub(super) fn new(context: Arc<Context>, messaging: Messaging, files: Files) -> Self {
        let (turns, under_way) = (Semaphore::new(AT_ONCE), Mutex::default());
        Self { inner: Arc::new(Inner { context, messaging, files, turns, under_way }) }
    }

    /// Returns what is kept of a file.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn kept(&self, name: &Name) -> Result<Option<RemoteContent>> {
        Ok(table::find(&self.inner.context.db, name.0.as_str(), &name.1).await?)
    }

    /// Returns what is known of a file once it is here, fetching it unless it is.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_NOT_YET_UPLOADED`; `M_TOO_LARGE` and `M_UNKNOWN` with status 502.
    pub(super) async fn content(&self, name: Name, wait: Duration) -> Result<Content> {
        if let Some(kept) = self.kept(&name).await? {
            if kept.is_quarantined {
                return Err(not_found().into());
            }
            self.note_use(&name, kept.used_ts).await?;
            return Ok(kept.content);
        }
        if !self.inner.messaging.transport().policy().permits(&name.0) {
            return Err(not_found().into());
        }
        let fetched = tokio::time::timeout(WAIT_MAX, self.fetching(name, wait)).await;
        let late = |_| MatrixError::not_yet_uploaded("the content is still being fetched");
        Ok(fetched.map_err(late)??)
    }

    /// Forgets a file whose bytes are gone, so that it is fetched again.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn forget(&self, file: ContentHash) -> Result<()> {
        let forget = self.inner.context.db.write(move |tx| Box::pin(table::forget(tx, file)));
        Ok(forget.await?)
    }

    async fn note_use(&self, name: &Name, used_ts: i64) -> Result<()> {
        let now_ms = self.inner.context.now_ms();
        if now_ms.saturating_sub(used_ts) < USED_STEP_MS {
            return Ok(());
        }
        let (server, id) = (name.0.to_string(), name.1.clone());
        let note = self.inner.context.db.write(move |tx| {
            Box::pin(async move { table::use_now(tx, &server, &id, now_ms).await })
        });
        Ok(note.await?)
    }

    /// Returns the one fetching of a file there is.
    fn fetching(&self, name: Name, wait: Duration) -> Fetching {
        let mut under_way = self.inner.under_way.lock();
        if let Some(fetching) = under_way.get(&name) {
            return fetching.clone();
        }
        let (inner, of) = (Arc::clone(&self.inner), name.clone());
        let fetching = async move {
            let fetched = inner.fetch(&of, wait.min(UPLOAD_WAIT_MAX)).await;
            inner.under_way.lock().remove(&of);
            fetched
        };
        let fetching = fetching.boxed().shared();
        under_way.insert(name, fetching.clone());
        // It goes on when whoever asked gives up.
        tokio::spawn(fetching.clone());
        fetching
    }
}

impl Inner {
    async fn fetch(&self, name: &Name, wait: Duration) -> Result<Content, MatrixError> {
        match self.fetch_to_disk(name, wait).await {
            Ok(content) => Ok(content),
            Err(Error::Client(told)) => Err(told),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let cause = cause.unwrap_or_default();
                tracing::error!(server = %name.0, cause, "a file of another server: {error}");
                Err(MatrixError::internal("something broke on this server; its log says what"))
            }
        }
    }

    async fn fetch_to_disk(&self, name: &Name, wait: Duration) -> Result<Content> {
        let full = |_| MatrixError::unavailable("the server is stopping");
        let _turn = self.turns.acquire().await.map_err(full)?;
        let (server, media_id) = name;
        let bytes_max = self.context.settings.media.remote_file_bytes_max;
        let bounds = FetchBounds { within: WITHIN, bytes_max };
        let asked = self.messaging.file(server, media_id, wait, bounds).await;
        let asked = asked.inspect_err(|error| {
            tracing::debug!(%server, media_id, %error, "a file is not to be had");
        });
        let RemoteFile { content_type, file_name, pieces } =
            asked.map_err(|error| told(error, server.as_str(), bytes_max))?;
        let aside = self.context.random.alphanumeric(MEDIA_ID_LENGTH);
        let pieces = pieces.map_err(|error| {
            tracing::debug!(%error, "a file does not come whole");
            io::Error::other(error)
        });
        let received = self.files.receive(&aside, bytes_max, pieces, |_| Ok(())).await;
        let mut aside = received.map_err(|failure| match failure {
            Failure::TooLarge => too_large(bytes_max).into(),
            Failure::Interrupted => {
                let why = format!("{server} did not send the content whole");
                MatrixError::unknown(why).with_status(502).into()
            }
            Failure::Refused(error) => error.into(),
            Failure::Disk(error) => Error::internal("store what was fetched", error),
        })?;
        self.context.random.fill(&mut aside.hash);
        let content = Content {
            hash: aside.hash,
            bytes: aside.bytes,
            content_type: content_type.and_then(sound),
            file_name: file_name.and_then(sound),
        };
        let kept = self.files.keep(&aside).await;
        kept.map_err(|error| Error::internal("store what was fetched", error))?;
        self.note(name, content).await
    }

    /// Notes a file that is on disk, and deletes those that give way.
    async fn note(&self, name: &Name, content: Content) -> Result<Content> {
        let (server, id) = (name.0.to_string(), name.1.clone());
        let (now_ms, ours) = (self.context.now_ms(), content.clone());
        let room = self.context.settings.media.remote_bytes_max;
        // Whatever the bounds say, this one stays: somebody waits for it.
        let room = i64::try_from(room.max(content.bytes)).unwrap_or(i64::MAX);
        let noted = self.context.db.write(move |tx| {
            Box::pin(async move {
                let is_first = table::insert(tx, &server, &id, &ours, now_ms).await?;
                Ok((is_first, table::make_room(tx, room).await?))
            })
        });
        let (is_first, mut going) = noted.await?;
        if !is_first {
            going.push(content.hash);
        }
        for file in going {
            let aside = self.context.random.alphanumeric(MEDIA_ID_LENGTH);
            if let Err(error) = self.files.delete(&file, &aside).await {
                tracing::warn!(cause = %error.source, "a file that gives way: {error}");
            }
        }
        if is_first {
            return Ok(content);
        }
        let first = table::find(&self.context.db, name.0.as_str(), &name.1).await?;
        Ok(first.filter(|first| !first.is_quarantined).ok_or_else(not_found)?.content)
    }
}

/// Says what a client is told whose file is not to be had.
fn told(error: MessagingError, server: &str, bytes_max: u64) -> MatrixError {
    let MessagingError::Transport(error) = error else {
        return MatrixError::unknown(format!("{server}: {error}")).with_status(502);
    };
    match &error {
        TransportError::Status { errcode: Some(code), .. } if code == "M_NOT_YET_UPLOADED" => {
            MatrixError::not_yet_uploaded("the content is not uploaded yet")
        }
        TransportError::Status { errcode: Some(code), .. } if code == "M_TOO_LARGE" => {
            too_large(bytes_max)
        }
        TransportError::Status { status: 404, .. } => not_found(),
        TransportError::TooLarge { .. } => too_large(bytes_max),
        error => MatrixError::unknown(format!("{server}: {error}")).with_status(502),
    }
}

fn not_found() -> MatrixError {
    MatrixError::not_found("there is no such media")
}

/// Source: Matrix v1.19, client-server, `GET /_matrix/client/v1/media/download`, 502.
fn too_large(bytes_max: u64) -> MatrixError {
    let why = format!("this server fetches no content larger than {bytes_max} bytes");
    MatrixError::too_large(why).with_status(502)
}

/// Returns what a header can carry, without control characters.
fn sound(text: String) -> Option<String> {
    let is_short = text.len() <= DESCRIPTION_BYTES_MAX;
    is_short.then(|| text.chars().filter(|letter| !letter.is_control()).collect())
}

//! Answers given at the door instead of a worker's: status, headers and body, whoever writes them.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

use super::context::Ctx;
use crate::pipeline::folder;
use crate::pipeline::reply::{self, Reply};
use crate::routing::head::Head;

/// How much of a file is in memory for one client.
pub const PIECE_BYTES: usize = 64 << 10;

type Headers = Vec<(&'static str, Cow<'static, str>)>;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Everything but what frames the body on HTTP/1.
    pub headers: Headers,
    /// The body; HEAD gets its length only.
    pub body: Bytes,
}

/// An answer whose body is a file's.
#[derive(Debug)]
pub struct FileAnswer {
    /// 200, or 304.
    pub status: u16,
    /// Everything but what frames the connection.
    pub headers: Headers,
    /// The open file, and how much of it was announced; none when it is not sent.
    pub file: Option<(File, u64)>,
}

impl Answer {
    /// The answer that refuses a request.
    pub fn of(reply: Reply, ctx: &Ctx) -> Self {
        let body = reply.body();
        let headers = reply.headers(body.len(), ctx.live.config.cors).into_iter();
        let headers = headers.map(|(name, value)| (name, Cow::Owned(value)));
        Self { status: reply.status, headers: headers.chain([id(ctx)]).collect(), body }
    }

    /// JSON from the configuration.
    pub fn json(json: Bytes, ctx: &Ctx) -> Self {
        let headers = [
            ("content-type", Cow::Borrowed("application/json")),
            ("content-length", Cow::Owned(json.len().to_string())),
            id(ctx),
        ];
        Self { status: 200, headers: headers.into_iter().chain(cors()).collect(), body: json }
    }

    /// The answer to a preflight: to any path, so that a browser learns of a 404 instead of a CORS
    /// failure.
    pub fn to_preflight(ctx: &Ctx) -> Self {
        let own = [("access-control-max-age", Cow::Borrowed(reply::PREFLIGHT_MAX_AGE_S)), id(ctx)];
        Self { status: 204, headers: cors().chain(own).collect(), body: Bytes::new() }
    }
}

fn id(ctx: &Ctx) -> (&'static str, Cow<'static, str>) {
    ("x-request-id", Cow::Owned(ctx.request_id.clone()))
}

fn cors() -> impl Iterator<Item = (&'static str, Cow<'static, str>)> {
    reply::CORS.into_iter().map(|(name, value)| (name, Cow::Borrowed(value)))
}

impl FileAnswer {
    /// The answer with a file of the static folder, if there is one for what is asked.
    pub(crate) async fn find(root: &Path, head: &dyn Head, ctx: &Ctx) -> Option<Self> {
        let bodiless = head.method() == "HEAD";
        if !bodiless && head.method() != "GET" {
            return None;
        }
        let (root, path) = (root.to_owned(), head.target().path().to_owned());
        let found = off_thread(move || folder::find(&root, &path)).await.ok()??;
        let known = head.text("if-none-match");
        let unchanged = known.is_some_and(|known| folder::is_known(known, &found.etag));
        let mut headers: Headers = vec![
            ("etag", Cow::Owned(found.etag)),
            // A browser asks each time whether it is still the same; a new client is seen at once.
            ("cache-control", Cow::Borrowed("no-cache")),
            ("x-content-type-options", Cow::Borrowed("nosniff")),
            id(ctx),
        ];
        if !unchanged {
            headers.push(("content-type", Cow::Borrowed(found.content_type)));
            headers.push(("content-length", Cow::Owned(found.length.to_string())));
        }
        let file = (!unchanged && !bodiless).then_some((found.file, found.length));
        Some(Self { status: if unchanged { 304 } else { 200 }, headers, file })
    }

    /// Reads the next piece of what was announced, off the threads that serve.
    ///
    /// # Errors
    /// Those of the disk; also when the file has shrunk meanwhile.
    pub async fn read(file: File, left: u64) -> io::Result<(File, Vec<u8>)> {
        let wanted = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        off_thread(move || {
            let (mut file, mut piece) = (file, vec![0; wanted]);
            let read = io::Read::read(&mut file, &mut piece)?;
            piece.truncate(read);
            match read {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok((file, piece)),
            }
        })
        .await?
    }
}

/// Runs what waits for the disk where it holds up nobody.
///
/// # Errors
/// If it panics.
pub async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

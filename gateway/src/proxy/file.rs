//! Files of the static folder, in pieces.

use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, OrErr, Result};

use super::context::Ctx;
use super::{Gateway, framing};
use crate::folder::{self, Found};
use crate::table::split_target;

/// How much of a file is in memory for one client.
const PIECE_BYTES: usize = 64 << 10;

impl Gateway {
    /// Answers with a file of the static folder, if there is one for what is asked.
    pub(super) async fn answer_file(&self, session: &mut Session, ctx: &Ctx) -> Result<bool> {
        let config = ctx.live.as_ref().map(|live| &live.config);
        let Some(root) = config.and_then(|config| config.static_folder.clone()) else {
            return Ok(false);
        };
        let head = session.req_header();
        let bodiless = head.method == http::Method::HEAD;
        if !bodiless && head.method != http::Method::GET {
            return Ok(false);
        }
        let Some(target) = framing::target(head) else { return Ok(false) };
        let path = split_target(&target).0.to_owned();
        let Some(found) = off_thread(move || find(root, &path)).await? else { return Ok(false) };
        let known = head.headers.get("if-none-match").and_then(|value| value.to_str().ok());
        let unchanged = known.is_some_and(|known| folder::is_known(known, &found.etag));
        let mut header = ResponseHeader::build(if unchanged { 304 } else { 200 }, Some(8))?;
        header.insert_header("etag", found.etag.as_str())?;
        // A browser asks each time whether it is still the same; a new client is seen at once.
        header.insert_header("cache-control", "no-cache")?;
        header.insert_header("x-content-type-options", "nosniff")?;
        header.insert_header("x-request-id", ctx.request_id.as_str())?;
        if !unchanged {
            header.insert_header("content-type", found.content_type)?;
            header.insert_header("content-length", found.length)?;
        }
        session.write_response_header(Box::new(header), bodiless || unchanged).await?;
        if !bodiless && !unchanged {
            send(session, found).await?;
        }
        Ok(true)
    }
}

fn find(root: PathBuf, path: &str) -> Option<Found> {
    folder::find(&root, path)
}

/// Sends as much as was announced; a file that shrinks meanwhile ends the connection.
async fn send(session: &mut Session, found: Found) -> Result<()> {
    let (mut file, mut left) = (found.file, found.length);
    if left == 0 {
        return session.write_response_body(Some(Bytes::new()), true).await;
    }
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let read = off_thread(move || {
            let mut piece = vec![0; wanted];
            let read = file.read(&mut piece);
            read.map(|read| {
                piece.truncate(read);
                (file, piece)
            })
        });
        let piece;
        (file, piece) = read.await?.or_err(ErrorType::ReadError, "reading a file")?;
        if piece.is_empty() {
            return Err(Error::new_in(ErrorType::ReadError));
        }
        left -= piece.len() as u64;
        session.write_response_body(Some(piece.into()), left == 0).await?;
    }
    Ok(())
}

/// Runs what waits for the disk where it holds up nobody.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.or_err(ErrorType::InternalError, "reading a file")
}

//! Files of other servers: the authenticated endpoint, the places that it leads to, and the old endpoint for
//! servers that know no other.
//!
//! Source: Matrix v1.19, server-server, "Content Repository".

use std::time::Duration;

use bytes::Bytes;
use colonnade_model::ruma::{ServerName, http_headers::ContentDisposition};
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use http::{HeaderMap, Uri, header};
use http_body_util::BodyExt as _;

use super::{Messaging, MessagingError, escaped, multipart::Multipart};
use crate::transport::{FetchBounds, Request, Response, TransportError};

/// What comes besides the file: boundaries, heads, and an object of which nothing is specified.
const AROUND_BYTES_MAX: u64 = 64 * 1024;

/// A file as it comes, a piece at a time. It ends with an error if it comes to more bytes than were asked for,
/// or takes too long.
pub type Pieces = BoxStream<'static, Result<Bytes, TransportError>>;

/// A file of another server, and what it says about it.
pub struct RemoteFile {
    /// The media type.
    pub content_type: Option<String>,
    /// The file name.
    pub file_name: Option<String>,
    /// The file.
    pub pieces: Pieces,
}

impl RemoteFile {
    fn new(headers: &HeaderMap, pieces: Pieces) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        let disposition = headers.get(header::CONTENT_DISPOSITION);
        let disposition = disposition
            .and_then(|disposition| ContentDisposition::try_from(disposition.as_bytes()).ok());
        let file_name = disposition.and_then(|disposition| disposition.filename);
        Self { content_type, file_name, pieces }
    }

    fn of(response: Response) -> Self {
        let headers = response.headers.clone();
        Self::new(&headers, response.into_body().into_data_stream().boxed())
    }
}

impl Messaging {
    /// Asks a server for one of its files. `wait` is how long it shall wait for one that is not uploaded yet.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn file(
        &self,
        server: &ServerName,
        media_id: &str,
        wait: Duration,
        bounds: FetchBounds,
    ) -> Result<RemoteFile, MessagingError> {
        let FetchBounds { within, bytes_max } = bounds;
        let (id, wait_ms) = (escaped(media_id), wait.as_millis());
        let address = format!("/_matrix/federation/v1/media/download/{id}?timeout_ms={wait_ms}");
        let request = Request::get(address).within(within).taking(bytes_max + AROUND_BYTES_MAX);
        match self.transport.send(server, request).await {
            Ok(response) => self.unpacked(response, bounds).await,
            Err(error) if error.is_unrecognized() => {
                let host = escaped(server.as_str());
                let address = format!(
                    "/_matrix/media/v3/download/{host}/{id}?timeout_ms={wait_ms}&allow_remote=false\
                     &allow_redirect=true"
                );
                let request = Request::get(address).within(within).taking(bytes_max);
                match self.transport.send(server, request).await {
                    Ok(response) => {
                        require_small(&response.headers, bytes_max)?;
                        Ok(RemoteFile::of(response))
                    }
                    Err(TransportError::Status {
                        status: 300..=399,
                        location: Some(location),
                        ..
                    }) => self.kept_elsewhere(&location, bounds).await,
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Fetches a file from where its server says that it is: an address of https, which the rules for addresses
    /// permit.
    async fn kept_elsewhere(
        &self,
        location: &str,
        bounds: FetchBounds,
    ) -> Result<RemoteFile, MessagingError> {
        let nowhere = || MessagingError::Unusable("a file that is nowhere".to_owned());
        let address = location.parse::<Uri>().map_err(|_| nowhere())?;
        let response = self.transport.fetch(address, bounds).await?;
        require_small(&response.headers, bounds.bytes_max)?;
        Ok(RemoteFile::of(response))
    }

    /// Reads an answer of two parts: an object, and the file or where it is.
    async fn unpacked(
        &self,
        response: Response,
        bounds: FetchBounds,
    ) -> Result<RemoteFile, MessagingError> {
        require_small(&response.headers, bounds.bytes_max + AROUND_BYTES_MAX)?;
        let kind = response.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_owned();
        let body = response.into_body().into_data_stream();
        let unusable = |why: &str| MessagingError::Unusable(why.to_owned());
        let parts = Multipart::new(&kind, body);
        let mut parts = parts.ok_or_else(|| unusable("a file that is not of two parts"))?;
        let (first, second) = (parts.part().await?, parts.part().await?);
        let (Some(_), Some(headers)) = (first, second) else {
            return Err(unusable("an answer without a file"));
        };
        if let Some(location) = headers.get(header::LOCATION) {
            return self.kept_elsewhere(location.to_str().unwrap_or_default(), bounds).await;
        }
        let pieces = stream::try_unfold(parts, async |mut parts| {
            Ok(parts.piece().await?.map(|piece| (piece, parts)))
        });
        Ok(RemoteFile::new(&headers, pieces.boxed()))
    }
}

/// Refuses what says that it is larger than is taken.
fn require_small(headers: &HeaderMap, bytes_max: u64) -> Result<(), TransportError> {
    let said = headers.get(header::CONTENT_LENGTH).and_then(|bytes| bytes.to_str().ok());
    match said.and_then(|bytes| bytes.parse::<u64>().ok()) {
        Some(bytes) if bytes > bytes_max => Err(TransportError::TooLarge { bytes_max }),
        _ => Ok(()),
    }
}

//! Compression of answers, by Pingora's filter: whether, how, and what the headers then say.

mod accepted;

use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::compression::ResponseCompressionCtx;

use crate::routing::head::Head;

/// zlib's 1 of 9: JSON shrinks to a fifth at a tenth of the CPU of the highest.
const COMPRESSION_LEVEL: u32 = 1;

/// A filter for one answer.
pub(crate) struct Compressor(ResponseCompressionCtx);

impl Compressor {
    /// Looks at what the client understands; none where nothing could come of it.
    pub(crate) fn new(head: &dyn Head) -> Option<Box<Self>> {
        let mut request = RequestHeader::build("GET", b"/", Some(1)).ok()?;
        // The filter itself does not know weights.
        if let Some(coding) = accepted::best(&head.all("accept-encoding")) {
            request.insert_header("accept-encoding", coding).ok()?;
        }
        let mut filter = ResponseCompressionCtx::new(COMPRESSION_LEVEL, false, false);
        filter.request_filter(&request);
        Some(Box::new(Self(filter)))
    }

    /// Gives out the headers as they become.
    pub(crate) fn headers<'h>(
        &mut self,
        status: u16,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        bodiless: bool,
        put: &mut impl FnMut(&str, &[u8]),
    ) {
        let built = ResponseHeader::build(status, Some(16));
        let Ok(mut response) = built else { return };
        for (name, value) in headers {
            // Names and values were read as HTTP; what the types refuse is not passed on.
            let _refused = response.append_header(name.to_owned(), value);
        }
        self.0.response_header_filter(&mut response, bodiless);
        for (name, value) in response.headers.iter().filter(|(name, _)| !is_coding(name)) {
            put(name.as_str(), value.as_bytes());
        }
    }

    /// Says whether the body is changed.
    pub(crate) fn is_at_work(&self) -> bool {
        self.0.is_enabled()
    }

    /// Takes a piece of the body, the last one perhaps, and gives what it becomes.
    pub(crate) fn piece(&mut self, data: &[u8], end: bool) -> Bytes {
        let data = Bytes::copy_from_slice(data);
        self.0.response_body_filter(Some(&data), end).unwrap_or_default()
    }
}

fn is_coding(name: &http::HeaderName) -> bool {
    name == http::header::TRANSFER_ENCODING
}

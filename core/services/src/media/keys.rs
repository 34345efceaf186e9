//! Which smaller picture of which file.

use colonnade_storage::media::ContentHash;

use super::{
    pictures::Format,
    sizes::{Method, Size},
};

/// Names a thumbnail among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) hash: ContentHash,
    pub(super) size: Option<Size>,
    pub(super) method: Method,
}

impl Key {
    /// The part of the file name that says which thumbnail it is.
    pub(super) fn name(&self, format: Format) -> String {
        let method = match self.method {
            Method::Crop => "crop",
            Method::Scale => "scale",
        };
        let extension = format.extension();
        match self.size {
            Some(Size { width, height }) => format!("{width}x{height}.{method}.{extension}"),
            None => format!("whole.{extension}"),
        }
    }
}

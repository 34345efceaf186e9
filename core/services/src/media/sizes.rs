//! The sizes pictures come in.

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Size {
    pub(super) width: u32,
    pub(super) height: u32,
}

/// How a picture is made to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Fills the size and cuts off the rest.
    Crop,
    /// Fits into the size.
    Scale,
}

//! Answers whose size is not known before they are made.

use colonnade_model::MatrixError;

use super::Reserved;

/// What an answer takes while it is made, if its size is not known before.
pub struct Growth(tokio::sync::Mutex<Grown>);

#[derive(Default)]
struct Grown {
    bytes: usize,
    reserved: Option<Reserved>,
}

impl Growth {
    /// Begins with what was set aside; `None` counts nothing.
    pub fn from(reserved: Option<Reserved>) -> Self {
        Self(tokio::sync::Mutex::new(Grown { bytes: 0, reserved }))
    }

    /// Sets aside what a part of the answer takes that was just rendered, before the next is read.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when another answer has been beyond the budget for long.
    pub async fn add(&self, bytes: usize) -> Result<(), MatrixError> {
        let mut grown = self.0.lock().await;
        grown.bytes += bytes;
        let bytes = grown.bytes;
        match &mut grown.reserved {
            Some(reserved) => reserved.grow(bytes).await,
            None => Ok(()),
        }
    }

    /// Returns what is set aside.
    pub fn into_reserved(self) -> Option<Reserved> {
        self.0.into_inner().reserved
    }
}

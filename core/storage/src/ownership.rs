//! The fence: the check inside an owner's transaction that the process still owns what it writes.
//! With one process there is nobody to be fenced by; the call is here so that many processes only
//! have to fill it in.

use crate::{Tx, error::Result};

/// The right to write to some slots, checked by [`fence`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Ownership {
    /// The incarnation of this process; 0 when it is the only one.
    pub incarnation: i64,
}

/// Makes the transaction fail unless this incarnation still owns `slots`. The first statement of
/// every owner's transaction.
///
/// # Errors
/// Never with one process.
pub async fn fence(_tx: &mut Tx, ownership: Ownership, _slots: &[u16]) -> Result<()> {
    debug_assert_eq!(ownership.incarnation, 0, "one process owns every slot");
    Ok(())
}

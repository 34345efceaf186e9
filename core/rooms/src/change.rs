//! Changing state: what is read, changed and sent again says what it was read from, and is made anew
//! from what stands there now when somebody else was faster.

use std::sync::Arc;

use colonnade_model::{MatrixError, ruma::OwnedUserId};
use serde_json::Value;

use super::{
    proposal::{CHANGED_MEANWHILE, Over, content, state_event},
    service::Rooms,
    store::Room,
};
use crate::{Error, Result};

/// Attempts at one change; each failure is somebody else's success, and few are at it at once.
const ATTEMPTS_MAX: usize = 20;

impl Rooms {
    /// Changes a state event with the empty state key, if there is one. `change` gets its content and
    /// returns the new one, or `None` to leave it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when the sender may not.
    pub async fn change_state(
        &self,
        sender: &OwnedUserId,
        room: &Arc<Room>,
        kind: &str,
        change: impl Fn(Value) -> Option<Value>,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(current) = self.state_event(room.nid, kind, "").await? else { return Ok(()) };
            let old = serde_json::from_str(current.event.content_for_rules().get());
            let old = old.unwrap_or(Value::Null);
            let Some(new) = change(old) else { return Ok(()) };
            let mut proposal = state_event(sender, kind, String::new(), content(new)?);
            proposal.over = Some(Over::read(Some(&current)));
            match self.propose(room, proposal).await {
                Err(Error::Client(error)) if error.status == CHANGED_MEANWHILE => {}
                other => return other.map(drop),
            }
        }
        Err(MatrixError::unavailable("others change this all the time; try again later").into())
    }
}

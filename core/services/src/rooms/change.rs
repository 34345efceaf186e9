//! Changing state: what is read, changed and sent again says what it was read from, and is made anew
//! from what stands there now when somebody else was faster.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{OwnedEventId, OwnedUserId},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Room, RoomEvent, Rooms, content, create::state_event};
use crate::{Error, Result};

/// Attempts at one change; each failure is somebody else's success, and few are at it at once.
const ATTEMPTS_MAX: usize = 20;

/// What has to stand in the place of a state event when it is sent. Whoever reads a state event, changes
/// it and sends it says by this what he read: what somebody else wrote meanwhile is not undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Over {
    /// Nothing.
    Nothing,
    /// This event.
    Event(OwnedEventId),
}

impl Over {
    /// Says that this is what was read.
    pub(super) fn read(event: Option<&RoomEvent>) -> Self {
        event.map_or(Self::Nothing, |event| Self::Event(event.event.event_id().to_owned()))
    }

    pub(super) fn is(&self, current: Option<&Arc<RoomEvent>>) -> bool {
        match self {
            Self::Nothing => current.is_none(),
            Self::Event(id) => current.is_some_and(|current| current.event.event_id() == id),
        }
    }
}

/// The status of an answer that says: something else stands there than the proposal was made from.
pub(super) const CHANGED_MEANWHILE: u16 = 409;

impl Rooms {
    /// Changes a state event with the empty state key, if there is one. `change` gets its content and
    /// returns the new one, or `None` to leave it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when the sender may not.
    pub(crate) async fn change_state(
        &self,
        sender: &OwnedUserId,
        room: &Arc<Room>,
        kind: &str,
        change: impl Fn(Value) -> Option<Value>,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(current) = self.state_event(room.nid, kind, "").await? else { return Ok(()) };
            let old = current.event.content_as().unwrap_or(Value::Null);
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

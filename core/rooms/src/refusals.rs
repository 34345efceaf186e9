//! What is told of rooms and events that somebody may not see: the same as of those that do not exist.

use colonnade_model::MatrixError;

/// What a stranger is told of a room, whether it exists or not.
pub fn no_member() -> MatrixError {
    MatrixError::forbidden("you are not a member of this room")
}

/// What is told of an event that is not in the room, and of one that the user may not see: the same.
pub fn no_event() -> MatrixError {
    MatrixError::not_found("there is no such event in this room")
}

/// What is said of a room that does not exist, and of one that shows nothing.
pub fn unknown_room() -> MatrixError {
    MatrixError::not_found("no such room, or no server known that is in it")
}

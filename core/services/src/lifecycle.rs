//! The life of a room: creating it as a client asks, and replacing it by one of another version.

mod create;
mod presets;
mod service;
mod upgrade;

pub use create::NewRoomRequest;
pub use presets::Preset;
pub use service::RoomLifecycle;

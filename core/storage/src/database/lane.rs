//! Lanes: which writes take turns. A lane writes its transactions one after the other, in this
//! process and, on PostgreSQL, in all processes that share the database.

use colonnade_model::stream::Stream;

/// Writes that take turns with each other and with nobody else.
///
/// Taking turns is what makes the order of positions the order of commits, and what lets a body
/// read, decide and write as if it were alone. A transaction is of one lane and waits for that turn
/// only, so two of them never wait for each other. SQLite has one writer for all lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Whatever has no lane of its own: accounts, devices, keys, messages to devices, settings.
    General = 1,
    /// The rooms' events. Their owners are alone with a room already, so the turn begins with the
    /// seal.
    Events = 2,
    /// Read receipts.
    Receipts = 3,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 3] = [Self::General, Self::Events, Self::Receipts];

    /// Returns the streams that transactions of this lane may seal, each stream in one lane.
    pub fn streams(self) -> &'static [Stream] {
        match self {
            Self::General => &[Stream::AccountData, Stream::ToDevice, Stream::DeviceLists],
            Self::Events => &[Stream::Events],
            Self::Receipts => &[Stream::Receipts],
        }
    }

    /// Tells whether the turn begins with the transaction, rather than with its first seal.
    pub(super) fn turn_comes_first(self) -> bool {
        !matches!(self, Self::Events)
    }

    /// Returns the lane's place in [`Lane::ALL`].
    pub(super) fn index(self) -> usize {
        self as usize - 1
    }
}

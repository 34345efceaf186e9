//! Advisory locks of PostgreSQL: each is a number, held to the end of the transaction. On SQLite
//! they are nothing, for there one writer exists.
//!
//! Locks of transactions need no connection of their own, so a pooler in transaction mode may stand
//! between us and the server. Those of sessions do: [`Database::hold`](super::Database::hold).

/// The first byte of all our numbers, so that we do not meet the locks of somebody else's program.
const OURS: i64 = 0x43;
/// Bits that say which row a lock is about.
const ID_BITS: u32 = 48;

/// What can be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// The schema, while it is brought up to date.
    Schema,
    /// The turn to write in a lane, by the lane's number.
    Lane(i64),
    /// The transactions of one writer, by its number.
    Writer(i64),
    /// The transactions of one incarnation: shared by each of them, held alone by who takes over.
    Incarnation(i64),
    /// The right to hand out slots.
    Coordinator,
    /// That an incarnation lives; for a session's lock on a connection of its own.
    Alive(i64),
    /// The database as a whole: a process that is the only one holds it alone, those of a cluster
    /// share it. A session's lock, too.
    Database,
}

impl Lock {
    /// Returns the number by which PostgreSQL knows the lock.
    pub fn key(self) -> i64 {
        let (kind, id) = match self {
            Self::Schema => (0, 0),
            Self::Lane(id) => (1, id),
            Self::Writer(id) => (2, id),
            Self::Incarnation(id) => (3, id),
            Self::Coordinator => (4, 0),
            Self::Alive(id) => (5, id),
            Self::Database => (6, 0),
        };
        (OURS << 56) | (kind << ID_BITS) | (id & ((1 << ID_BITS) - 1))
    }

    /// Returns the statement that takes the lock until the end of the transaction.
    pub(crate) fn take_sql(self) -> String {
        format!("SELECT pg_advisory_xact_lock({})", self.key())
    }

    /// Returns the statement that takes the lock beside others who share it.
    pub(crate) fn share_sql(self) -> String {
        format!("SELECT pg_advisory_xact_lock_shared({})", self.key())
    }
}

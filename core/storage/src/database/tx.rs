//! A transaction under way, and the seal that gives its rows their place in a stream.

use std::sync::Arc;

use colonnade_model::{
    Clock,
    stream::{Position, Positions, Stream, StreamAdvance, Touch},
};
use sqlx::{PgConnection, SqliteConnection};

use super::{
    lane::Lane,
    postgres::{
        message::{message, positions, turn_sql},
        readers::Reader,
    },
};
use crate::database::sql;
use crate::error::{Result, StorageError};

/// A transaction. Statements run through `run!`.
pub struct Tx {
    pub(crate) connection: Connection,
    pub(crate) sealed: Vec<StreamAdvance>,
    /// Whose turn it is; `None`: the transaction is of no lane and seals nothing.
    lane: Option<Lane>,
    /// On PostgreSQL: where the lane's streams stand, once its turn has come.
    pub(crate) positions: Option<Positions>,
    /// The database's clock, where that is simulated.
    pub(super) clock: Option<Arc<dyn Clock>>,
}

/// What a transaction had sealed at some point, to go back to.
pub(crate) struct Mark {
    sealed: Vec<StreamAdvance>,
    positions: Option<Positions>,
}

/// The connection a transaction lives on. Owned, so that a writer task can keep it.
pub(crate) enum Connection {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgHandle>),
}

/// A PostgreSQL connection inside a transaction.
pub(crate) enum PgHandle {
    /// A writer's own.
    Own(Box<PgConnection>),
    /// One that is lent.
    Lent(Reader),
}

impl std::ops::Deref for PgHandle {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Own(connection) => connection,
            Self::Lent(connection) => connection,
        }
    }
}

impl std::ops::DerefMut for PgHandle {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Own(connection) => connection,
            Self::Lent(connection) => connection,
        }
    }
}

impl Tx {
    pub(crate) fn new(connection: Connection, lane: Option<Lane>) -> Self {
        Self { connection, sealed: Vec::new(), lane, positions: None, clock: None }
    }

    /// Makes this the database's clock.
    pub(super) fn set_clock(&mut self, clock: Option<Arc<dyn Clock>>) {
        self.clock = clock;
    }

    /// Makes this the transaction of a lane.
    pub(crate) fn set_lane(&mut self, lane: Option<Lane>) {
        self.lane = lane;
    }

    /// Notes what is sealed so far.
    pub(crate) fn mark(&self) -> Mark {
        Mark { sealed: self.sealed.clone(), positions: self.positions }
    }

    /// Forgets what was sealed since.
    pub(crate) fn back_to(&mut self, mark: Mark) {
        self.sealed = mark.sealed;
        self.positions = mark.positions;
    }

    /// Takes the next `count` positions of `stream` and returns the first of them.
    ///
    /// Call it after everything that does not carry a position: from here to COMMIT all other
    /// writers of the lane wait. The stream must be one of the lane's.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn seal(&mut self, stream: Stream, count: usize) -> Result<Position> {
        const SEAL: &str =
            "UPDATE stream_positions SET pos = pos + $2 WHERE stream = $1 RETURNING pos";
        if !self.lane.is_some_and(|lane| lane.streams().contains(&stream)) {
            let why = format!("{} sealed by a write of lane {:?}", stream.name(), self.lane);
            return Err(StorageError::Failed(why));
        }
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let upto = match &mut self.connection {
            Connection::Sqlite(connection) => {
                let seal = sql::query_scalar(SEAL).bind(stream.number()).bind(count);
                seal.fetch_one(&mut **connection).await?
            }
            Connection::Postgres(_) => self.place(stream, count).await?,
        };
        let prev = upto - count;
        let open = self.sealed.iter_mut().rev().find(|advance| advance.stream == stream);
        match open {
            Some(advance) if advance.upto == prev => advance.upto = upto,
            _ => self.sealed.push(StreamAdvance { stream, prev, upto, touched: Vec::new() }),
        }
        Ok(prev + 1)
    }

    /// Moves a stream on in memory: the row is written in the message that commits. Takes the
    /// lane's turn first if that has not come with the transaction.
    async fn place(&mut self, stream: Stream, count: i64) -> Result<Position> {
        let mut positions = match (self.positions, &mut self.connection, self.lane) {
            (None, Connection::Postgres(connection), Some(lane)) => {
                let rows = message(connection, turn_sql(lane)).await?;
                positions(&rows)?
            }
            (positions, ..) => positions.unwrap_or_default(),
        };
        let upto = positions.get(stream) + count;
        positions.set(stream, upto);
        self.positions = Some(positions);
        Ok(upto)
    }

    /// Notes whom the row at `position` of a sealed stream concerns; told to listeners after COMMIT.
    pub fn touch(&mut self, stream: Stream, touch: Touch, position: Position) {
        let open = self.sealed.iter_mut().rev().find(|advance| advance.stream == stream);
        debug_assert!(open.is_some(), "a stream is sealed before it is touched");
        if let Some(advance) = open {
            advance.touched.push((touch, position));
        }
    }
}

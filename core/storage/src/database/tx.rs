//! A transaction under way, and the seal that gives its rows their place in a stream.

use colonnade_model::stream::{Position, Stream, StreamAdvance, Touch};
use sqlx::{PgConnection, SqliteConnection};

use crate::error::Result;

/// A transaction. Statements run through `run!`.
pub struct Tx {
    pub(crate) connection: Connection,
    pub(crate) sealed: Vec<StreamAdvance>,
}

/// The connection a transaction lives on. Owned, so that a writer task can keep it.
pub(crate) enum Connection {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgConnectionGuard>),
}

/// A pooled PostgreSQL connection inside a transaction.
pub(crate) struct PgConnectionGuard(pub(crate) sqlx::Transaction<'static, sqlx::Postgres>);

impl std::ops::Deref for PgConnectionGuard {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl std::ops::DerefMut for PgConnectionGuard {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

impl Tx {
    /// Takes the next `count` positions of `stream` and returns the first of them.
    ///
    /// Call it after everything that does not carry a position, streams in the order of
    /// [`Stream::ALL`]: from here to COMMIT all other writers of the stream wait.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn seal(&mut self, stream: Stream, count: usize) -> Result<Position> {
        const SEAL: &str =
            "UPDATE stream_positions SET pos = pos + $2 WHERE stream = $1 RETURNING pos";
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let upto: i64 = run!(self, |c| sqlx::query_scalar(SEAL)
            .bind(stream.number())
            .bind(count)
            .fetch_one(c))?;
        let prev = upto - count;
        let open = self.sealed.iter_mut().rev().find(|advance| advance.stream == stream);
        match open {
            Some(advance) if advance.upto == prev => advance.upto = upto,
            _ => self.sealed.push(StreamAdvance { stream, prev, upto, touched: Vec::new() }),
        }
        Ok(prev + 1)
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

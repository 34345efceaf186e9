//! Where statements outside of transactions run: on a connection of the pool, or on the only one of
//! a simulated process.

use std::sync::Arc;

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Either, Error, Execute, Executor, SqlStr, Sqlite, SqlitePool,
    sqlite::{SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo},
};

use super::stepwise::{self, Reads};

/// The connections a process reads with.
#[derive(Clone)]
pub(super) enum Readers {
    /// A few, each with a thread of its own.
    Pool(SqlitePool),
    /// One, which is waited for on the calling thread.
    Stepwise(Arc<Reads>),
}

/// Runs one statement.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(super) &'a Readers);

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

type Row = Either<SqliteQueryResult, SqliteRow>;

impl<'c> Executor<'c> for Reader<'_> {
    type Database = Sqlite;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Row, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        match self.0 {
            Readers::Pool(pool) => pool.fetch_many(query),
            Readers::Stepwise(reads) => {
                let reads = Arc::clone(reads);
                let rows = async move {
                    reads.wait().await?;
                    let mut connection = reads.connection.lock();
                    let rows = connection.fetch_many(query).collect::<Vec<_>>();
                    Ok::<_, Error>(stream::iter(stepwise::at_once(rows)))
                };
                stream::once(rows).try_flatten().boxed()
            }
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<SqliteRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        match self.0 {
            Readers::Pool(pool) => pool.fetch_optional(query),
            Readers::Stepwise(reads) => {
                let reads = Arc::clone(reads);
                Box::pin(async move {
                    reads.wait().await?;
                    let mut connection = reads.connection.lock();
                    stepwise::at_once(connection.fetch_optional(query))
                })
            }
        }
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [SqliteTypeInfo],
    ) -> BoxFuture<'e, Result<SqliteStatement, Error>>
    where
        'c: 'e,
    {
        match self.0 {
            Readers::Pool(pool) => pool.prepare_with(sql, parameters),
            Readers::Stepwise(reads) => {
                let reads = Arc::clone(reads);
                Box::pin(async move {
                    let mut connection = reads.connection.lock();
                    stepwise::at_once(connection.prepare_with(sql, parameters))
                })
            }
        }
    }
}

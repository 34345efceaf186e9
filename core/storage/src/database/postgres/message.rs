//! Statements in one message, as a transaction sends them.

use std::time::Duration;

use colonnade_model::stream::{Positions, Stream};
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow};
use tokio::time::timeout;

use crate::{
    database::{lane::Lane, locks::Lock},
    error::{Result, StorageError},
};

/// How long the server may take to answer.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Sends statements in one message and returns all their rows.
pub(crate) async fn message(connection: &mut PgConnection, sql: String) -> Result<Vec<PgRow>> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection);
    Ok(timeout(ANSWER_PATIENCE, rows).await.map_err(too_late)??)
}

pub(super) fn too_late(_: tokio::time::error::Elapsed) -> StorageError {
    StorageError::Unavailable("the server does not answer".to_owned())
}

/// Returns the statements that take a lane's turn and then look where its streams stand.
pub(crate) fn turn_sql(lane: Lane) -> String {
    let streams: Vec<String> =
        lane.streams().iter().map(|stream| stream.number().to_string()).collect();
    format!(
        "{}; SELECT stream, pos FROM stream_positions WHERE stream IN ({})",
        Lock::Lane(lane as i64).take_sql(),
        streams.join(", ")
    )
}

/// Reads the positions out of the rows of [`turn_sql`].
pub(crate) fn positions(rows: &[PgRow]) -> Result<Positions> {
    let mut positions = Positions::default();
    for row in rows.iter().filter(|row| row.len() == 2) {
        let (number, pos): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(stream) = Stream::ALL.into_iter().find(|stream| stream.number() == number) {
            positions.set(stream, pos);
        }
    }
    Ok(positions)
}

//! Where the durable streams stand.

use colonnade_model::stream::{Positions, Stream};

use crate::{Database, database::sql, error::Result};

/// Returns the position of every durable stream: everything up to it is final and can be read.
///
/// # Errors
/// When the database fails.
pub async fn horizons(db: &Database) -> Result<Positions> {
    const ALL: &str = "SELECT stream, pos FROM stream_positions";
    let rows: Vec<(i64, i64)> = read!(db, |c| sql::query_as(ALL).fetch_all(c))?;
    let mut positions = Positions::default();
    for stream in Stream::ALL {
        let row = rows.iter().find(|(number, _)| *number == stream.number());
        positions.set(stream, row.map_or(0, |(_, pos)| *pos));
    }
    Ok(positions)
}

//! Reports of rooms, events and users, kept for the administrators.

use colonnade_model::nid::UserNid;

use crate::{Database, Tx, database::sql, error::Result, quota::Quota};

/// A report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Who reports.
    pub reporter: UserNid,
    /// When, in milliseconds since the Unix epoch.
    pub ts: i64,
    /// The room, if the report is about one or about an event in it.
    pub room_id: Option<String>,
    /// The event, if the report is about one.
    pub event_id: Option<String>,
    /// The user, if the report is about one.
    pub user_id: Option<String>,
    /// Why, in the reporter's words.
    pub reason: String,
}

/// Stores a report. Beyond `quota` the reporter's own oldest ones go: nobody else's, and a new one is
/// never refused.
///
/// # Errors
/// When the database fails.
pub async fn insert(tx: &mut Tx, report: Report, quota: Quota) -> Result<()> {
    let reporter = report.reporter;
    add(tx, report).await?;
    forget_oldest(tx, reporter, quota).await
}

/// Deletes the reporter's oldest reports beyond what may be kept.
async fn forget_oldest(tx: &mut Tx, reporter: UserNid, quota: Quota) -> Result<()> {
    const SIZES: &str = "SELECT report_nid, CAST(octet_length(reason) AS BIGINT) FROM reports \
         WHERE reporter_nid = $1 ORDER BY report_nid DESC";
    const FORGET: &str = "DELETE FROM reports WHERE reporter_nid = $1 AND report_nid <= $2";
    let sizes: Vec<(i64, i64)> = run!(tx, |c| sql::query_as(SIZES).bind(reporter.0).fetch_all(c))?;
    let (mut items, mut bytes) = (0, 0);
    let beyond = sizes.into_iter().find(|(_, size)| {
        items += 1;
        bytes += size;
        quota.require(items, bytes).is_err()
    });
    if let Some((oldest, _)) = beyond {
        execute!(tx, sql::query(FORGET).bind(reporter.0).bind(oldest))?;
    }
    Ok(())
}

async fn add(tx: &mut Tx, report: Report) -> Result<()> {
    const INSERT: &str = "INSERT INTO reports \
         (reporter_nid, ts, room_id, event_id, user_id, reason) VALUES ($1, $2, $3, $4, $5, $6)";
    execute!(
        tx,
        sql::query(INSERT)
            .bind(report.reporter.0)
            .bind(report.ts)
            .bind(report.room_id)
            .bind(report.event_id)
            .bind(report.user_id)
            .bind(report.reason)
    )?;
    Ok(())
}

/// Returns the newest reports, newest first.
///
/// # Errors
/// When the database fails.
pub async fn newest(db: &Database, limit: i64) -> Result<Vec<Report>> {
    const NEWEST: &str = "SELECT reporter_nid, ts, room_id, event_id, user_id, reason \
         FROM reports ORDER BY report_nid DESC LIMIT $1";
    type Row = (i64, i64, Option<String>, Option<String>, Option<String>, String);
    let rows: Vec<Row> = read!(db, |c| sql::query_as(NEWEST).bind(limit).fetch_all(c))?;
    let report = |(reporter, ts, room_id, event_id, user_id, reason): Row| Report {
        reporter: UserNid(reporter),
        ts,
        room_id,
        event_id,
        user_id,
        reason,
    };
    Ok(rows.into_iter().map(report).collect())
}

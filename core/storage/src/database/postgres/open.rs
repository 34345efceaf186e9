//! Opening a PostgreSQL database: connects, looks whether this is a server we can live on, brings
//! the tables up to date. Every refusal names the mend; none names the password.

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};

use super::{
    Postgres,
    connect::{connect, options, place},
    readers::{Limits, Readers},
    room,
    session::FORGET_OLD,
};
use crate::{
    CommitListener,
    database::{Lane, Pending, migrations, sql},
    error::{Result, StorageError},
};

/// The oldest server we run on, as `server_version_num` says it.
const VERSION_MIN: i64 = 150_000;
/// Connections for reads that are left at least, however few this process may hold.
const READERS_MIN: u32 = 2;
/// Connections beside those for reads: one per lane, and the one that shows that this process lives.
const OTHERS: u32 = Lane::ALL.len() as u32 + 1;
/// How long a read waits for a free connection.
const ACQUIRE_PATIENCE: Duration = Duration::from_secs(10);
/// A connection for reads that idled for longer is closed: other processes may need it, and their reads
/// wait for one twice as long.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// How long one is kept while the server has none to spare: long beside what opening one costs.
const TURN: Duration = Duration::from_secs(1);
/// What the server says about itself: version, encoding, whether it is a standby, whether commits
/// reach the disk before they are answered, whether our tables are there, how many tables are.
type About = (i64, String, bool, String, String, bool, i64);

/// Connects and brings the tables up to date. Returns the newest migration this process knows, too.
pub(crate) async fn open(
    url: &str,
    direct_url: Option<&str>,
    (connections_max, next_migrations): (u32, Option<&Path>),
    listener: Arc<dyn CommitListener>,
) -> Result<(Postgres, i64)> {
    let direct = direct_url.map(|url| options("database.direct_url", url)).transpose()?;
    let options = options("database.url", url)?;
    let mut connection = enter(&options).await?;
    refuse_half_a_copy(&mut connection, &options).await?;
    let place = place(&options);
    let known = migrations::postgres(&mut connection, &place, next_migrations).await?;
    sql::query(FORGET_OLD).execute(&mut connection).await?;
    // Behind a pooler it is the pooler that bounds the connections.
    if direct_url.is_none() {
        let each = connections_max.max(READERS_MIN + OTHERS);
        room::look(&mut connection, &place, each).await?;
    }
    let _ended = connection.close().await;
    let limits = Limits {
        max: connections_max.saturating_sub(OTHERS).max(READERS_MIN) as usize,
        patience: ACQUIRE_PATIENCE,
        idle: IDLE_MAX,
        turn: TURN,
    };
    let readers = Readers::open(&options, limits).await?;
    Ok((Postgres::start(readers, &options, direct, &listener).await?, known))
}

/// Connects past whatever pooler there is, and makes the tables: for what fills a database.
pub(crate) async fn connect_to_copy(url: &str) -> Result<PgConnection> {
    let options = options("the target", url)?;
    let mut connection = enter(&options).await?;
    migrations::postgres(&mut connection, &place(&options), None).await?;
    Ok(connection)
}

/// Returns what a database lacks.
pub(crate) async fn pending(url: &str, next_migrations: Option<&Path>) -> Result<Pending> {
    let options = options("database.url", url)?;
    let mut connection = enter(&options).await?;
    let place = place(&options);
    let pending = migrations::postgres_pending(&mut connection, &place, next_migrations).await?;
    let _ended = connection.close().await;
    Ok(pending)
}

/// Brings a database up to date, also one that servers are using.
pub(crate) async fn migrate(url: &str, next_migrations: Option<&Path>) -> Result<()> {
    let options = options("database.url", url)?;
    let mut connection = enter(&options).await?;
    refuse_half_a_copy(&mut connection, &options).await?;
    migrations::postgres(&mut connection, &place(&options), next_migrations).await?;
    let _ended = connection.close().await;
    Ok(())
}

/// Reads a setting, if there is a table of settings.
pub(crate) async fn peek(url: &str, key: &'static str) -> Result<Option<Vec<u8>>> {
    const TABLE: &str = "SELECT to_regclass('settings') IS NOT NULL";
    const GET: &str = "SELECT value FROM settings WHERE key = $1";
    let options = options("database.url", url)?;
    let mut connection = enter(&options).await?;
    let exists: bool = sql::query_scalar(TABLE).fetch_one(&mut connection).await?;
    let mut value = None;
    if exists {
        value = sql::query_scalar(GET).bind(key).fetch_optional(&mut connection).await?;
    }
    let _ended = connection.close().await;
    Ok(value)
}

/// Connects to a server that we can live on.
async fn enter(options: &PgConnectOptions) -> Result<PgConnection> {
    let mut connection = connect(options).await?;
    check(&mut connection, options).await?;
    Ok(connection)
}

/// Refuses a database that a copy is filling.
async fn refuse_half_a_copy(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
) -> Result<()> {
    const COPYING: &str = "SELECT to_regclass('copying') IS NOT NULL";
    if sql::query_scalar(COPYING).fetch_one(connection).await? {
        return Err(StorageError::Unusable(format!(
            "the database {} holds an unfinished copy: run `colonnade db copy` again with the same \
             arguments, it goes on where it stopped",
            place(options)
        )));
    }
    Ok(())
}

/// Refuses servers we cannot live on.
async fn check(connection: &mut PgConnection, options: &PgConnectOptions) -> Result<()> {
    const ABOUT: &str = "SELECT CAST(current_setting('server_version_num') AS BIGINT), \
         current_setting('server_encoding'), pg_is_in_recovery(), \
         current_setting('fsync'), current_setting('synchronous_commit'), \
         to_regclass('_sqlx_migrations') IS NOT NULL, \
         (SELECT count(*) FROM pg_tables WHERE schemaname = current_schema())";
    let place = place(options);
    let about: About = sql::query_as(ABOUT).fetch_one(connection).await?;
    if let Some(why) = objection(&about) {
        return Err(StorageError::Unusable(format!("the database {place} {why}")));
    }
    let (_, _, _, fsync, synchronous, _, _) = about;
    if fsync == "off" || synchronous == "off" {
        tracing::warn!(
            database = %place, %fsync, synchronous_commit = %synchronous,
            "this database answers commits before they are on disk: a crash of its server loses \
             what clients were told is stored; set both to on"
        );
    }
    Ok(())
}

/// Says why we cannot live on a server, if so, and what helps.
fn objection((version, encoding, standby, _, _, ours, tables): &About) -> Option<String> {
    if *version < VERSION_MIN {
        let major = version / 10_000;
        return Some(format!(
            "runs on PostgreSQL {major}, and 15 is the oldest that works: upgrade the server"
        ));
    }
    if encoding != "UTF8" {
        return Some(format!(
            "is encoded as {encoding}: create it anew with ENCODING 'UTF8' TEMPLATE template0"
        ));
    }
    if !ours && *tables > 0 {
        return Some(format!(
            "holds {tables} tables of something else: create a database of its own for colonnade"
        ));
    }
    if *standby {
        return Some("is on a standby, which cannot be written: name the primary".to_owned());
    }
    None
}

#[cfg(test)]
mod tests;

//! What differs between the engines, hidden behind macros: which pool a statement runs on, how a
//! list is bound.

/// Runs one read on the engine that is open: `read!(db, |c| query.bind(x).fetch_one(c))`.
macro_rules! read {
    ($db:expr, |$c:ident| $query:expr) => {
        match &$db.engine {
            $crate::database::Engine::Sqlite(engine) => {
                let $c = engine.reader();
                $query.await.map_err($crate::error::StorageError::from)
            }
            $crate::database::Engine::Postgres(engine) => match engine.reader().await {
                Ok(mut reader) => {
                    let $c = &mut *reader;
                    let answer = $query.await;
                    reader.done(answer)
                }
                Err(error) => Err(error),
            },
        }
    };
}

/// Runs one statement inside a transaction: `run!(tx, |c| query.bind(x).execute(c))`.
macro_rules! run {
    ($tx:expr, |$c:ident| $query:expr) => {
        match &mut $tx.connection {
            $crate::database::tx::Connection::Sqlite(connection) => {
                let $c = &mut **connection;
                $query.await.map_err($crate::error::StorageError::from)
            }
            $crate::database::tx::Connection::Postgres(connection) => {
                let $c = &mut ***connection;
                $query.await.map_err($crate::error::StorageError::from)
            }
        }
    };
}

/// Runs a statement that returns no rows and gives the number of rows it changed:
/// `execute!(tx, sql::query(SQL).bind(x))`.
macro_rules! execute {
    ($tx:expr, $query:expr) => {
        match &mut $tx.connection {
            $crate::database::tx::Connection::Sqlite(connection) => $query
                .execute(&mut **connection)
                .await
                .map(|done| done.rows_affected())
                .map_err($crate::error::StorageError::from),
            $crate::database::tx::Connection::Postgres(connection) => $query
                .execute(&mut ***connection)
                .await
                .map(|done| done.rows_affected())
                .map_err($crate::error::StorageError::from),
        }
    };
}

/// Runs a statement whose text differs between the engines; `$sql` names the chosen text. For lists:
/// bind ONE JSON array text and write `IN (SELECT value FROM json_each($1))` for SQLite,
/// `IN (SELECT CAST(jsonb_array_elements_text(CAST($1 AS jsonb)) AS BIGINT))` for PostgreSQL.
/// [`list_sql`] makes both from one text with `{LIST n}`.
macro_rules! read_list {
    ($db:expr, $sql:expr, |$text:ident, $c:ident| $query:expr) => {
        match &$db.engine {
            $crate::database::Engine::Sqlite(engine) => {
                let $text = sqlx::AssertSqlSafe($crate::database::list_sql($sql, false));
                let $c = engine.reader();
                $query.await.map_err($crate::error::StorageError::from)
            }
            $crate::database::Engine::Postgres(engine) => {
                let $text = sqlx::AssertSqlSafe($crate::database::list_sql($sql, true));
                match engine.reader().await {
                    Ok(mut reader) => {
                        let $c = &mut *reader;
                        let answer = $query.await;
                        reader.done(answer)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    };
}

/// [`read_list`] inside a transaction.
macro_rules! run_list {
    ($tx:expr, $sql:expr, |$text:ident, $c:ident| $query:expr) => {
        match &mut $tx.connection {
            $crate::database::tx::Connection::Sqlite(connection) => {
                let $text = sqlx::AssertSqlSafe($crate::database::list_sql($sql, false));
                let $c = &mut **connection;
                $query.await.map_err($crate::error::StorageError::from)
            }
            $crate::database::tx::Connection::Postgres(connection) => {
                let $text = sqlx::AssertSqlSafe($crate::database::list_sql($sql, true));
                let $c = &mut ***connection;
                $query.await.map_err($crate::error::StorageError::from)
            }
        }
    };
}

//! Connecting to a server, and what helps when that fails. No message names the password.

use std::time::Duration;

use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

use crate::error::{Result, StorageError};

/// Tells whether the server refused a connection since it has no more.
pub(super) fn is_crowded(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|cause| cause.code());
    code.as_deref() == Some("53300")
}

pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    try_connect(options).await.map_err(|error| refused(options, &error))
}

pub(super) async fn try_connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let connected = tokio::time::timeout(CONNECT_PATIENCE, options.connect()).await;
    connected.unwrap_or_else(|_| {
        Err(sqlx::Error::Io(std::io::Error::other("nothing answers within 10 s")))
    })
}

/// Says why no connection came about, and what helps.
pub(super) fn refused(options: &PgConnectOptions, error: &sqlx::Error) -> StorageError {
    let (place, user) = (place(options), options.get_username());
    let database = options.get_database().unwrap_or(user);
    let code = error.as_database_error().and_then(|cause| cause.code());
    let mend = match (error, code.as_deref()) {
        (sqlx::Error::Io(why), _)
            if why.kind() == std::io::ErrorKind::NotFound && options.get_socket().is_none() =>
        {
            "sslrootcert=FILE in database.url names no file that is there".to_owned()
        }
        (sqlx::Error::Io(why), _) if why.kind() != std::io::ErrorKind::InvalidData => {
            "is PostgreSQL running there, and are host and port in database.url right?".to_owned()
        }
        (_, Some("28000")) if error.to_string().contains("no encryption") => {
            "the server takes connections with TLS only: say sslmode=verify-full in database.url"
                .to_owned()
        }
        (_, Some("28P01" | "28000")) => format!(
            "user or password in database.url is wrong, or pg_hba.conf does not let {user} in"
        ),
        (_, Some("3D000")) => format!(
            "create the database: CREATE DATABASE {database} OWNER {user} ENCODING 'UTF8' \
             LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ),
        (_, Some("53300")) => {
            "raise max_connections of the server, or lower database.connections_max".to_owned()
        }
        (_, Some("57P03")) => "the server is starting or stopping; try again".to_owned(),
        (_, Some("42501")) => format!("GRANT CONNECT ON DATABASE {database} TO {user}"),
        (sqlx::Error::Tls(why), _) if why.to_string().contains("upgrade to TLS") => {
            "the server has no TLS: set ssl = on there, or say sslmode=prefer in database.url"
                .to_owned()
        }
        // What a handshake found wrong with a certificate is invalid data.
        (sqlx::Error::Tls(_) | sqlx::Error::Io(_), _) => {
            "does the server have ssl = on, and is the authority that signed its certificate \
             known to this system, or named by sslrootcert=FILE in database.url?"
                .to_owned()
        }
        _ => "look into the log of the server".to_owned(),
    };
    StorageError::Unusable(format!("cannot connect to the database {place}: {error}; {mend}"))
}

/// Names the database without its password.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    match options.get_socket() {
        Some(socket) => format!("{database} behind {} as {user}", socket.display()),
        None => format!("{database} at {}:{} as {user}", options.get_host(), options.get_port()),
    }
}

pub(super) fn options(key: &str, url: &str) -> Result<PgConnectOptions> {
    let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
        StorageError::Unusable(format!(
            "{key} is not understood ({error}): write it like \
             postgres://user:password@host:5432/database"
        ))
    })?;
    Ok(options
        .application_name("colonnade")
        // We store no fractions; a pooler that does not know the setting would refuse it.
        .extra_float_digits(None)
        .statement_cache_capacity(STATEMENTS_MAX)
        .disable_statement_logging())
}

/// Prepared statements kept per connection: all there are. About 5 kB each, on both sides.
const STATEMENTS_MAX: usize = 512;

/// How long connecting may take when nothing answers at all.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

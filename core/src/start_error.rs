//! Why a homeserver does not start.

use colonnade_replication::BusError;
use colonnade_storage::StorageError;

use crate::keys::KeyError;

/// Why a homeserver does not start; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The signing key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The services.
    #[error(transparent)]
    Services(#[from] colonnade_rooms::Error),
    /// A socket.
    #[error("cannot listen on {address}: {why}; is another server running there?")]
    Listen {
        /// The socket.
        address: String,
        /// The cause.
        why: std::io::Error,
    },
    /// The counters.
    #[error("cannot set up the metrics: {0}")]
    Metrics(String),
    /// The data belongs to another server.
    #[error(
        "this data belongs to the server {stored}, but server_name is {configured}; a server name \
         cannot change once it has users: set it back, or use another data folder"
    )]
    OtherServer {
        /// The name the data was created with.
        stored: String,
        /// The name configured now.
        configured: String,
    },
    /// Many processes on a database that only one may use.
    #[error(
        "several processes need PostgreSQL: set database.url to postgres://user:password@host/name, \
         or start `colonnade up`, which is one process"
    )]
    NotShared,
    /// The signing key is not the one the data was made with.
    #[error(
        "the signing key {path} is not the one this database was used with ({stored}): {found}; put \
         the file back from the data folder or backup that belongs to this database"
    )]
    OtherKey {
        /// The file.
        path: String,
        /// The key in it, if any.
        found: String,
        /// The public key known to the database.
        stored: String,
    },
    /// Somebody else uses the database.
    #[error("another process of colonnade uses this database; stop it, or name another database")]
    InUse,
}

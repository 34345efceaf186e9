//! A connection that is lent. It comes back when dropped; what nobody knows the state of, since its reader gave
//! up in the middle of an answer or the server complained, is looked at first, beside whoever waits.

use sqlx::{Connection as _, PgConnection};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use super::{ANSWER_PATIENCE, Readers};
use crate::error::Result;

/// What becomes of a connection that is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    /// It is as it was.
    Keep,
    /// Somebody has to see whether it answers.
    Ask,
    /// It is in the middle of a transaction, which ends with it.
    End,
}

/// A connection that is lent.
pub(crate) struct Reader {
    readers: Readers,
    /// `None` once it is given back.
    connection: Option<PgConnection>,
    opened_at: Instant,
    afterwards: Afterwards,
}

impl Reader {
    pub(super) fn new(readers: Readers, connection: PgConnection, opened_at: Instant) -> Self {
        let connection = Some(connection);
        Self { readers, connection, opened_at, afterwards: Afterwards::Ask }
    }

    /// Says how a statement went, and gives the connection back.
    ///
    /// # Errors
    /// Those of the statement.
    pub(crate) fn done<T>(mut self, answer: sqlx::Result<T>) -> Result<T> {
        if matches!(answer, Ok(_) | Err(sqlx::Error::RowNotFound)) {
            self.afterwards = Afterwards::Keep;
        }
        Ok(answer?)
    }

    /// A transaction begins.
    pub(crate) fn begins(&mut self) {
        self.afterwards = Afterwards::End;
    }

    /// Whatever was going on is over, and was answered to its end.
    pub(crate) fn ended(&mut self) {
        self.afterwards = Afterwards::Keep;
    }

    /// Tells whether the server answers, once whatever it was saying is read.
    pub(super) async fn answers(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        matches!(timeout(ANSWER_PATIENCE, connection.ping()).await, Ok(Ok(())))
    }

    /// Gives up a connection that is broken.
    pub(super) fn discard(mut self) {
        self.afterwards = Afterwards::End;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let readers = self.readers.clone();
        // None when the process is ending.
        let Ok(runtime) = Handle::try_current() else { return };
        match self.afterwards {
            Afterwards::Keep => readers.give_back(connection, self.opened_at),
            Afterwards::End => readers.end(connection),
            Afterwards::Ask => {
                let mut reader = Self::new(readers, connection, self.opened_at);
                // Also when the task itself is dropped.
                reader.afterwards = Afterwards::End;
                runtime.spawn(async move {
                    if reader.answers().await {
                        reader.ended();
                    }
                });
            }
        }
    }
}

impl std::ops::Deref for Reader {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("it is taken out in drop alone")
    }
}

impl std::ops::DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is taken out in drop alone")
    }
}

//! Catching up with other processes: a request that comes after another was answered sees what that
//! one wrote, whichever process wrote it.
//!
//! The database says how far the streams are. Requests that come together share the question: at most
//! one is under way at a time, and each waits for one that began after it came.

use std::sync::atomic::Ordering;

use colonnade_storage::{Database, error::Result};

use super::{DURABLE, Streams};

impl Streams {
    /// Asks the database how far the streams are, if other processes write to it, so that
    /// [`Streams::known`] covers everything that was committed before this call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn look(&self, db: &Database) -> Result<()> {
        if !self.is_shared() {
            return Ok(());
        }
        let mine = self.looks.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut answered = self.looks.answered.lock().await;
        if *answered >= mine {
            return Ok(());
        }
        let those_who_wait = self.looks.asked.load(Ordering::Acquire);
        let horizons = colonnade_storage::streams::horizons(db).await?;
        for stream in DURABLE {
            self.learn(stream, horizons.get(stream));
        }
        *answered = those_who_wait;
        Ok(())
    }

    /// Waits until whatever was committed before this call, by any process, is taken note of here;
    /// not for long, as [`Streams::noted`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn catch_up(&self, db: &Database) -> Result<()> {
        if !self.is_shared() {
            return Ok(());
        }
        self.look(db).await?;
        let known = self.known();
        for stream in DURABLE {
            self.noted(stream, known.get(stream)).await;
        }
        Ok(())
    }
}

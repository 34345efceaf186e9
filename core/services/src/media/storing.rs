//! The end of an upload: its file put in place, its row written, and the file deleted again when the row
//! is refused. Runs in a task of its own: a client that goes away meanwhile leaves nothing behind.

use std::{io, sync::Arc};

use colonnade_model::{MatrixError, nid::UserNid};
use colonnade_rooms::{Context, Error, Result, quotas};
use colonnade_storage::{StorageError, media as table, media::Content, quota::Quota};

use super::{
    Media,
    arriving::Arrival,
    files::{Aside, FileError, Files},
    sweeping::discard,
};

/// A body that arrived whole and lies aside.
pub(super) struct Arrived {
    pub(super) aside: Aside,
    pub(super) content: Content,
    pub(super) arrival: Arrival,
}

/// The row of an upload.
#[derive(Clone)]
pub(super) enum Row {
    /// One that is to be made.
    New { media_id: String, uploader: UserNid },
    /// One that waits for its content.
    Reserved { media_id: String, uploader: UserNid },
}

impl Media {
    /// Stores what arrived. False when its row has content already or is gone.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when the user would keep more than it may; when the database or the disk fails.
    pub(super) async fn store(&self, arrived: Arrived, row: Row) -> Result<bool> {
        let (context, files) = (Arc::clone(&self.context), self.files.clone());
        let stored = tokio::spawn(async move { settle(&context, &files, arrived, row).await });
        stored.await.map_err(|error| Error::internal("store an upload", error))?
    }
}

async fn settle(context: &Context, files: &Files, arrived: Arrived, row: Row) -> Result<bool> {
    let Arrived { aside, content, arrival } = arrived;
    if let Err(error) = files.keep(&aside).await {
        remove_refused(context, files, &aside).await;
        return Err(not_stored(error));
    }
    match write(context, row, content).await {
        Ok(true) => {
            arrival.stored();
            files.keep_still(&aside).await.map_err(not_stored)?;
            Ok(true)
        }
        Ok(false) => {
            remove_refused(context, files, &aside).await;
            Ok(false)
        }
        Err(error @ (StorageError::Full(_) | StorageError::Conflict { .. })) => {
            remove_refused(context, files, &aside).await;
            Err(no_room(error))
        }
        // Nobody knows whether it was written: the daily sweep finds out.
        Err(error) => Err(error.into()),
    }
}

async fn write(
    context: &Context,
    row: Row,
    content: Content,
) -> std::result::Result<bool, StorageError> {
    let (now_ms, quota): (i64, Quota) = (context.now_ms(), context.settings.limits.media());
    let written = context.db.write(move |tx| {
        Box::pin(async move {
            match &row {
                Row::New { media_id, uploader } => {
                    table::insert(tx, media_id, *uploader, &content, now_ms, &quota).await?;
                    Ok(true)
                }
                Row::Reserved { media_id, uploader } => {
                    table::fill(tx, media_id, *uploader, &content, &quota).await
                }
            }
        })
    });
    written.await
}

/// Deletes a file whose row was refused, unless another upload has the same content.
async fn remove_refused(context: &Context, files: &Files, aside: &Aside) {
    if let Err(error) = discard(context, files, aside.hash).await {
        tracing::warn!(cause = %error, "a refused upload stays on disk until the daily sweep");
    }
}

/// Says that a user keeps as much as it may, with the code of the specification.
///
/// Source: Matrix v1.19, client-server, `POST /_matrix/media/v3/upload`, 403.
pub(super) fn no_room(error: StorageError) -> Error {
    match error {
        StorageError::Full(full) => MatrixError::forbidden(quotas::over(&full).message).into(),
        other => other.into(),
    }
}

/// A full disk is something to try again later, and to tell the operator in as many words.
pub(super) fn not_stored(error: FileError) -> Error {
    match error.source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            tracing::error!(cause = %error.source, "no space for uploads: {error}; free some");
            MatrixError::unavailable("the server has no space for uploads now").into()
        }
        _ => Error::internal("store an upload", error),
    }
}

#[cfg(test)]
mod tests {
    use colonnade_storage::quota::{Bound, Full};

    use super::*;

    #[test]
    fn a_full_quota_of_uploads_is_forbidden_by_number_and_by_bytes() {
        for in_bytes in [false, true] {
            let bound = Bound { setting: "limits.media_files_max", max: 3 };
            let full = Full { what: "uploaded files", bound, in_bytes };
            let Error::Client(error) = no_room(StorageError::Full(full)) else { panic!("told") };
            assert_eq!((error.status, &*error.errcode), (403, "M_FORBIDDEN"));
            assert!(error.message.contains("limits.media_files_max"), "{}", error.message);
        }
    }
}

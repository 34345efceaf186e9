//! Which files are old, and that deleting takes what was made of them along.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;

use crate::media::files::Files;

const NOW_MS: i64 = 1_700_000_000_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn what_is_old_is_found_and_deleted_with_its_thumbnails() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::open(folder.path(), NOW_MS).await.unwrap();
    let now = std::time::UNIX_EPOCH + Duration::from_millis(NOW_MS.unsigned_abs());
    let mut hashes = Vec::new();
    for (name, age) in [("old", DAY * 2), ("new", DAY / 2)] {
        let body = stream::iter([Ok(Bytes::from(name))]);
        let aside =
            files.receive(name, 100, body, |_| Ok(())).await.map_err(|_| "refused").unwrap();
        let hash = aside.hash;
        files.keep(&aside).await.unwrap();
        let (file, _) = files.read(&hash).await.unwrap();
        file.into_std().await.set_modified(now - age).unwrap();
        let thumbnail = files.beside(&hash, "96x96.png");
        files.keep_beside(&thumbnail, "t", b"small").await.unwrap();
        hashes.push((hash, thumbnail));
    }
    let mut old = Vec::new();
    for first in 0..=u8::MAX {
        old.extend(files.old_in(first, NOW_MS).await.unwrap());
    }
    assert_eq!(old, [hashes[0].0]);
    let taken = files.take(&old[0], "aside").await.unwrap().unwrap();
    files.discard(taken).await.unwrap();
    assert!(files.take(&old[0], "aside").await.unwrap().is_none());
    assert!(files.read(&old[0]).await.is_err());
    assert!(!hashes[0].1.exists() && hashes[1].1.exists());
    files.read(&hashes[1].0).await.unwrap();
}

#[tokio::test]
async fn what_is_uploaded_while_the_same_is_deleted_stays() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::open(folder.path(), NOW_MS).await.unwrap();
    let body = || stream::iter([Ok(Bytes::from("the same"))]);
    let mut received = Vec::new();
    for name in ["one", "two"] {
        received.push(files.receive(name, 100, body(), |_| Ok(())).await.unwrap());
    }
    let hash = received[0].hash;
    // The one that deletes finds that an upload has it: it goes back.
    files.keep(&received[0]).await.unwrap();
    let taken = files.take(&hash, "taken").await.unwrap().unwrap();
    assert!(files.read(&hash).await.is_err());
    drop(taken);
    files.read(&hash).await.unwrap();
    // It finds none: then the row comes later, and its upload finds the file gone.
    files.keep(&received[1]).await.unwrap();
    let taken = files.take(&hash, "taken").await.unwrap().unwrap();
    files.discard(taken).await.unwrap();
    files.keep_still(&received[1]).await.unwrap();
    drop(received);
    files.read(&hash).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("media/aside")).unwrap().count(), 0);
}

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
        let aside = files.receive(name, 100, body).await.map_err(|_| "refused").unwrap();
        let hash = aside.hash;
        files.keep(aside).await.unwrap();
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
    assert!(files.discard(&old[0], "aside").await.unwrap());
    assert!(files.read(&old[0]).await.is_err());
    assert!(!hashes[0].1.exists() && hashes[1].1.exists());
    files.read(&hashes[1].0).await.unwrap();
}

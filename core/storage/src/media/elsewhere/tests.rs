//! What gives way, and that the sum stays right.

use super::*;
use crate::database::testing::World;

fn content(byte: u8, bytes: u64) -> Content {
    Content { hash: [byte; 32], bytes, content_type: Some("image/png".to_owned()), file_name: None }
}

async fn keep(db: &Database, id: &str, kept: Content, now_ms: i64) -> bool {
    let id = id.to_owned();
    let keep =
        db.write(move |tx| Box::pin(async move { insert(tx, "hs2", &id, &kept, now_ms).await }));
    keep.await.unwrap()
}

async fn room_within(db: &Database, bytes_max: i64) -> Vec<ContentHash> {
    db.write(move |tx| Box::pin(make_room(tx, bytes_max))).await.unwrap()
}

async fn what_was_not_asked_for_the_longest_gives_way(world: World) {
    let db = world.open().await;
    assert!(room_within(&db, 0).await.is_empty());
    for (place, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let (byte, now_ms) = (place as u8, 10 + place as i64);
        assert!(keep(&db, id, content(byte, 100), now_ms).await);
        assert!(!keep(&db, id, content(byte + 9, 50), now_ms).await, "the first one stays");
    }
    db.write(move |tx| Box::pin(use_now(tx, "hs2", "a", 20))).await.unwrap();
    assert!(room_within(&db, 400).await.is_empty());
    assert_eq!(room_within(&db, 399).await, [[1; 32]]);
    assert_eq!(room_within(&db, 150).await, [[2; 32], [3; 32]]);
    let kept = find(&db, "hs2", "a").await.unwrap().unwrap();
    assert_eq!((kept.content, kept.fetched_ts, kept.used_ts), (content(0, 100), 10, 20));
    assert_eq!(find(&db, "hs2", "b").await.unwrap(), None);
    assert_eq!(find(&db, "hs3", "a").await.unwrap(), None);
    assert!(has_file(&db, [0; 32]).await.unwrap() && !has_file(&db, [1; 32]).await.unwrap());
    // What an operator took out of sight is neither shown nor forgotten.
    let hide = db.write(move |tx| {
        Box::pin(async move {
            const HIDE: &str = "UPDATE remote_media SET quarantined_ts = 30 WHERE media_id = 'a'";
            execute!(tx, sql::query(HIDE)).map(drop)
        })
    });
    hide.await.unwrap();
    assert!(find(&db, "hs2", "a").await.unwrap().unwrap().is_quarantined);
    assert!(room_within(&db, 0).await.is_empty());
    db.write(move |tx| Box::pin(forget(tx, [0; 32]))).await.unwrap();
    db.write(move |tx| Box::pin(forget(tx, [0; 32]))).await.unwrap();
    assert!(keep(&db, "e", content(7, 10), 40).await);
    assert!(room_within(&db, 10).await.is_empty(), "the sum is right");
    db.close().await;
}

on_both! {
    what_was_not_asked_for_the_longest_gives_way,
}

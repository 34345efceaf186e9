//! The first start of a server, told from those that are older than its note.

use super::*;
use crate::database::testing::World;

async fn the_first_start_is_noted_once_and_not_for_older_servers(world: World) {
    let db = world.open().await;
    assert_eq!(first_start(&db).await.unwrap(), None);
    let first = begin(&db, b"a.example".to_vec(), 1_000);
    let second = begin(&db, b"a.example".to_vec(), 2_000);
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.unwrap(), second.unwrap()), (b"a.example".to_vec(), b"a.example".to_vec()));
    let noted = first_start(&db).await.unwrap().unwrap();
    assert!([1_000, 2_000].contains(&noted));
    assert_eq!(begin(&db, b"b.example".to_vec(), 3_000).await.unwrap(), b"a.example");
    assert_eq!(first_start(&db).await.unwrap(), Some(noted));
    db.close().await;
}

async fn an_older_server_has_no_first_start(world: World) {
    let db = world.open().await;
    get_or_insert(&db, "server_name", b"a.example".to_vec()).await.unwrap();
    begin(&db, b"a.example".to_vec(), 1_000).await.unwrap();
    assert_eq!(first_start(&db).await.unwrap(), None);
    db.close().await;
}

on_both!(
    the_first_start_is_noted_once_and_not_for_older_servers,
    an_older_server_has_no_first_start,
);

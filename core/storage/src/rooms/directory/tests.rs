//! Aliases are taken once; pages of published rooms go both ways, filtered and searched.

use colonnade_model::ruma::room_alias_id;

use super::*;
use crate::database::sql;
use crate::database::testing::World;

async fn room(
    db: &Database,
    nid: i64,
    name: &'static str,
    kind: Option<&'static str>,
    joined: i64,
) {
    db.write(move |tx| {
        Box::pin(async move {
            const ROOM: &str = "INSERT INTO rooms (room_nid, room_id, version, slot, created_ts) \
                 VALUES ($1, $2, '12', 0, 0)";
            const SUMMARY: &str = "INSERT INTO room_summary (room_nid, name, room_type, join_rule, \
                 history_visibility, guest_access, joined) \
                 VALUES ($1, $2, $3, 'public', 'shared', 0, $4)";
            execute!(tx, sql::query(ROOM).bind(nid).bind(format!("!{nid}:localhost")))?;
            execute!(tx, sql::query(SUMMARY).bind(nid).bind(name).bind(kind).bind(joined))?;
            set_published(tx, RoomNid(nid), true).await
        })
    })
    .await
    .unwrap();
}

async fn page(db: &Database, query: PublishedQuery) -> Vec<i64> {
    let rooms = published_rooms(db, query).await.unwrap();
    rooms.into_iter().map(|room| room.place.room.0).collect()
}

async fn aliases_are_taken_once(world: World) {
    let db = world.open().await;
    let alias = room_alias_id!("#a:localhost");
    let insert = |room: i64| {
        db.write(move |tx| {
            Box::pin(async move {
                insert_alias(tx, alias, RoomNid(room), UserNid(7), Quota::NONE).await
            })
        })
    };
    assert!(insert(1).await.unwrap());
    assert!(!insert(2).await.unwrap());
    let target = AliasTarget { room: RoomNid(1), creator: UserNid(7) };
    assert_eq!(resolve(&db, alias).await.unwrap(), Some(target));
    assert_eq!(aliases_of(&db, RoomNid(1)).await.unwrap(), [alias]);
    let deleted = db.write(move |tx| Box::pin(async move { delete_alias(tx, alias).await })).await;
    assert!(deleted.unwrap());
    assert_eq!(resolve(&db, alias).await.unwrap(), None);
    db.close().await;
}

async fn published_rooms_page_both_ways(world: World) {
    let db = world.open().await;
    room(&db, 1, "Gardening", None, 5).await;
    room(&db, 2, "100% cotton", None, 9).await;
    room(&db, 3, "House", Some("m.space"), 5).await;
    room(&db, 4, "Ärger", None, 1).await;
    let all = PublishedQuery { limit: 10, ..Default::default() };
    assert_eq!(page(&db, all.clone()).await, [2, 3, 1, 4]);
    let place = |joined, room| Some(Place { joined, room: RoomNid(room) });
    let next = PublishedQuery { from: place(5, 3), limit: 1, ..all.clone() };
    assert_eq!(page(&db, next).await, [1]);
    let back = PublishedQuery { from: place(1, 4), backward: true, limit: 2, ..all.clone() };
    assert_eq!(page(&db, back).await, [3, 1]);
    let search = |term: &str| PublishedQuery { search: Some(term.to_owned()), ..all.clone() };
    assert_eq!(page(&db, search("GARDEN")).await, [1]);
    assert_eq!(page(&db, search("0%")).await, [2]);
    assert_eq!(page(&db, search("_")).await, [0; 0]);
    assert_eq!(page(&db, search("Ärger")).await, [4]);
    let types = |list: &[&str]| PublishedQuery {
        types: Some(list.iter().map(|kind| (*kind).to_owned()).collect()),
        ..all.clone()
    };
    assert_eq!(page(&db, types(&["m.space"])).await, [3]);
    assert_eq!(page(&db, types(&["", "x"])).await, [2, 1, 4]);
    assert_eq!(published_count(&db).await.unwrap(), 4);
    db.close().await;
}

on_both!(aliases_are_taken_once, published_rooms_page_both_ways,);

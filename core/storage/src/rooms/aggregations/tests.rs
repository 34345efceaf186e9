//! The event at a time is found however much that is hidden lies between; redactions are found together.

use colonnade_model::{
    nid::{EventNid, RoomNid},
    ruma::{EventId, OwnedEventId},
};

use super::{Direction, Lens, at_time, redactions_of};
use crate::{
    Database,
    database::{sql, testing::World},
};

/// More than are looked at around a time.
const EVENTS: i64 = 7_000;

/// A room in which an event is said every ten milliseconds, event and position `n` at `10 n`.
async fn room(db: &Database) {
    const MANY: &str = "WITH RECURSIVE n (i) AS (SELECT CAST($1 AS BIGINT) UNION ALL \
            SELECT i + 1 FROM n WHERE i < $2) \
         INSERT INTO events (event_nid, room_nid, event_id, type_nid, sender_nid, depth, origin_ts, \
            received_ts, flags, tl, prevs, auths) \
         SELECT i, 1, '$e' || CAST(i AS TEXT), 1, 1, 1, 10 * i, 0, 0, i, $3, $3 FROM n";
    const STREAM: &str = "INSERT INTO event_stream (pos, room_nid, event_nid, sender_nid, action, \
            notif_seq, main_seq, hl_seq, thread_seq) \
         SELECT event_nid, 1, event_nid, 1, 0, 0, 0, 0, 0 FROM events";
    let write = db.write(|tx| {
        Box::pin(async move {
            execute!(tx, sql::query(MANY).bind(1i64).bind(EVENTS).bind(Vec::<u8>::new()))?;
            execute!(tx, sql::query(STREAM)).map(drop)
        })
    });
    write.await.unwrap();
}

async fn hidden_events_are_passed_over_to_the_next_stretch(world: World) {
    let db = world.open().await;
    room(&db).await;
    let find = async |lens: &Lens, ts_ms: i64, direction| {
        at_time(&db, RoomNid(1), (ts_ms, direction), lens, 3).await.unwrap()
    };
    let numbers = |found: Vec<EventNid>| found.iter().map(|event| event.0).collect::<Vec<_>>();
    let (forward, backward) = (Direction::Forward, Direction::Backward);
    let lens = Lens::new(&[(100, 103), (3_000, 3_001), (6_500, i64::MAX)], Vec::new());
    for (ts_ms, direction, wanted) in [
        (0, forward, vec![100, 101, 102]),
        // Far away, in the one direction and the other.
        (1_040, forward, vec![3_000, 3_001]),
        (30_020, forward, vec![6_500, 6_501, 6_502]),
        (64_990, backward, vec![3_001, 3_000]),
        (29_990, backward, vec![103, 102, 101]),
        (69_995, forward, vec![7_000]),
        (990, backward, vec![]),
        (70_010, forward, vec![]),
    ] {
        assert_eq!(numbers(find(&lens, ts_ms, direction).await), wanted, "{ts_ms} {direction:?}");
    }
    let nothing = Lens::new(&[], Vec::new());
    assert!(find(&nothing, 35_000, forward).await.is_empty());
    let all = Lens::all_but(Vec::new());
    assert_eq!(numbers(find(&all, 35_000, backward).await), [3_500, 3_499, 3_498]);
    db.close().await;
}

async fn redactions_of_many_events_are_found_at_once(world: World) {
    let db = world.open().await;
    room(&db).await;
    let write = db.write(|tx| {
        Box::pin(async move {
            const REDACTED: &str = "INSERT INTO redactions (target_event_id, redaction_nid) VALUES \
                 ('$e1', 9), ('$e1', 8), ('$e2', 10), ('$e3', 11)";
            const HIDDEN: &str = "UPDATE events SET tl = NULL WHERE event_nid = 11";
            execute!(tx, sql::query(REDACTED))?;
            execute!(tx, sql::query(HIDDEN)).map(drop)
        })
    });
    write.await.unwrap();
    let ids: Vec<OwnedEventId> =
        ["$e1", "$e2", "$e3", "$e4"].map(|id| EventId::parse(id).unwrap()).to_vec();
    let ids: Vec<&EventId> = ids.iter().map(AsRef::as_ref).collect();
    let found = redactions_of(&db, &ids).await.unwrap();
    let mut found: Vec<(String, i64)> = found.into_iter().map(|(id, nid)| (id, nid.0)).collect();
    found.sort();
    assert_eq!(found, [("$e1".to_owned(), 8), ("$e2".to_owned(), 10)]);
    assert!(redactions_of(&db, &[]).await.unwrap().is_empty());
    db.close().await;
}

on_both! {
    hidden_events_are_passed_over_to_the_next_stretch,
    redactions_of_many_events_are_found_at_once,
}

//! All or nothing: whichever row cannot be written, nothing of the batch is.

use colonnade_model::{nid::DeviceNid, stream::StreamAdvance};
use colonnade_rules::push::PushOutcome;
use colonnade_rules::trie::{DigestKey, State};
use parking_lot::Mutex;

use colonnade_model::nid::{StateKeyNid, StateNid, TypeNid, UserNid};

use super::*;
use crate::{
    CommitListener, Database, Lane, StorageError,
    database::{Engine, sql, testing::World},
};
use crate::{
    quota::Quota,
    rooms::{members::Membership, summaries::Summary},
};

/// Every table that a batch writes.
const TABLES: [&str; 20] = [
    "rooms",
    "room_aliases",
    "room_states",
    "events",
    "event_json",
    "relations",
    "redactions",
    "client_txns",
    "event_stream",
    "room_state_log",
    "room_members",
    "member_log",
    "room_servers",
    "invite_states",
    "missing_prevs",
    "push_exceptions",
    "threads",
    "thread_participants",
    "room_heads",
    "room_summary",
];

#[derive(Default)]
struct CommitLog(Mutex<Vec<StreamAdvance>>);

impl CommitListener for CommitLog {
    fn committed(&self, advance: StreamAdvance) {
        self.0.lock().push(advance);
    }
}

fn event(nid: i64, live: Option<Live>) -> NewEvent {
    NewEvent {
        nid: EventNid(nid),
        event_id: format!("$e{nid}"),
        event_type: TypeNid(1),
        sender: UserNid(1),
        state_key_nid: None,
        depth: nid,
        origin_ts: nid,
        received_ts: nid,
        flags: EventFlags::default(),
        state_before: None,
        state_after: None,
        prevs: Vec::new(),
        missing_prevs: Vec::new(),
        was_outlier: false,
        history_key: None,
        auths: Vec::new(),
        json: "{}".into(),
        txn: None,
        relation: None,
        redacts: None,
        redaction: None,
        live,
    }
}

fn live(timeline_key: i64) -> Live {
    let member = NewMember {
        user: UserNid(timeline_key),
        membership: Membership::Join,
        event: EventNid(timeline_key),
        sender: UserNid(1),
        display_name: None,
        avatar_url: None,
    };
    Live {
        timeline_key: Some(timeline_key),
        outcome: PushOutcome::Notify,
        notif_seq: 1,
        unthreaded_seq: 1,
        highlight_seq: 0,
        thread: Some(EventNid(1)),
        state: Some(StateNid(timeline_key)),
        members: vec![member],
        stripped: Some((UserNid(3), "[]".to_owned())),
        servers: vec![("elsewhere.org".try_into().unwrap(), 1)],
        ends_at: None,
        user_outcomes: vec![(UserNid(2), PushOutcome::Highlight)],
    }
}

/// A batch that writes to every table.
fn batch() -> Batch {
    let key = DigestKey::new([0; 32]);
    let mut nids = (1..).map(StateNid);
    let entry = colonnade_rules::trie::Entry { state_key_nid: StateKeyNid(1), event: EventNid(1) };
    let mut next = || nids.next().unwrap();
    let state = State::build([entry], [], &key, &mut next).unwrap();
    let mut second = event(2, Some(live(2)));
    second.relation =
        Some(Relation { parent: EventNid(1), rel_type: "m.thread".to_owned(), key: None });
    second.missing_prevs = vec!["$missing".try_into().unwrap()];
    second.redacts = Some("$e1".to_owned());
    second.redaction = Some(Redaction { target: EventNid(1), json: "[]".into() });
    second.txn =
        Some(ClientTxn { device: DeviceNid(1), scope: "send".to_owned(), txn_id: "t".to_owned() });
    Batch {
        room: RoomNid(1),
        slot: 5,
        ownership_epoch: 0,
        create: Some(NewRoom {
            room_id: "!r".to_owned(),
            version: "12".to_owned(),
            created_ts: 0,
            alias: Some(NewAlias {
                alias: "#a:b".try_into().unwrap(),
                creator: UserNid(1),
                quota: Quota::NONE,
            }),
            replaces: None,
        }),
        states: vec![state],
        events: vec![event(1, Some(live(1))), second, event(3, None)],
        head: Some(Head {
            room: RoomNid(1),
            last_pos: 0,
            last_timeline_key: 2,
            state: StateNid(1),
            extremities: vec![EventNid(2)],
            depth: 2,
            joined: 2,
            invited: 0,
            notif_seq: 2,
            unthreaded_seq: 2,
            highlight_seq: 0,
        }),
        summary: Some(Summary::default()),
        demands: Vec::new(),
    }
}

async fn put(db: &Database, batch: Batch) -> Result<Vec<Persisted>> {
    let batches = [Arc::new(batch)];
    db.write_in(Lane::Events, move |tx| {
        Box::pin(async move { write(tx, Ownership::default(), &batches).await })
    })
    .await
}

async fn statement(db: &Database, sql: String) {
    db.write(move |tx| Box::pin(async move { execute!(tx, sql::query(sqlx::AssertSqlSafe(sql))) }))
        .await
        .unwrap();
}

/// Counts all rows a batch can write, and the position.
async fn census(db: &Database) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in TABLES {
        let sql = format!("SELECT count(*) FROM {table}");
        let count = read!(db, |c| sql::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(c));
        counts.push(count.unwrap());
    }
    const POS: &str = "SELECT pos FROM stream_positions WHERE stream = 1";
    counts.push(read!(db, |c| sql::query_scalar(POS).fetch_one(c)).unwrap());
    counts
}

async fn a_batch_is_written_whole_or_not_at_all(world: World) {
    let heard = Arc::new(CommitLog::default());
    let db = world.open_with(heard.clone()).await;
    let sqlite = matches!(db.engine, Engine::Sqlite(_));
    if !sqlite {
        const BOOM: &str = "CREATE FUNCTION boom() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN RAISE EXCEPTION ''boom''; END'";
        statement(&db, BOOM.to_owned()).await;
    }
    let empty = census(&db).await;
    for table in TABLES {
        let does = if sqlite {
            "BEGIN SELECT RAISE(ABORT, 'boom'); END"
        } else {
            "EXECUTE FUNCTION boom()"
        };
        statement(&db, format!("CREATE TRIGGER boom BEFORE INSERT ON {table} {does}")).await;
        assert!(matches!(put(&db, batch()).await, Err(StorageError::Failed(_))), "{table}");
        assert_eq!(census(&db).await, empty, "{table}");
        let on = if sqlite { String::new() } else { format!(" ON {table}") };
        statement(&db, format!("DROP TRIGGER boom{on}")).await;
    }
    assert!(heard.0.lock().is_empty(), "nobody hears of what did not happen");

    let persisted = put(&db, batch()).await.unwrap();
    assert_eq!(persisted[0].positions, [(EventNid(1), 1), (EventNid(2), 2)]);
    let full = census(&db).await;
    assert!(full.iter().zip(&empty).all(|(full, empty)| full > empty), "{full:?}");
    let advance = heard.0.lock()[0].clone();
    assert_eq!((advance.prev, advance.upto), (0, 2));
    assert_eq!(advance.touched.len(), 5, "the room and a member, twice, and what was redacted");
    let mut committed = advance.touched.clone();
    committed.sort();
    let read_back = crate::touches::between(&db, Stream::Events, 0, advance.upto, 100).await;
    let mut read_back = read_back.unwrap().unwrap();
    read_back.sort();
    assert_eq!(read_back, committed, "whoever missed the message finds the same in the tables");

    // The same once more is a conflict, and changes nothing.
    assert!(matches!(put(&db, batch()).await, Err(StorageError::Conflict(_))));
    assert_eq!(census(&db).await, full);
    db.close().await;
    let db = world.open_with(heard).await;
    assert_eq!(census(&db).await, full);
    let redacted = crate::rooms::events::get(&db, EventNid(1)).await.unwrap().unwrap();
    assert!(redacted.flags.has(EventFlags::REDACTED));
    assert_eq!((redacted.json, redacted.pos), (b"[]".to_vec(), Some(1)));
}

on_both!(a_batch_is_written_whole_or_not_at_all);

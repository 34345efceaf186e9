//! What a pending room keeps and what it drops, without a database.

use colonnade_model::{
    nid::RoomNid,
    ruma::{RoomVersionId, room_id},
};
use colonnade_storage::{quota::Bound, quota::Quota, rooms::persist::Relation};

use super::*;

const PEOPLE: [i64; 2] = [1, 2];

fn pending() -> PendingRoom {
    let version = RoomVersionId::V11;
    let rules = version.rules().unwrap();
    let room_id = room_id!("!room:localhost").to_owned();
    let room = Arc::new(Room { nid: RoomNid(1), room_id, version, rules });
    let (room_id, version) = ("!room:localhost".to_owned(), "11".to_owned());
    let new = NewRoom { room_id, version, created_ts: 1, alias: None, replaces: None };
    PendingRoom::empty(room, new, true)
}

fn txn(txn_id: &str) -> ClientTxn {
    let (scope, txn_id) = ("send".to_owned(), txn_id.to_owned());
    ClientTxn { device: colonnade_model::nid::DeviceNid(1), scope, txn_id }
}

fn sent(nid: i64) -> Sent {
    Sent { event_id: format!("$event{nid}").try_into().unwrap(), nid: EventNid(nid) }
}

/// A reaction of a user to event 1.
fn reaction(nid: i64, sender: i64, key: &str) -> NewEvent {
    let (rel_type, key) = ("m.annotation".to_owned(), Some(key.to_owned()));
    NewEvent {
        nid: EventNid(nid),
        event_id: format!("$event{nid}"),
        event_type: TypeNid(5),
        sender: UserNid(sender),
        state_key_nid: None,
        depth: 1,
        origin_ts: 1,
        received_ts: 1,
        flags: Default::default(),
        state_before: None,
        state_after: None,
        prevs: Vec::new(),
        missing_prevs: Vec::new(),
        was_outlier: false,
        history_key: None,
        auths: Vec::new(),
        json: "{}".into(),
        txn: None,
        relation: Some(Relation { parent: EventNid(1), rel_type, key }),
        redacts: None,
        redaction: None,
        live: None,
    }
}

#[test]
fn a_request_that_fails_leaves_nothing() {
    let mut pending = pending();
    pending.keep();
    pending.tip.depth = 7;
    pending.tip.extremities.push(EventNid(9));
    pending.tip.summary.name = Some("Hall".to_owned());
    pending.added.txns.insert(txn("a"), sent(9));
    pending.added.events.push(reaction(9, 1, "x"));
    pending.drop_added();
    assert_eq!((pending.tip.depth, pending.tip.extremities.len()), (0, 0));
    assert_eq!(pending.tip.summary.name, None);
    assert_eq!(pending.sent_as(&txn("a")), None);
    assert!(!pending.annotates(EventNid(1), UserNid(1), TypeNid(5), "x"));
}

#[test]
fn a_request_that_succeeds_stays_when_the_next_one_fails() {
    let mut pending = pending();
    pending.tip.depth = 7;
    pending.added.txns.insert(txn("a"), sent(9));
    assert_eq!(pending.sent_as(&txn("a")), Some(sent(9)), "within its own request");
    pending.keep();
    pending.tip.depth = 8;
    pending.added.txns.insert(txn("b"), sent(10));
    pending.drop_added();
    assert_eq!(pending.tip.depth, 7);
    assert_eq!(pending.sent_as(&txn("a")), Some(sent(9)));
    assert_eq!(pending.sent_as(&txn("b")), None);
}

#[test]
fn an_annotation_is_the_same_by_parent_sender_type_and_key() {
    let mut pending = pending();
    pending.added.events.push(reaction(9, 1, "x"));
    for kept in [false, true] {
        if kept {
            pending.keep();
        }
        let annotates = |parent, sender, kind, key| {
            pending.annotates(EventNid(parent), UserNid(sender), TypeNid(kind), key)
        };
        assert!(annotates(1, 1, 5, "x"), "kept: {kept}");
        assert!(!annotates(2, 1, 5, "x"));
        assert!(!annotates(1, 2, 5, "x"));
        assert!(!annotates(1, 1, 6, "x"));
        assert!(!annotates(1, 1, 5, "y"));
    }
}

#[test]
fn what_is_demanded_for_nothing_is_not_demanded_later() {
    let mut pending = pending();
    for user in PEOPLE {
        let items = Bound { setting: "limits.rooms_max", max: 1 };
        let quota = Quota { what: "rooms", items, bytes: Bound::NONE };
        pending.added.demands.push(Demand::Rooms { user: UserNid(user), quota });
    }
    pending.keep();
    assert!(pending.batch().unwrap().is_none(), "nothing is written");
    assert!(pending.kept.demands.is_empty());
}

#[test]
fn a_room_without_a_state_is_not_written() {
    let mut pending = pending();
    pending.added.events.push(reaction(9, 1, "x"));
    pending.keep();
    let error = pending.batch().unwrap_err();
    assert!(matches!(error, Error::Internal { .. }), "{error}");
}

#[test]
fn the_next_event_follows_the_ten_newest_extremities() {
    let mut pending = pending();
    assert_eq!(pending.prevs(), []);
    pending.tip.extremities = [3, 1, 2].map(EventNid).into();
    assert_eq!(pending.prevs(), [1, 2, 3].map(EventNid));
    pending.tip.extremities = (1..=25).rev().map(EventNid).collect();
    assert_eq!(pending.prevs(), (16..=25).map(EventNid).collect::<Vec<_>>());
}

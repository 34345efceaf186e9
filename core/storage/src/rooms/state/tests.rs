//! The store against a map: random changes, read warm, read cold, compared and listed.

use std::collections::BTreeMap;

use colonnade_model::{Random as _, SeededRandom};

use super::*;
use crate::database::sql;
use crate::database::testing::World;

type Map = BTreeMap<(bool, i64), i64>;

const ROOM: RoomNid = RoomNid(1);

fn below(random: &SeededRandom, bound: u32) -> i64 {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    i64::from(u32::from_le_bytes(bytes) % bound)
}

async fn keep(db: &Database, new: &NewState) {
    let new = new.clone();
    db.write(move |tx| Box::pin(async move { insert(tx, ROOM, &new).await })).await.unwrap();
}

async fn listed(states: &States, nid: StateNid) -> Map {
    let mut map = Map::new();
    for (part, member) in [(Part::Core, false), (Part::Member, true)] {
        for entry in states.list(nid, part).await.unwrap() {
            map.insert((member, entry.state_key_nid.0), entry.event.0);
        }
    }
    map
}

fn change(map: &mut Map, random: &SeededRandom, event: i64) -> StateChange {
    let mut edits = StateChange::default();
    for n in 0..=below(random, 3) {
        let member = below(random, 4) > 0;
        let state_key_nid = below(random, 400);
        let to = (below(random, 8) > 0).then_some(event + n);
        match to {
            Some(to) => map.insert((member, state_key_nid), to),
            None => map.remove(&(member, state_key_nid)),
        };
        let edit = (StateKeyNid(state_key_nid), to.map(EventNid));
        if member { edits.member.push(edit) } else { edits.core.push(edit) }
    }
    edits
}

async fn a_store_is_a_map(world: World) {
    for seed in 0..4 {
        let random = SeededRandom::new(seed);
        let another = world.another();
        let db = another.open().await;
        let states = States::new(db.clone(), [3; 32]);
        let mut history: Vec<(StateNid, Map)> = Vec::new();
        for n in 1..120i64 {
            let before = match below(&random, 6) {
                0 => history.get(below(&random, 200) as usize).cloned(),
                _ => history.last().cloned(),
            };
            let (before, mut map) =
                before.map_or((None, Map::new()), |(nid, map)| (Some(nid), map));
            let edits = change(&mut map, &random, n * 10);
            let own = StateNid(n);
            let new = states.change(before, &edits, own, &Pending::default()).await.unwrap();
            if new.deltas.is_empty() {
                continue;
            }
            keep(&db, &new).await;
            states.committed([&new]);
            assert_eq!((new.state.core_len + new.state.member_len) as usize, map.len());
            assert!(states.find_equal(ROOM, &new.state).await.unwrap().is_some());
            history.push((own, map));
        }
        let cold = States::new(db.clone(), [3; 32]);
        for (nid, map) in &history {
            assert_eq!(listed(&cold, *nid).await, *map, "seed {seed}");
        }
        for _ in 0..40 {
            let (one, before) = &history[below(&random, history.len() as u32) as usize];
            let (two, after) = &history[below(&random, history.len() as u32) as usize];
            let fresh = States::new(db.clone(), [3; 32]);
            let mut seen = 0;
            for (part, member) in [(Part::Core, false), (Part::Member, true)] {
                for delta in fresh.diff(*one, *two, part).await.unwrap() {
                    let key = (member, delta.state_key_nid.0);
                    assert_eq!(delta.before.map(|event| event.0), before.get(&key).copied());
                    assert_eq!(delta.after.map(|event| event.0), after.get(&key).copied());
                    seen += 1;
                }
            }
            let keys = before.keys().chain(after.keys());
            let mut keys: Vec<_> = keys.filter(|key| before.get(key) != after.get(key)).collect();
            keys.sort();
            keys.dedup();
            assert_eq!(seen, keys.len(), "seed {seed}");
            let state_key_nids: Vec<_> = (0..400).map(StateKeyNid).collect();
            let found = fresh.lookup_many(*one, Part::Member, &state_key_nids).await.unwrap();
            for (state_key_nid, event) in state_key_nids.iter().zip(found) {
                assert_eq!(
                    event.map(|event| event.0),
                    before.get(&(true, state_key_nid.0)).copied()
                );
            }
        }
        db.close().await;
    }
}

async fn damaged_rows_are_named(world: World) {
    let db = world.open().await;
    db.write(|tx| {
        Box::pin(async move {
            const BAD: &str = "INSERT INTO room_states (state_nid, room_nid, digest, roots, nodes) \
                 VALUES ($1, 1, $2, $3, $4)";
            let roots = crate::rooms::varints::encode([0, 1, 7, 0, 0, 1]);
            for (nid, nodes) in [(7i64, vec![9u8]), (8, vec![])] {
                execute!(
                    tx,
                    sql::query(BAD).bind(nid).bind(vec![0u8; 16]).bind(roots.clone()).bind(nodes)
                )?;
            }
            execute!(tx, sql::query(BAD).bind(9i64).bind(vec![0u8]).bind(vec![2u8]).bind(vec![0u8]))
        })
    })
    .await
    .unwrap();
    let states = States::new(db.clone(), [3; 32]);
    for nid in [7, 8, 9, 10] {
        let found = states.lookup(StateNid(nid), Part::Member, StateKeyNid(1)).await;
        assert!(matches!(found, Err(StorageError::Corrupt { table: "room_states", .. })), "{nid}");
    }
}

/// A change of a state of 10,000 members costs one row of at most 600 bytes with its index entries.
async fn a_change_in_a_large_room_is_small(world: World) {
    const CHANGES: i64 = 200;
    const BYTES_MAX: i64 = 600;
    let db = world.open().await;
    let states = States::new(db.clone(), [3; 32]);
    let core = (1..30).map(|n| Entry { state_key_nid: StateKeyNid(n), event: EventNid(n) });
    let member = (100..10_100).map(|n| Entry { state_key_nid: StateKeyNid(n), event: EventNid(n) });
    let mut nids = (1..).map(StateNid);
    let built = states.build(core, member, &mut || nids.next().unwrap()).unwrap();
    keep(&db, &built).await;
    states.committed([&built]);
    let count = async || -> (i64, i64) {
        const COUNT: &str = "SELECT count(*), CAST(sum(length(digest) * 2 + length(roots) \
             + length(nodes) + 30) AS BIGINT) FROM room_states";
        read!(db, |c| sql::query_as(COUNT).fetch_one(c)).unwrap()
    };
    let (rows, bytes) = count().await;
    let random = SeededRandom::new(7);
    let mut at = built.nid;
    for n in 0..CHANGES {
        let member = (StateKeyNid(100 + below(&random, 10_000)), Some(EventNid(20_000 + n)));
        let change = StateChange { core: vec![], member: vec![member] };
        let own = StateNid(at.0 + 1);
        let new = states.change(Some(at), &change, own, &Pending::default()).await.unwrap();
        keep(&db, &new).await;
        states.committed([&new]);
        at = own;
    }
    let (rows_after, bytes_after) = count().await;
    assert_eq!(rows_after - rows, CHANGES);
    let each = (bytes_after - bytes) / CHANGES;
    assert!(each <= BYTES_MAX, "{each} bytes");
}

on_both!(a_store_is_a_map, damaged_rows_are_named, a_change_in_a_large_room_is_small,);

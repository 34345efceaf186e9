//! Several processes on one PostgreSQL: the same name gets one id, ids are given out once, and
//! transactions that lock each other out both happen in the end.

use std::{collections::BTreeSet, time::Duration};

use colonnade_model::{nid::EventNid, ruma::UserId};

use super::{testing, *};
use crate::{
    database::sql,
    rooms::{interned::Interned, nids::AllNids},
};

const PROCESSES: usize = 4;

async fn processes() -> Vec<Database> {
    let world = testing::postgres();
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        processes.push(world.open().await);
    }
    processes
}

#[tokio::test]
async fn a_name_has_one_id_in_all_processes() {
    const NAMES: usize = 60;
    let processes = processes().await;
    let mut tasks = tokio::task::JoinSet::new();
    for (n, db) in processes.iter().enumerate() {
        let interned = Interned::new(db.clone());
        tasks.spawn(async move {
            let mut ids = Vec::new();
            for name in 0..NAMES {
                // Each in another direction, so that they meet.
                let name = if n % 2 == 0 { name } else { NAMES - 1 - name };
                let user = UserId::parse(format!("@u{name}:localhost")).unwrap();
                let user = interned.user(&user).await.unwrap();
                let state_key_nid =
                    interned.state_key_nid("m.room.member", &format!("@u{name}")).await.unwrap();
                let kind = interned.event_type(&format!("t{}", name % 7)).await.unwrap();
                ids.push((name, user, state_key_nid, kind));
            }
            ids.sort_unstable();
            ids
        });
    }
    let all = tasks.join_all().await;
    assert!(all.iter().all(|ids| *ids == all[0]), "{all:?}");
    let distinct: BTreeSet<_> = all[0].iter().map(|(_, user, ..)| *user).collect();
    assert_eq!(distinct.len(), NAMES);
}

#[tokio::test]
async fn blocks_of_ids_are_of_one_process() {
    const TAKEN: usize = 130;
    const COUNT: usize = 70;
    let processes = processes().await;
    let mut tasks = tokio::task::JoinSet::new();
    for db in processes {
        tasks.spawn(async move {
            let nids = AllNids::default();
            let mut taken = Vec::new();
            for _ in 0..TAKEN {
                let EventNid(first) = nids.events(&db, COUNT, EventNid(0)).await.unwrap();
                assert!(taken.last().is_none_or(|last| *last < first), "ids of a process grow");
                taken.extend(first..first + COUNT as i64);
            }
            taken
        });
    }
    let all: Vec<i64> = tasks.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<i64> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (PROCESSES * TAKEN * COUNT, all.len()));
}

#[tokio::test]
async fn ids_grow_along_a_room_that_changes_hands() {
    let processes = processes().await;
    let (one, two) = (AllNids::default(), AllNids::default());
    let none = EventNid(0);
    let first = one.events(&processes[0], 1, none).await.unwrap();
    let later = two.events(&processes[1], 1, first).await.unwrap();
    assert!(one.events(&processes[0], 1, none).await.unwrap() < later, "from the block at hand");
    let last = one.events(&processes[0], 1, later).await.unwrap();
    assert!(last > later);
    assert!(two.events(&processes[1], 1, last).await.unwrap() > last);
}

#[tokio::test]
async fn transactions_that_lock_each_other_out_both_happen() {
    let processes = processes().await;
    for key in ["a", "b"] {
        crate::database::settings::get_or_insert(&processes[0], key, vec![0]).await.unwrap();
    }
    let add = |db: Database, first: &'static str, second: &'static str| async move {
        // The lane of events has no turn before its seal, so these run at the same time.
        db.write_in(Lane::Events, move |tx| {
            Box::pin(async move {
                const ADD: &str = "UPDATE settings SET value = value || $2 WHERE key = $1";
                execute!(tx, sql::query(ADD).bind(first).bind(vec![1u8]))?;
                tokio::time::sleep(Duration::from_millis(100)).await;
                execute!(tx, sql::query(ADD).bind(second).bind(vec![1u8]))
            })
        })
        .await
    };
    let one = add(processes[0].clone(), "a", "b");
    let two = add(processes[1].clone(), "b", "a");
    let (one, two) = tokio::join!(one, two);
    assert_eq!((one.unwrap(), two.unwrap()), (1, 1));
    for key in ["a", "b"] {
        let value = crate::database::settings::get(&processes[2], key).await.unwrap();
        assert_eq!(value, Some(vec![0, 1, 1]), "each happened once");
    }
}

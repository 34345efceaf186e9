//! Which member takes a request.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::routes::KeyKind;

fn config(balance: Balance, workers: u16, bounded_load: Option<f64>) -> PoolConfig {
    PoolConfig {
        name: "p".to_owned(),
        balance,
        workers: (0..workers)
            .map(|n| (format!("127.0.0.1:{}", 9000 + n).parse().unwrap(), 1))
            .collect(),
        bounded_load,
    }
}

fn pool(balance: Balance, workers: u16) -> Pool {
    Pool::new(&config(balance, workers, None), None)
}

#[test]
fn single_takes_the_first_and_then_the_next() {
    let pool = pool(Balance::Single, 3);
    assert_eq!(pool.choose(None, &[]), Some(0));
    assert_eq!(pool.choose(None, &[0]), Some(1));
    assert_eq!(pool.choose(None, &[0, 1, 2]), None);
}

#[test]
fn round_robin_goes_round() {
    let pool = pool(Balance::RoundRobin, 3);
    let chosen: Vec<_> = (0..6).map(|_| pool.choose(None, &[]).unwrap()).collect();
    assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
    assert!((0..20).all(|_| pool.choose(None, &[1]) != Some(1)));
}

#[test]
fn least_conn_counts_work_relative_to_weight_and_no_parked_polls() {
    let mut config = config(Balance::LeastConn, 2, None);
    config.workers[1].1 = 2;
    let pool = Pool::new(&config, None);
    let _parked: Vec<_> = (0..50).map(|_| pool.take(0, true).unwrap()).collect();
    let _work = pool.take(1, false).unwrap();
    assert_eq!(pool.choose(None, &[]), Some(0));
    let _one = pool.take(0, false).unwrap();
    // One of weight 1 against one of weight 2.
    assert_eq!(pool.choose(None, &[]), Some(1));
    assert_eq!((pool.members[0].parked(), pool.members[0].working()), (50, 1));
}

#[test]
fn a_poll_that_answers_becomes_work_and_ends_as_nothing() {
    let pool = pool(Balance::LeastConn, 1);
    let mut poll = pool.take(0, true).unwrap();
    poll.unpark();
    poll.unpark();
    assert_eq!((pool.members[0].parked(), pool.members[0].working()), (0, 1));
    drop(poll);
    assert_eq!((pool.members[0].parked(), pool.members[0].working()), (0, 0));
}

#[test]
fn keys_stay_with_their_member_and_spill_only_above_the_bound() {
    let hash = Balance::Hash(KeyKind::Room);
    let pool = Pool::new(&config(hash, 4, Some(1.25)), None);
    let home = pool.choose(Some(b"!hot:h"), &[]).unwrap();
    // A quiet pool never spills, whatever the shares are.
    let mut work: Vec<_> = (0..BOUND_FLOOR - 1).map(|_| pool.take(home, false).unwrap()).collect();
    assert_eq!(pool.choose(Some(b"!hot:h"), &[]), Some(home));
    work.push(pool.take(home, false).unwrap());
    let spilled = pool.choose(Some(b"!hot:h"), &[]).unwrap();
    assert_ne!(spilled, home);
    // Once the others work as much, the share is fair and the key is home again.
    let _others: Vec<_> = (0..4u64 * BOUND_FLOOR)
        .filter_map(|n| {
            let place = n as usize % 4;
            (place != home).then(|| pool.take(place, false).unwrap())
        })
        .collect();
    assert_eq!(pool.choose(Some(b"!hot:h"), &[]), Some(home));
    drop(work);
}

#[test]
fn a_tried_member_gives_its_keys_to_the_next_on_the_ring() {
    let pool = pool(Balance::Hash(KeyKind::User), 5);
    for n in 0..50 {
        let key = format!("@u{n}:h");
        let first = pool.choose(Some(key.as_bytes()), &[]).unwrap();
        let second = pool.choose(Some(key.as_bytes()), &[first]).unwrap();
        assert_ne!(first, second);
        assert_eq!(pool.choose(Some(key.as_bytes()), &[first]), Some(second));
    }
    assert_eq!(pool.choose(Some(b"k"), &[0, 1, 2, 3, 4]), None);
}

#[test]
fn empty_pools_have_nobody() {
    for balance in
        [Balance::Single, Balance::RoundRobin, Balance::LeastConn, Balance::Hash(KeyKind::Room)]
    {
        assert_eq!(pool(balance, 0).choose(Some(b"k"), &[]), None);
        assert_eq!(pool(balance, 0).choose(None, &[]), None);
        assert_eq!(pool(balance, 1).choose(Some(b"k"), &[0]), None);
    }
}

#[test]
fn members_that_stay_keep_their_counters() {
    let before = pool(Balance::LeastConn, 2);
    let _work = before.take(1, false).unwrap();
    let after = Pool::new(&config(Balance::LeastConn, 3, None), Some(&before));
    assert!(Arc::ptr_eq(&before.members[1], &after.members[1]));
    assert_eq!(after.members[1].working(), 1);
}

//! Which member takes a request.

use super::*;
use crate::routing::routes::KeyKind;

fn config(balance: Balance, workers: u16, bounded_load: Option<f64>) -> PoolConfig {
    PoolConfig {
        name: "p".to_owned(),
        balance,
        workers: (0..workers)
            .map(|n| (format!("127.0.0.1:{}", 9000 + n).parse().unwrap(), 1))
            .collect(),
        discover: false,
        leaving: Vec::new(),
        owners: Vec::new(),
        bounded_load,
        health: None,
        eject_after: 3,
        slow_start: std::time::Duration::from_secs(10),
        fallback: None,
    }
}

/// Takes this very member.
fn take(pool: &Pool, place: usize, long_poll: bool) -> InFlight {
    pool.take_named(&pool.members[place].name, long_poll).unwrap().1
}

fn pool(balance: Balance, workers: u16) -> Pool {
    Pool::new(&config(balance, workers, None), None, 0)
}

#[test]
fn single_takes_the_first_and_then_the_next() {
    let pool = pool(Balance::Single, 3);
    assert_eq!(pool.choose(None, &[], 0), Some(0));
    assert_eq!(pool.choose(None, &[0], 0), Some(1));
    assert_eq!(pool.choose(None, &[0, 1, 2], 0), None);
}

#[test]
fn round_robin_goes_round() {
    let pool = pool(Balance::RoundRobin, 3);
    let chosen: Vec<_> = (0..6).map(|_| pool.choose(None, &[], 0).unwrap()).collect();
    assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
    assert!((0..20).all(|_| pool.choose(None, &[1], 0) != Some(1)));
}

#[test]
fn least_conn_counts_work_relative_to_weight_and_no_long_polls() {
    let mut config = config(Balance::LeastConn, 2, None);
    config.workers[1].1 = 2;
    let pool = Pool::new(&config, None, 0);
    let _waiting: Vec<_> = (0..50).map(|_| take(&pool, 0, true)).collect();
    let _work = take(&pool, 1, false);
    assert_eq!(pool.choose(None, &[], 0), Some(0));
    let _one = take(&pool, 0, false);
    // One of weight 1 against one of weight 2.
    assert_eq!(pool.choose(None, &[], 0), Some(1));
    assert_eq!((pool.members[0].long_polling(), pool.members[0].working()), (50, 1));
}

#[test]
fn a_poll_that_answers_becomes_work_and_ends_as_nothing() {
    let pool = pool(Balance::LeastConn, 1);
    let mut poll = take(&pool, 0, true);
    poll.unpark();
    poll.unpark();
    assert_eq!((pool.members[0].long_polling(), pool.members[0].working()), (0, 1));
    drop(poll);
    assert_eq!((pool.members[0].long_polling(), pool.members[0].working()), (0, 0));
}

#[test]
fn keys_stay_with_their_member_and_spill_only_above_the_bound() {
    let hash = Balance::Hash(KeyKind::Room);
    let pool = Pool::new(&config(hash, 4, Some(1.25)), None, 0);
    let home = pool.choose(Some(b"!hot:h"), &[], 0).unwrap();
    // A quiet pool never spills, whatever the shares are.
    let mut work: Vec<_> = (0..BOUND_FLOOR - 1).map(|_| take(&pool, home, false)).collect();
    assert_eq!(pool.choose(Some(b"!hot:h"), &[], 0), Some(home));
    work.push(take(&pool, home, false));
    let spilled = pool.choose(Some(b"!hot:h"), &[], 0).unwrap();
    assert_ne!(spilled, home);
    // Once the others work as much, the share is fair and the key is home again.
    let _others: Vec<_> = (0..4u64 * BOUND_FLOOR)
        .filter_map(|n| {
            let place = n as usize % 4;
            (place != home).then(|| take(&pool, place, false))
        })
        .collect();
    assert_eq!(pool.choose(Some(b"!hot:h"), &[], 0), Some(home));
    drop(work);
}

#[test]
fn a_tried_member_gives_its_keys_to_the_next_on_the_ring() {
    let pool = pool(Balance::Hash(KeyKind::User), 5);
    for n in 0..50 {
        let key = format!("@u{n}:h");
        let first = pool.choose(Some(key.as_bytes()), &[], 0).unwrap();
        let second = pool.choose(Some(key.as_bytes()), &[first], 0).unwrap();
        assert_ne!(first, second);
        assert_eq!(pool.choose(Some(key.as_bytes()), &[first], 0), Some(second));
    }
    assert_eq!(pool.choose(Some(b"k"), &[0, 1, 2, 3, 4], 0), None);
}

#[test]
fn empty_pools_have_nobody() {
    for balance in
        [Balance::Single, Balance::RoundRobin, Balance::LeastConn, Balance::Hash(KeyKind::Room)]
    {
        assert_eq!(pool(balance, 0).choose(Some(b"k"), &[], 0), None);
        assert_eq!(pool(balance, 0).choose(None, &[], 0), None);
        assert_eq!(pool(balance, 1).choose(Some(b"k"), &[0], 0), None);
    }
}

#[test]
fn members_that_stay_keep_their_counters() {
    let before = pool(Balance::LeastConn, 2);
    let _work = take(&before, 1, false);
    let after = Pool::new(&config(Balance::LeastConn, 3, None), Some(&before), 0);
    assert!(Arc::ptr_eq(&before.members[1], &after.members[1]));
    assert_eq!(after.members[1].working(), 1);
}

#[test]
fn closed_members_get_nothing_and_their_keys_come_back() {
    let hash = Balance::Hash(KeyKind::Room);
    let pool =
        Pool::new(&PoolConfig { slow_start: Default::default(), ..config(hash, 3, None) }, None, 0);
    let home = pool.choose(Some(b"!r:h"), &[], 5).unwrap();
    let (place, attempt) = pool.take(Some(b"!r:h"), &[], false, 5).unwrap();
    assert_eq!(place, home);
    attempt.ended(&pool, Some(HealthSign::Dead), 5);
    assert_ne!(pool.choose(Some(b"!r:h"), &[], 6), Some(home));
    assert_eq!(pool.choose(Some(b"!r:h"), &[], 10_000), Some(home));
    // Only one request probes; the next goes elsewhere meanwhile.
    let (probed, probe) = pool.take(Some(b"!r:h"), &[], false, 10_000).unwrap();
    assert_eq!(probed, home);
    assert_ne!(pool.take(Some(b"!r:h"), &[], false, 10_000).unwrap().0, home);
    probe.ended(&pool, Some(HealthSign::Good), 10_001);
    assert_eq!(pool.choose(Some(b"!r:h"), &[], 10_002), Some(home));
    for member in &pool.members {
        member.health.drain(true, 10_003);
    }
    assert!(!pool.is_open(10_004));
    assert!(pool.take(Some(b"!r:h"), &[], false, 10_004).is_none());
}

#[test]
fn a_member_that_comes_back_gets_its_share_bit_by_bit() {
    let share_of = |balance: Balance, now_ms: u64| {
        let pool = Pool::new(&config(balance, 2, None), None, 0);
        pool.members[0].health.drain(true, 1);
        pool.members[0].health.drain(false, 1_000);
        let keyed = matches!(balance, Balance::Hash(_));
        let mut work = Vec::new();
        for n in 0..1_000 {
            let key = format!("!{n}:h");
            let key = keyed.then_some(key.as_bytes());
            work.push(pool.take(key, &[], false, now_ms).unwrap().1);
        }
        work.iter().filter(|w| Arc::ptr_eq(w.member(), &pool.members[0])).count()
    };
    for balance in [Balance::RoundRobin, Balance::LeastConn, Balance::Hash(KeyKind::Room)] {
        let (early, half, late) =
            (share_of(balance, 1_001), share_of(balance, 6_000), share_of(balance, 20_000));
        assert!(early < 150, "{balance:?} {early}");
        assert!((200..420).contains(&half), "{balance:?} {half}");
        assert!((400..600).contains(&late), "{balance:?} {late}");
    }
}

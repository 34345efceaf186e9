//! The life of a worker as its health sees it.

use super::*;

const AFTER: u32 = 3;

#[test]
fn bad_signs_in_a_row_eject_and_a_good_one_starts_over() {
    let health = Health::default();
    assert!(!health.learn(HealthSign::Bad, AFTER, 1));
    assert!(!health.learn(HealthSign::Bad, AFTER, 2));
    assert!(!health.learn(HealthSign::Good, AFTER, 3));
    assert!(!health.learn(HealthSign::Bad, AFTER, 4));
    assert!(!health.learn(HealthSign::Bad, AFTER, 5));
    assert_eq!(health.state(6), State::Open);
    assert!(health.learn(HealthSign::Bad, AFTER, 6));
    assert_eq!(health.state(6), State::Ejected);
    assert_eq!(health.state(6 + EJECT_MS_MIN), State::Open);
}

#[test]
fn a_dead_worker_is_ejected_at_once_and_never_where_that_is_off() {
    let health = Health::default();
    assert!(!health.learn(HealthSign::Dead, 0, 1));
    assert_eq!(health.state(1), State::Open);
    assert!(health.learn(HealthSign::Dead, AFTER, 1));
    assert_eq!(health.state(2), State::Ejected);
}

#[test]
fn one_probe_goes_through_and_decides() {
    let health = Health::default();
    health.learn(HealthSign::Dead, AFTER, 1);
    let over = 1 + EJECT_MS_MIN;
    assert!(!health.admit(over - 1));
    assert!(health.admit(over));
    assert!(!health.admit(over + 1));
    assert_eq!(health.state(over + 1), State::Ejected);
    // It fails: ejected for twice as long.
    assert!(!health.learn(HealthSign::Dead, AFTER, over));
    assert!(!health.admit(over + 2 * EJECT_MS_MIN - 1));
    assert!(health.admit(over + 2 * EJECT_MS_MIN));
    // It succeeds: open for all.
    assert!(health.learn(HealthSign::Good, AFTER, over + 2 * EJECT_MS_MIN + 5));
    assert!(health.admit(over + 2 * EJECT_MS_MIN + 5));
    assert!(health.admit(over + 2 * EJECT_MS_MIN + 5));
}

#[test]
fn ejections_grow_but_not_beyond_the_last() {
    let health = Health::default();
    let mut now = 1;
    for _ in 0..30 {
        health.learn(HealthSign::Dead, AFTER, now);
        now += EJECT_MS_MAX;
        assert!(health.admit(now));
    }
    assert_eq!(health.ejections(), 30);
}

#[test]
fn a_probe_that_tells_nothing_leaves_room_for_the_next() {
    let health = Health::default();
    health.learn(HealthSign::Dead, AFTER, 1);
    assert!(health.admit(EJECT_MS_MIN + 1));
    health.abandon_probe(EJECT_MS_MIN + 2);
    assert!(health.admit(EJECT_MS_MIN + 2));
    // And one that is never given back is given up for lost.
    assert!(health.admit(EJECT_MS_MIN + 2 + PROBE_MS_MAX));
}

#[test]
fn checks_close_and_open_after_their_counts() {
    let health = Health::default();
    assert!(!health.checked(false, 2, 2, 1));
    assert!(health.checked(false, 2, 2, 2));
    assert_eq!(health.state(2), State::Down);
    assert!(!health.checked(true, 2, 2, 3));
    assert!(!health.checked(false, 2, 2, 4));
    assert!(!health.checked(true, 2, 2, 5));
    assert!(health.checked(true, 2, 2, 6));
    assert_eq!(health.state(6), State::Open);
}

#[test]
fn checks_are_due_at_their_interval_and_one_at_a_time() {
    let health = Health::default();
    assert!(health.check_begins(1_000, 5));
    assert!(!health.check_begins(1_000, 2_000));
    health.check_ends();
    assert!(!health.check_begins(1_000, 900));
    assert!(health.check_begins(1_000, 1_005));
}

#[test]
fn draining_closes_and_what_comes_back_begins_slowly() {
    let health = Health::default();
    assert_eq!(health.share_percent(10_000, 5), 100);
    health.drain(true, 10);
    assert_eq!(health.state(10), State::Draining);
    health.drain(false, 1_000);
    assert_eq!(health.state(1_000), State::Open);
    assert_eq!(health.share_percent(10_000, 1_000), RAMP_PERCENT_MIN);
    assert_eq!(health.share_percent(10_000, 6_000), 50);
    assert_eq!(health.share_percent(10_000, 11_000), 100);
    assert_eq!(health.share_percent(0, 1_000), 100);
}

#[test]
fn requests_that_go_well_do_not_undo_checks_that_fail() {
    let health = Health::default();
    for now_ms in 1..=3 {
        assert!(!health.learn(HealthSign::Bad, 5, now_ms));
        assert!(!health.learn(HealthSign::Good, 5, now_ms));
        assert_eq!(health.checked(false, 3, 1, now_ms), now_ms == 3);
    }
    assert_eq!(health.state(3), State::Down);
    // Nor does a probe that goes well after an ejection.
    let health = Health::default();
    assert!(!health.checked(false, 2, 1, 0));
    assert!(health.learn(HealthSign::Dead, 5, 1));
    assert!(health.admit(1_000) && health.learn(HealthSign::Good, 5, 1_000));
    assert!(health.checked(false, 2, 1, 1_001));
}

//! What is said of one user, by the clock.

use super::*;

fn known() -> UserPresence {
    UserPresence {
        state: PresenceState::Online,
        status_msg: None,
        last_active_ms: 1_000_000,
        gone_ms: 1_030_000,
        pos: 0,
        is_announced: true,
        rooms: [RoomNid(1), RoomNid(2)].into(),
        announced_ms: 1_030_000,
        is_remote: false,
        own_pos: 0,
    }
}

#[test]
fn a_user_is_active_for_a_minute_after_the_last_action() {
    for (state, after_ms, active) in [
        (PresenceState::Online, 0, true),
        (PresenceState::Online, ACTIVE_MS - 1, true),
        (PresenceState::Online, ACTIVE_MS, false),
        (PresenceState::Unavailable, 0, false),
        (PresenceState::Offline, 0, false),
    ] {
        let content = UserPresence { state, ..known() }.content(1_000_000 + after_ms);
        assert_eq!(content["currently_active"], active, "{content}");
        assert_eq!(content["last_active_ago"], after_ms, "{content}");
        assert!(content.get("status_msg").is_none());
    }
}

#[test]
fn nobody_was_active_in_the_future() {
    let content = known().content(500_000);
    assert_eq!(
        (&content["last_active_ago"], &content["currently_active"]),
        (&json!(0), &json!(true))
    );
    let said = UserPresence { status_msg: Some("out".to_owned()), ..known() }.content(500_000);
    assert_eq!(said["status_msg"], "out");
}

#[test]
fn a_clock_that_was_set_back_keeps_nobody_online() {
    let mut far = UserPresence { gone_ms: i64::MAX, announced_ms: i64::MAX, ..known() };
    far.bound(2_000);
    let latest = 2_000 + WAIT_MS_MAX + GRACE_MS;
    assert_eq!((far.gone_ms, far.announced_ms, far.last_active_ms), (latest, latest, 2_000));
    let mut near = known();
    near.bound(1_010_000);
    assert_eq!((near.gone_ms, near.last_active_ms), (1_030_000, 1_000_000), "nothing to take back");
}

#[test]
fn presence_is_for_those_who_share_a_room() {
    let rooms = |nids: &[i64]| nids.iter().map(|nid| RoomNid(*nid)).collect::<HashSet<_>>();
    assert!(known().is_in_any(&rooms(&[7, 2])));
    assert!(!known().is_in_any(&rooms(&[7])));
    assert!(!known().is_in_any(&rooms(&[])));
}

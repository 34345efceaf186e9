//! Heroes and names.

use colonnade_model::ruma::{UserId, user_id};

use super::{Candidate, HEROES_MAX, Naming, display_name, heroes};

fn candidate(name: &str, membership: &str, position: i64) -> Candidate {
    let user = UserId::parse(format!("@{name}:one.example")).unwrap();
    Candidate { user, membership: membership.into(), position }
}

fn picked(members: Vec<Candidate>) -> Vec<String> {
    let viewer = user_id!("@me:one.example");
    heroes(viewer, members).iter().map(|user| user.localpart().to_owned()).collect()
}

#[test]
fn heroes_are_the_first_who_are_there() {
    let members = vec![
        candidate("me", "join", 1),
        candidate("d", "join", 9),
        candidate("gone", "leave", 2),
        candidate("a", "invite", 3),
        candidate("k", "knock", 1),
    ];
    assert_eq!(picked(members), ["a", "d"]);
    let crowd = (0..20).map(|i| candidate(&format!("u{i}"), "join", 100 - i)).collect();
    let first = picked(crowd);
    assert_eq!(first.len(), HEROES_MAX);
    assert_eq!(first[0], "u19");
}

#[test]
fn those_who_left_stand_in_for_nobody() {
    let left =
        vec![candidate("b", "ban", 5), candidate("a", "leave", 6), candidate("me", "join", 1)];
    assert_eq!(picked(left), ["b", "a"]);
    assert!(picked(vec![candidate("me", "join", 1)]).is_empty());
}

#[test]
fn a_room_has_a_name() {
    let heroes: Vec<String> = ["Bob", "alice"].map(str::to_owned).into();
    let of = |name, alias, heroes: &[String], members| {
        display_name(&Naming { name, alias, heroes, members })
    };
    assert_eq!(of(Some("The room"), Some("#a:b"), &heroes, 3), "The room");
    assert_eq!(of(Some(" "), Some("#a:b"), &heroes, 3), "#a:b");
    assert_eq!(of(None, None, &heroes, 3), "alice and Bob");
    assert_eq!(of(None, None, &heroes[..1], 2), "Bob");
    assert_eq!(of(None, None, &heroes, 7), "alice, Bob and 4 others");
    assert_eq!(of(None, None, &heroes, 1), "Empty Room (was alice and Bob)");
    assert_eq!(of(None, None, &[], 1), "Empty Room");
}

//! The table of the specification.

use colonnade_model::ruma::{RoomVersionId, events::room::member::MembershipState};
use proptest::prelude::*;
use serde_json::json;

use super::{Around, Sight, Since, Visibility, may_see, may_see_state, retain_visible, stretches};
use crate::sample::Room;

fn sight(visibility: Visibility, membership: Option<&str>, joined_later: bool) -> Sight {
    let membership = membership.map(MembershipState::from);
    Sight {
        visibility: Around::same(visibility),
        membership: Around::same(membership),
        joined_later,
    }
}

#[test]
fn the_table_of_the_specification() {
    use Visibility::{Invited, Joined, Shared, WorldReadable};
    // visibility, membership at the event, joined later, may see
    let table = [
        (WorldReadable, None, false, true),
        (WorldReadable, Some("ban"), false, true),
        (Shared, None, false, false),
        (Shared, None, true, true),
        (Shared, Some("leave"), false, false),
        (Shared, Some("leave"), true, true),
        (Shared, Some("invite"), false, false),
        (Shared, Some("join"), false, true),
        (Invited, None, true, false),
        (Invited, Some("invite"), false, true),
        (Invited, Some("knock"), true, false),
        (Invited, Some("join"), false, true),
        (Joined, None, true, false),
        (Joined, Some("invite"), true, false),
        (Joined, Some("join"), false, true),
        (Joined, Some("ban"), true, false),
    ];
    for (visibility, membership, joined_later, expected) in table {
        let sight = sight(visibility, membership, joined_later);
        assert_eq!(may_see(&sight), expected, "{sight:?}");
    }
}

#[test]
fn one_sees_ones_own_coming_and_going() {
    let mut own = sight(Visibility::Joined, Some("leave"), false);
    own.membership.after = Some(MembershipState::Join);
    assert!(may_see(&own));
    own.membership.before = Some(MembershipState::Join);
    own.membership.after = Some(MembershipState::Ban);
    assert!(may_see(&own));
    own.membership.before = Some(MembershipState::Leave);
    assert!(!may_see(&own));
}

#[test]
fn one_sees_the_door_open_and_close() {
    let mut change = sight(Visibility::WorldReadable, None, false);
    change.visibility.after = Visibility::Joined;
    assert!(may_see(&change));
    change.visibility = Around { before: Visibility::Joined, after: Visibility::WorldReadable };
    assert!(may_see(&change));
}

#[test]
fn what_is_not_understood_is_shared() {
    let (mut room, state) = Room::new(RoomVersionId::V11);
    let mut of = |content| {
        let kind = "m.room.history_visibility";
        Visibility::of(Some(&room.make(&state, 9, "alice", kind, Some(""), content)))
    };
    assert_eq!(of(json!({ "history_visibility": "world_readable" })), Visibility::WorldReadable);
    assert_eq!(of(json!({ "history_visibility": "invited" })), Visibility::Invited);
    assert_eq!(of(json!({ "history_visibility": "joined" })), Visibility::Joined);
    assert_eq!(of(json!({ "history_visibility": "shared" })), Visibility::Shared);
    assert_eq!(of(json!({ "history_visibility": "secret" })), Visibility::Shared);
    assert_eq!(of(json!({ "history_visibility": 1 })), Visibility::Shared);
    assert_eq!(of(json!({})), Visibility::Shared);
    assert_eq!(Visibility::of(None), Visibility::Shared);
}

#[test]
fn a_page_keeps_its_order() {
    let mut page = vec![(1, "join"), (2, "leave"), (3, "join")];
    retain_visible(&mut page, |(_, was)| sight(Visibility::Joined, Some(was), true));
    assert_eq!(page, [(1, "join"), (3, "join")]);
}

#[test]
fn an_invite_shows_what_is_said_and_not_who_is_there() {
    let mut invited = sight(Visibility::Invited, Some("invite"), false);
    assert!(may_see(&invited) && !may_see_state(&invited));
    invited.joined_later = true;
    assert!(may_see_state(&invited));
    assert!(may_see_state(&sight(Visibility::WorldReadable, Some("ban"), false)));
    assert!(!may_see_state(&sight(Visibility::Joined, Some("leave"), true)));
}

/// What an event changes.
#[derive(Debug, Clone)]
enum Change {
    Nothing,
    Visibility(Visibility),
    Membership(&'static str),
}

fn change() -> impl Strategy<Value = Change> {
    use Visibility::{Invited, Joined, Shared, WorldReadable};
    prop_oneof![
        Just(Change::Nothing),
        prop::sample::select(vec![WorldReadable, Shared, Invited, Joined])
            .prop_map(Change::Visibility),
        prop::sample::select(vec!["join", "leave", "invite", "knock", "ban"])
            .prop_map(Change::Membership),
    ]
}

proptest! {
    /// The stretches hold exactly the positions of the events that each for itself may be seen.
    #[test]
    fn stretches_say_what_each_event_says(changes in prop::collection::vec(change(), 0..40)) {
        let mut visibilities = vec![Since { pos: 0, value: Visibility::Shared }];
        let mut memberships: Vec<Since<MembershipState>> = Vec::new();
        let mut sights = Vec::new();
        for (pos, change) in (1..).zip(&changes) {
            let visibility = visibilities.last().unwrap().value;
            let membership = memberships.last().map(|since| since.value.clone());
            match change {
                Change::Nothing => {}
                Change::Visibility(value) => visibilities.push(Since { pos, value: *value }),
                Change::Membership(value) => {
                    memberships.push(Since { pos, value: MembershipState::from(*value) });
                }
            }
            sights.push((pos, Sight {
                visibility: Around {
                    before: visibility,
                    after: visibilities.last().unwrap().value,
                },
                membership: Around {
                    before: membership,
                    after: memberships.last().map(|since| since.value.clone()),
                },
                joined_later: false,
            }));
        }
        let is_join = |since: &&Since<MembershipState>| since.value == MembershipState::Join;
        let upto = match memberships.last() {
            Some(last) if is_join(&last) => Some(i64::MAX),
            _ => memberships.iter().rev().find(is_join).map(|since| since.pos),
        };
        let seen = stretches(&visibilities, &memberships, upto);
        for (pos, mut sight) in sights {
            sight.joined_later = upto.is_some_and(|upto| pos < upto);
            let inside = seen.iter().any(|(first, last)| (*first..=*last).contains(&pos));
            prop_assert_eq!(inside, may_see(&sight), "at {} of {:?}", pos, changes);
        }
        prop_assert!(seen.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", seen);
    }
}

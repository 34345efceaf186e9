//! The table of the specification.

use colonnade_model::ruma::{RoomVersionId, events::room::member::MembershipState};
use serde_json::json;

use super::{Around, Sight, Visibility, may_see, retain_visible};
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

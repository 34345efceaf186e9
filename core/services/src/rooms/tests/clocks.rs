//! A clock that stands still or is set: who types stops to, and who left is gone.

use std::time::Duration;

use colonnade_model::ruma::presence::PresenceState;

use super::*;
use crate::{presence::Presence, typing::Typing};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

#[tokio::test]
async fn typing_ends_whatever_the_clock_shows() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    let room = world.room(&alice, RoomVersionId::V12, json!({})).await;
    let typing = Typing::start(Arc::clone(&world.context), world.rooms.clone());
    for set_ms in [0, -DAY_MS, DAY_MS] {
        typing.set(&alice, &room.room_id, Some(20)).await.unwrap();
        world.clock.advance(set_ms);
        let over = async {
            while typing.changed(room.nid, 0).is_none_or(|users| !users.is_empty()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), over).await.expect("typing ends");
    }
}

#[tokio::test]
async fn nobody_is_there_for_ever_after_the_clock_was_set_back() {
    let world = World::new().await;
    world.clock.advance(DAY_MS);
    let alice = world.user("alice").await;
    let presence = Presence::start(Arc::clone(&world.context));
    // A client may ask to wait as long as it likes.
    presence.syncs(alice.user, &PresenceState::Online, u64::MAX);
    world.clock.advance(-DAY_MS);
    presence.sweep();
    let said = async || presence.get(&alice, &alice.user_id).await.unwrap();
    assert_eq!(said().await["presence"], "online");
    assert_eq!(said().await["last_active_ago"], 0);
    world.clock.advance(10 * 60 * 1_000);
    presence.sweep();
    assert_eq!(said().await["presence"], "offline");
}

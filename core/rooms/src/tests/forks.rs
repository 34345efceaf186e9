//! Rooms that fork: events are taken as a peer sends them, each following what its sender knew.

use super::*;

/// One of each kind: state resolution 1, 2 and 2.1, and every form of ids.
const VERSIONS: [RoomVersionId; 8] = [
    RoomVersionId::V1,
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// A room with alice over it and bob, who may set the topic.
async fn two(world: &World, version: RoomVersionId) -> (Session, Session, Arc<Room>) {
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let mut users = json!({ "@bob:localhost": 50 });
    if version != RoomVersionId::V12 {
        users["@alice:localhost"] = 100.into();
    }
    let room = world.room(&alice, version, json!({ "users": users })).await;
    world.join(&bob, &room).await;
    (alice, bob, room)
}

#[tokio::test]
async fn harmless_forks_merge_with_the_next_event() {
    let world = World::new().await;
    for version in VERSIONS {
        let (alice, bob, room) = two(&world, version).await;
        let start = world.latest(&room).await;
        let topic = json!({ "topic": "second" });
        let one = world.make(&room, &start, &alice, "m.room.topic", Some(""), topic).await;
        let name = json!({ "name": "Fork" });
        let two = world.make(&room, &start, &bob, "m.room.name", Some(""), name).await;
        for event in [&one, &two, &one] {
            let sent = world.rooms.receive(&room, event.clone()).await.unwrap().0;
            assert_eq!(world.flags(sent.nid).await, (EventFlags::default(), true));
        }
        let head = world.rooms.head(room.nid).await.unwrap();
        assert_eq!(head.extremities.len(), 2, "the room stands at both");
        assert_eq!(world.topic(&room).await.as_deref(), Some("second"));
        let name = world.rooms.state_event(room.nid, "m.room.name", "").await.unwrap().unwrap();
        assert_eq!(name.event.event_id(), two.event_id());
        let summary = summaries::get(&world.context.db, room.nid).await.unwrap().unwrap();
        assert_eq!(summary.name.as_deref(), Some("Fork"));

        let body = to_raw_value(&json!({ "body": "both" })).unwrap();
        let kind = "m.room.message";
        let sent = world.rooms.send(&bob, &room.room_id, kind, &body, Some("t")).await.unwrap();
        let merged = world.rooms.event(sent.nid).await.unwrap().unwrap();
        assert_eq!(merged.event.prev_events().len(), 2);
        let head = world.rooms.head(room.nid).await.unwrap();
        assert_eq!(head.extremities, [sent.nid]);
    }
}

#[tokio::test]
async fn a_ban_undoes_what_the_banned_did_meanwhile() {
    let world = World::new().await;
    for version in VERSIONS {
        let (alice, bob, room) = two(&world, version).await;
        let start = world.latest(&room).await;
        let topic = json!({ "topic": "bob was here" });
        let topic = world.make(&room, &start, &bob, "m.room.topic", Some(""), topic).await;
        let ban = json!({ "membership": "ban" });
        let member = Some(bob.user_id.as_str());
        let ban = world.make(&room, &start, &alice, "m.room.member", member, ban).await;
        let before = world.rooms.head(room.nid).await.unwrap();
        assert_eq!(before.joined, 2);

        let sent = world.rooms.receive(&room, topic).await.unwrap().0;
        assert_eq!(world.flags(sent.nid).await, (EventFlags::default(), true));
        assert_eq!(world.topic(&room).await.as_deref(), Some("bob was here"));
        let sent = world.rooms.receive(&room, ban).await.unwrap().0;
        assert_eq!(world.flags(sent.nid).await, (EventFlags::default(), true));

        assert_eq!(world.topic(&room).await.as_deref(), Some("first"), "the ban comes first");
        let head = world.rooms.head(room.nid).await.unwrap();
        assert_eq!((head.joined, head.extremities.len()), (1, 2));
        let member = world.rooms.membership(room.nid, bob.user).await.unwrap();
        assert_eq!(member, Some(Membership::Ban));
        let summary = summaries::get(&world.context.db, room.nid).await.unwrap().unwrap();
        assert_eq!((summary.topic.as_deref(), summary.joined), (Some("first"), 1));
        // The state log says the same.
        let at = world.rooms.states().at(room.nid, head.last_pos).await.unwrap();
        assert_eq!(at, Some(head.state));
    }
}

#[tokio::test]
async fn what_the_current_state_forbids_is_soft_failed() {
    let world = World::new().await;
    for version in VERSIONS {
        let (alice, bob, room) = two(&world, version).await;
        let start = world.latest(&room).await;
        let topic = json!({ "topic": "too late" });
        let topic = world.make(&room, &start, &bob, "m.room.topic", Some(""), topic).await;
        let banned = content(json!({ "membership": "ban" })).unwrap();
        let ban = member(&alice.user_id, &bob.user_id, banned);
        world.rooms.propose(&room, ban).await.unwrap();
        let before = world.rooms.head(room.nid).await.unwrap();

        let sent = world.rooms.receive(&room, topic).await.unwrap().0;
        assert_eq!(world.flags(sent.nid).await, (EventFlags::SOFT_FAILED, false));
        let after = world.rooms.head(room.nid).await.unwrap();
        assert_eq!(after, before, "nobody sees it, nothing follows it");
        let event = world.rooms.event(sent.nid).await.unwrap().unwrap();
        assert_ne!(event.state_before, event.state_after, "but it counts where it stands");
    }
}

#[tokio::test]
async fn what_its_own_state_forbids_is_rejected() {
    let world = World::new().await;
    for version in VERSIONS {
        let (alice, bob, room) = two(&world, version).await;
        let start = world.latest(&room).await;
        let levels = json!({ "users": { "@bob:localhost": 100 } });
        let kind = "m.room.power_levels";
        let grab = world.make(&room, &start, &bob, kind, Some(""), levels).await;
        let mallory = world.user("mallory").await;
        let message = json!({ "body": "let me in" });
        let stranger = world.make(&room, &start, &mallory, "m.room.message", None, message).await;
        let before = world.rooms.head(room.nid).await.unwrap();
        for event in [grab, stranger] {
            let sent = world.rooms.receive(&room, event).await.unwrap().0;
            assert_eq!(world.flags(sent.nid).await, (EventFlags::REJECTED, false));
            let event = world.rooms.event(sent.nid).await.unwrap().unwrap();
            assert_eq!(event.state_before, event.state_after);
            assert!(event.event.rejected());
        }
        assert_eq!(world.rooms.head(room.nid).await.unwrap(), before);

        // Nothing is known of what an event follows: it is not stored at all.
        let message = json!({ "body": "one" });
        let one = world.make(&room, &start, &alice, "m.room.message", None, message).await;
        let stored = world.rooms.receive(&room, one.clone()).await.unwrap().0;
        let after = world.make(&room, one.event_id(), &alice, "m.room.message", None, json!({}));
        let after = after.await;
        let other = World::new().await;
        let carol = other.user("carol").await;
        let elsewhere = other.room(&carol, RoomVersionId::V11, json!({})).await;
        let refused = other.rooms.receive(&elsewhere, after).await.unwrap_err();
        assert!(matches!(refused, crate::Error::Client(MatrixError { status: 404, .. })));
        assert!(world.flags(stored.nid).await.1);
    }
}

#[tokio::test]
async fn a_deep_fork_resolves_and_survives_a_restart() {
    let world = World::new().await;
    let (alice, bob, room) = two(&world, RoomVersionId::V12).await;
    let mut members = Vec::new();
    for n in 0..80 {
        let member = world.user(&format!("member{n}")).await;
        world.join(&member, &room).await;
        members.push(member);
    }
    let start = world.latest(&room).await;
    let mut branches = [start.clone(), start];
    for (n, leaver) in members.iter().enumerate().take(6) {
        for (branch, sender) in [&alice, &bob].into_iter().enumerate() {
            let topic = json!({ "topic": format!("{branch} {n}") });
            let after = branches[branch].clone();
            let event = world.make(&room, &after, sender, "m.room.topic", Some(""), topic).await;
            branches[branch] = event.event_id().to_owned();
            world.rooms.receive(&room, event).await.unwrap();
        }
        let left = json!({ "membership": "leave" });
        let after = branches[0].clone();
        let key = Some(leaver.user_id.as_str());
        let event = world.make(&room, &after, leaver, "m.room.member", key, left).await;
        branches[0] = event.event_id().to_owned();
        world.rooms.receive(&room, event).await.unwrap();
    }
    let head = world.rooms.head(room.nid).await.unwrap();
    assert_eq!(head.extremities.len(), 2);
    assert_eq!(head.joined, 2 + 80 - 6);
    // The later one on the mainline wins; all have the same power levels behind them.
    assert_eq!(world.topic(&room).await.as_deref(), Some("1 5"));
    let world = world.restart().await;
    assert_eq!(world.rooms.head(room.nid).await.unwrap(), head);
    assert_eq!(world.topic(&room).await.as_deref(), Some("1 5"));
    let body = to_raw_value(&json!({ "body": "after" })).unwrap();
    world.rooms.send(&alice, &room.room_id, "m.room.message", &body, Some("x")).await.unwrap();
    let head = world.rooms.head(room.nid).await.unwrap();
    assert_eq!((head.extremities.len(), head.joined), (1, 76));
    let states =
        world.rooms.state_events(head.state, colonnade_storage::rooms::state::Part::Member);
    let joined = states
        .await
        .unwrap()
        .into_iter()
        .filter(|member| member.event.membership() == Some(MembershipState::Join));
    assert_eq!(joined.count(), 76);
}

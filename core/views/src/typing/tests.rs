//! Whoever leaves stops typing, and what another process says late of it brings nobody back.

use std::time::Duration;

use colonnade_replication::Follower;
use colonnade_rooms::Room as StoredRoom;
use colonnade_testkit_rooms::World as Server;

use super::*;

/// How long something that must happen may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// Longer than any of these tests.
const TYPES_MS: i64 = TIMEOUT_MS_MAX;

struct World {
    server: Server,
    typing: Arc<Typing>,
    room: Arc<StoredRoom>,
    bob: Session,
}

impl World {
    async fn new() -> Self {
        let server = Server::new().await;
        let typing = Typing::start(Arc::clone(&server.context), server.rooms.clone());
        Follower::new(&server.context.streams).subscribe(&typing).start();
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        let room = server.room(&alice).await;
        let world = Self { server, typing, room, bob };
        world.join().await;
        world
    }

    async fn join(&self) {
        self.server.join(&self.bob, &self.room).await;
        self.server.followed().await;
    }

    async fn leave(&self) {
        self.server.leave(&self.bob, &self.room).await;
        self.server.followed().await;
    }

    fn said(&self, at: Position) -> TypingUpdate {
        TypingUpdate {
            room: self.room.nid,
            user: self.bob.user_id.clone(),
            until: Some(self.server.context.now_ms() + TYPES_MS),
            nid: Some(self.bob.user),
            at,
        }
    }

    fn types(&self) -> bool {
        self.typing.changed(self.room.nid, 0).is_some_and(|users| users.contains(&self.bob.user_id))
    }
}

#[tokio::test]
async fn what_was_said_before_somebody_left_is_not_believed_afterwards() {
    let world = World::new().await;
    let typing = &world.typing;
    let before = world.server.context.streams.position(Stream::Events);
    typing.heard(world.said(before));
    assert!(world.types());
    world.leave().await;
    assert!(!world.types(), "who left stops");
    typing.heard(world.said(before));
    assert!(!world.types(), "another process said so late");
    world.join().await;
    typing.heard(world.said(before));
    assert!(!world.types(), "of an earlier stay");
    typing.heard(world.said(world.server.context.streams.position(Stream::Events)));
    assert!(world.types());
}

#[tokio::test]
async fn who_types_right_after_a_join_this_process_has_not_heard_of_is_not_taken_off() {
    let world = World::new().await;
    let joined = world.server.context.streams.position(Stream::Events);
    world.typing.heard(world.said(joined));
    let (user, room) = (Touch::User(world.bob.user), Touch::Room(world.room.nid));
    let touched = vec![(room, joined), (user, joined)];
    let advance = StreamAdvance { stream: Stream::Events, prev: joined - 1, upto: joined, touched };
    world.typing.advanced(&advance);
    assert!(world.types(), "the join itself is no end of it");
}

#[tokio::test]
async fn whose_membership_is_not_known_any_more_stops() {
    let world = World::new().await;
    let over = async {
        world.typing.set(&world.bob, &world.room.room_id, Some(TYPES_MS)).await.unwrap();
        assert!(world.types());
        world.typing.missed(Positions::default());
        assert!(!world.types());
        let at = world.server.context.streams.position(Stream::Events);
        world.typing.heard(world.said(at - 1));
        assert!(!world.types(), "nobody knows what happened since");
        world.typing.heard(world.said(at));
        assert!(world.types());
    };
    tokio::time::timeout(LONG, over).await.expect("nothing waits");
}

#[tokio::test]
async fn typing_ends_whatever_the_clock_shows() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    let World { server, typing, room, bob } = World::new().await;
    for set_ms in [0, -DAY_MS, DAY_MS] {
        typing.set(&bob, &room.room_id, Some(20)).await.unwrap();
        server.clock.advance(set_ms);
        let over = async {
            while typing.changed(room.nid, 0).is_none_or(|users| !users.is_empty()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, over).await.expect("typing ends");
    }
}

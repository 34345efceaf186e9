//! Whoever leaves stops typing, and what another process says late of it brings nobody back.

use std::time::Duration;

use colonnade_model::{nid::DeviceNid, ruma::UserId};
use colonnade_storage::{Database, Location};

use super::*;
use crate::{
    Services,
    caches::alone,
    lifecycle::{NewRoomWish, Preset},
    rooms::Room as StoredRoom,
};

/// How long something that must happen may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// Longer than any of these tests.
const TYPES_MS: i64 = TIMEOUT_MS_MAX;

struct World {
    services: Arc<Services>,
    room: Arc<StoredRoom>,
    bob: Session,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let streams = Arc::new(Streams::new());
        let location = Location::Sqlite(folder.path().join("colonnade.db"));
        let db = Database::open(&location, Arc::clone(&streams) as _).await.unwrap();
        let services = alone(Arc::clone(&streams), &db, folder.path()).await;
        let user = async |name: &str| {
            let user_id = UserId::parse(format!("@{name}:localhost")).unwrap();
            let user = services.context.interned.user(&user_id).await.unwrap();
            Session {
                user_id,
                user,
                device_id: "D".into(),
                device: DeviceNid(user.0),
                address: None,
            }
        };
        let (alice, bob) = (user("alice").await, user("bob").await);
        let wish = NewRoomWish { preset: Some(Preset::Public), ..NewRoomWish::default() };
        let room_id = services.lifecycle.create(&alice, wish).await.unwrap();
        let room = services.rooms.find(&room_id).await.unwrap().unwrap();
        let world = Self { services, room, bob, _folder: folder };
        world.join().await;
        world
    }

    async fn join(&self) {
        let name = (&*self.room.room_id).into();
        self.services.membership.join(&self.bob, name, Default::default()).await.unwrap();
        self.followed().await;
    }

    async fn leave(&self) {
        self.services.membership.leave(&self.bob, &self.room.room_id, None).await.unwrap();
        self.followed().await;
    }

    /// Waits until this process has noted everything there is.
    async fn followed(&self) {
        let streams = &self.services.context.streams;
        streams.noted(Stream::Events, streams.position(Stream::Events)).await;
    }

    fn said(&self, at: Position) -> TypingUpdate {
        TypingUpdate {
            room: self.room.nid,
            user: self.bob.user_id.clone(),
            until: Some(self.services.context.now_ms() + TYPES_MS),
            nid: Some(self.bob.user),
            at,
        }
    }

    fn types(&self) -> bool {
        let typing = &self.services.typing;
        typing.changed(self.room.nid, 0).is_some_and(|users| users.contains(&self.bob.user_id))
    }
}

#[tokio::test]
async fn what_was_said_before_somebody_left_is_not_believed_afterwards() {
    let world = World::new().await;
    let typing = &world.services.typing;
    let before = world.services.context.streams.position(Stream::Events);
    typing.heard(world.said(before));
    assert!(world.types());
    world.leave().await;
    assert!(!world.types(), "who left stops");
    typing.heard(world.said(before));
    assert!(!world.types(), "another process said so late");
    world.join().await;
    typing.heard(world.said(before));
    assert!(!world.types(), "of an earlier stay");
    typing.heard(world.said(world.services.context.streams.position(Stream::Events)));
    assert!(world.types());
}

#[tokio::test]
async fn who_types_right_after_a_join_this_process_has_not_heard_of_is_not_taken_off() {
    let world = World::new().await;
    let joined = world.services.context.streams.position(Stream::Events);
    world.services.typing.heard(world.said(joined));
    let (user, room) = (Touch::User(world.bob.user), Touch::Room(world.room.nid));
    let touched = vec![(room, joined), (user, joined)];
    let advance = StreamAdvance { stream: Stream::Events, prev: joined - 1, upto: joined, touched };
    world.services.typing.advanced(&advance);
    assert!(world.types(), "the join itself is no end of it");
}

#[tokio::test]
async fn whose_membership_is_not_known_any_more_stops() {
    let world = World::new().await;
    let over = async {
        world.services.typing.set(&world.bob, &world.room.room_id, Some(TYPES_MS)).await.unwrap();
        assert!(world.types());
        world.services.typing.missed(Positions::default());
        assert!(!world.types());
        let at = world.services.context.streams.position(Stream::Events);
        world.services.typing.heard(world.said(at - 1));
        assert!(!world.types(), "nobody knows what happened since");
        world.services.typing.heard(world.said(at));
        assert!(world.types());
    };
    tokio::time::timeout(LONG, over).await.expect("nothing waits");
}

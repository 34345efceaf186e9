//! Who is told of whom, and in how many steps.

use colonnade_model::ruma::{UserId, presence::PresenceState};
use colonnade_model::session::Session;
use colonnade_replication::Streams;
use colonnade_storage::{Database, Location};
use tokio::sync::broadcast;

use super::*;
use crate::{
    Services,
    caches::alone,
    lifecycle::{NewRoomWish, Preset},
    rooms::Room,
};

/// How long something that must happen may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct World {
    services: Arc<Services>,
    advances: broadcast::Receiver<Arc<StreamAdvance>>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let streams = Arc::new(Streams::new());
        let location = Location::Sqlite(folder.path().join("colonnade.db"));
        let db = Database::open(&location, Arc::clone(&streams) as _).await.unwrap();
        let services = alone(Arc::clone(&streams), &db, folder.path()).await;
        Self { services, advances: streams.subscribe(), _folder: folder }
    }

    async fn user(&self, name: &str) -> Session {
        let user_id = UserId::parse(format!("@{name}:localhost")).unwrap();
        let user = self.services.context.interned.user(&user_id).await.unwrap();
        let device = colonnade_model::nid::DeviceNid(user.0);
        Session { user_id, user, device_id: "D".into(), device, address: None }
    }

    async fn room(&self, creator: &Session) -> Arc<Room> {
        let wish = NewRoomWish { preset: Some(Preset::Public), ..NewRoomWish::default() };
        let room_id = self.services.lifecycle.create(creator, wish).await.unwrap();
        self.services.rooms.find(&room_id).await.unwrap().unwrap()
    }

    async fn join(&self, session: &Session, room: &Room) {
        let membership = &self.services.membership;
        membership.join(session, (&*room.room_id).into(), Default::default()).await.unwrap();
    }

    fn online(&self, session: &Session) {
        self.services.presence.syncs(session.user, &PresenceState::Online, 0);
    }

    /// The next change of presence that is told.
    async fn told(&mut self) -> Arc<StreamAdvance> {
        let next = async {
            loop {
                let advance = self.advances.recv().await.unwrap();
                if advance.stream == Stream::Presence {
                    return advance;
                }
            }
        };
        tokio::time::timeout(LONG, next).await.expect("it is told")
    }

    /// Whom somebody in these rooms sees at a first sync.
    async fn seen(&self, viewer: &Session, rooms: &[&Room]) -> Vec<String> {
        let rooms = rooms.iter().map(|room| room.nid).collect();
        let upto = self.services.context.streams.position(Stream::Presence);
        let told = self.services.presence.changes(viewer.user, &rooms, 0, upto).await.unwrap();
        told.iter().map(|event| event["sender"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until they see these users.
    async fn until_seen(&self, viewer: &Session, rooms: &[&Room], users: &[&str]) {
        let seen = async {
            while self.seen(viewer, rooms).await != users {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, seen).await.expect("they are seen");
    }
}

#[tokio::test]
async fn changes_that_come_together_are_told_together() {
    let mut world = World::new().await;
    let alice = world.user("alice").await;
    let room = world.room(&alice).await;
    let mut crowd = Vec::new();
    for n in 0..20 {
        let user = world.user(&format!("user{n}")).await;
        world.join(&user, &room).await;
        crowd.push(user);
    }
    // Nobody is away for a moment between these two.
    crowd.iter().for_each(|user| world.online(user));
    let told = world.told().await;
    assert_eq!(told.touched, [(Touch::Room(room.nid), told.upto)]);
    assert_eq!((told.prev + 1, world.seen(&alice, &[&room]).await.len()), (told.upto, 20));
    world.services.presence.set(&alice, PresenceState::Unavailable, None).unwrap();
    assert_eq!(world.told().await.upto, told.upto + 1);
}

#[tokio::test]
async fn those_who_share_a_room_now_are_seen() {
    let mut world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice).await;
    world.online(&bob);
    assert_eq!(world.told().await.touched, [], "nobody shares a room");
    assert!(world.seen(&alice, &[&room]).await.is_empty());
    world.join(&bob, &room).await;
    world.until_seen(&alice, &[&room], &["@bob:localhost"]).await;
    assert!(world.seen(&bob, &[&room]).await.is_empty(), "not even oneself");
    world.services.membership.leave(&bob, &room.room_id, None).await.unwrap();
    world.until_seen(&alice, &[&room], &[]).await;
}

#[tokio::test]
async fn whoever_moves_while_a_change_is_told_is_told_of_later() {
    let world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice).await;
    world.join(&bob, &room).await;
    world.online(&bob);
    world.until_seen(&alice, &[&room], &["@bob:localhost"]).await;
    let presence = &world.services.presence;
    {
        let mut users = presence.users.lock();
        // The rooms were read before the join, which this process has heard of since.
        let pos = users.known[&bob.user].pos;
        users.moved.insert(bob.user);
        let due = HashSet::from([bob.user]);
        presence.note(&mut users, &due, &[bob.user], &[]);
        assert_eq!(users.known[&bob.user].pos, pos, "nobody is told yet");
        assert!(users.due.contains(&bob.user));
    }
    presence.news.notify_one();
    world.until_seen(&alice, &[&room], &["@bob:localhost"]).await;
}

#[tokio::test]
async fn a_first_sync_sees_who_joined_before_it_was_noted() {
    let world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice).await;
    world.join(&bob, &room).await;
    world.online(&bob);
    world.until_seen(&alice, &[&room], &["@bob:localhost"]).await;
    for is_being_read in [false, true] {
        {
            let mut users = world.services.presence.users.lock();
            users.known.get_mut(&bob.user).unwrap().rooms = Arc::default();
            let waiting = if is_being_read { &mut users.asked } else { &mut users.moved };
            waiting.insert(bob.user);
        }
        assert_eq!(world.seen(&alice, &[&room]).await, ["@bob:localhost"]);
    }
}

//! Who is told of whom, and in how many steps.

use colonnade_model::ruma::presence::PresenceState;
use colonnade_model::session::Session;
use colonnade_replication::Follower;
use colonnade_rooms::Room;
use colonnade_testkit_rooms::World as Server;
use tokio::sync::broadcast;

use super::{super::UserPresence, *};

/// How long something that must happen may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct World {
    server: Server,
    presence: Arc<Presence>,
    advances: broadcast::Receiver<Arc<StreamAdvance>>,
}

impl World {
    async fn new() -> Self {
        let server = Server::new().await;
        let presence = Presence::start(Arc::clone(&server.context));
        Follower::new(&server.context.streams).subscribe(&presence).start();
        let advances = server.context.streams.subscribe();
        Self { server, presence, advances }
    }

    async fn user(&self, name: &str) -> Session {
        self.server.user(name).await
    }

    async fn room(&self, creator: &Session) -> Arc<Room> {
        self.server.room(creator).await
    }

    async fn join(&self, session: &Session, room: &Arc<Room>) {
        self.server.join(session, room).await;
    }

    fn online(&self, session: &Session) {
        self.presence.syncs(session.user, &PresenceState::Online, 0);
    }

    /// The next change of presence that is told to others than the user.
    async fn next_advance(&mut self) -> Arc<StreamAdvance> {
        let next = async {
            loop {
                let advance = self.advances.recv().await.unwrap();
                let users = self.presence.users.lock();
                let is_told = |known: &UserPresence| known.pos == advance.upto;
                if advance.stream == Stream::Presence && users.known.values().any(is_told) {
                    return Arc::clone(&advance);
                }
            }
        };
        tokio::time::timeout(LONG, next).await.expect("it is told")
    }

    /// Whom somebody in these rooms sees at a first sync.
    async fn seen(&self, viewer: &Session, rooms: &[&Room]) -> Vec<String> {
        let rooms = rooms.iter().map(|room| room.nid).collect();
        let upto = self.server.context.streams.position(Stream::Presence);
        let changes = self.presence.changes(viewer.user, &rooms, 0, upto).await.unwrap();
        changes.iter().map(|event| event["sender"].as_str().unwrap().to_owned()).collect()
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
async fn changes_that_come_together_are_announced_together() {
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
    let advance = world.next_advance().await;
    assert_eq!(advance.touched, [(Touch::Room(room.nid), advance.upto)]);
    assert_eq!((advance.prev + 1, world.seen(&alice, &[&room]).await.len()), (advance.upto, 20));
    world.presence.set(&alice, PresenceState::Unavailable, None).unwrap();
    assert_eq!(world.next_advance().await.upto, advance.upto + 2, "she herself is told first");
}

#[tokio::test]
async fn those_who_share_a_room_now_are_seen() {
    let mut world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice).await;
    world.online(&bob);
    assert_eq!(world.next_advance().await.touched, [], "nobody shares a room");
    assert!(world.seen(&alice, &[&room]).await.is_empty());
    world.join(&bob, &room).await;
    world.until_seen(&alice, &[&room], &["@bob:localhost"]).await;
    assert_eq!(world.seen(&bob, &[&room]).await, ["@bob:localhost"], "oneself alone");
    world.server.leave(&bob, &room).await;
    world.until_seen(&alice, &[&room], &[]).await;
}

#[tokio::test]
async fn a_user_who_moves_during_an_announcement_is_announced_later() {
    let world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice).await;
    world.join(&bob, &room).await;
    world.online(&bob);
    world.until_seen(&alice, &[&room], &["@bob:localhost"]).await;
    let presence = &world.presence;
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
            let mut users = world.presence.users.lock();
            users.known.get_mut(&bob.user).unwrap().rooms = Arc::default();
            let waiting = if is_being_read { &mut users.asked } else { &mut users.moved };
            waiting.insert(bob.user);
        }
        assert_eq!(world.seen(&alice, &[&room]).await, ["@bob:localhost"]);
    }
}

#[tokio::test]
async fn nobody_is_there_for_ever_after_the_clock_was_set_back() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    let World { server, presence, .. } = World::new().await;
    server.clock.advance(DAY_MS);
    let alice = server.user("alice").await;
    // A client may ask to wait as long as it likes.
    presence.syncs(alice.user, &PresenceState::Online, u64::MAX);
    server.clock.advance(-DAY_MS);
    presence.sweep();
    let said = async || presence.get(&alice, &alice.user_id).await.unwrap();
    assert_eq!(said().await["presence"], "online");
    assert_eq!(said().await["last_active_ago"], 0);
    server.clock.advance(10 * 60 * 1_000);
    presence.sweep();
    assert_eq!(said().await["presence"], "offline");
}

#[tokio::test]
async fn who_newly_shares_a_room_is_told_now_and_once() {
    let world = World::new().await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice).await;
    world.join(&bob, &room).await;
    {
        // What bob says is due: the step that is going on does not have it.
        let mut users = world.presence.users.lock();
        users.known(bob.user, 0).unwrap().state = PresenceState::Online;
        users.due.insert(bob.user);
    }
    let before = world.server.context.streams.position(Stream::Presence);
    let told = world.presence.tell_now(&[bob.user, alice.user]).await.unwrap();
    assert_eq!(told, before + 1);
    let rooms = HashSet::from([room.nid]);
    let changes = world.presence.changes(alice.user, &rooms, before.max(1), told).await.unwrap();
    let senders: Vec<_> = changes.iter().map(|event| &event["sender"]).collect();
    assert_eq!(senders, ["@bob:localhost"]);
    assert_eq!(world.presence.tell_now(&[bob.user]).await.unwrap(), told, "nothing is due");
}

#[tokio::test]
async fn what_a_user_says_wakes_his_clients_and_what_their_syncs_say_does_not() {
    let mut world = World::new().await;
    let alice = world.user("alice").await;
    let own_advance = async |world: &mut World| {
        loop {
            let advance = world.advances.recv().await.unwrap();
            if advance.stream == Stream::Presence {
                return advance.touched.clone();
            }
        }
    };
    world.online(&alice);
    assert_eq!(own_advance(&mut world).await, []);
    let own = async |world: &World, after| {
        let upto = world.server.context.streams.position(Stream::Presence);
        world.presence.changes(alice.user, &HashSet::new(), after, upto).await.unwrap().len()
    };
    let own_pos = world.presence.users.lock().known[&alice.user].own_pos;
    assert_eq!((own(&world, 0).await, own(&world, own_pos - 1).await), (1, 1));
    assert_eq!(own(&world, own_pos).await, 0, "he was told");
    assert!(world.presence.has_own_change(alice.user, own_pos - 1), "who asks is told of it");
    world.until_seen(&alice, &[], &["@alice:localhost"]).await;
    let before = world.server.context.streams.position(Stream::Presence);
    world.presence.set(&alice, PresenceState::Unavailable, Some("out".to_owned())).unwrap();
    assert_eq!(own(&world, before).await, 1);
    let is_woken =
        |touched: &[(Touch, _)]| touched.iter().any(|(t, _)| *t == Touch::User(alice.user));
    while !is_woken(&own_advance(&mut world).await) {}
}

//! Whose device lists to follow no longer and whose anew, compared with what follows from the memberships
//! at both ends of a gap.

use std::collections::BTreeSet;

use colonnade_model::stream::Positions;
use colonnade_testkit::{Client, TestServer};
use serde_json::json;

use super::{positions, session};

/// Users and public rooms: the first user makes the rooms, and is in all of them.
struct Village {
    server: TestServer,
    users: Vec<Client>,
    rooms: Vec<String>,
    /// By user and room.
    joined: Vec<Vec<bool>>,
}

impl Village {
    async fn new(users: usize, rooms: usize) -> Self {
        let server = TestServer::start().await;
        let mut clients = Vec::new();
        for n in 0..users {
            clients.push(server.user(&format!("user{n}")).await);
        }
        let mut ids = Vec::new();
        for _ in 0..rooms {
            let request = json!({ "preset": "public_chat" });
            let made = clients[0].post("/_matrix/client/v3/createRoom", request).await.ok();
            ids.push(made["room_id"].as_str().unwrap().to_owned());
        }
        let mut joined = vec![vec![false; rooms]; users];
        joined[0] = vec![true; rooms];
        Self { server, users: clients, rooms: ids, joined }
    }

    /// Has a user join a room, or leave it.
    async fn toggle(&mut self, user: usize, room: usize) {
        let is_in = &mut self.joined[user][room];
        let verb = if *is_in { "leave" } else { "join" };
        *is_in = !*is_in;
        let path = format!(
            "/_matrix/client/v3/rooms/{}/{verb}",
            self.rooms[room].replace('!', "%21").replace(':', "%3A")
        );
        self.users[user].post(&path, json!({})).await.ok();
    }

    async fn toggle_all(&mut self, moves: &[(usize, usize)]) {
        for (user, room) in moves {
            self.toggle(*user, *room).await;
        }
    }

    fn sharing(joined: &[Vec<bool>], viewer: usize) -> BTreeSet<String> {
        let shares = |user: &usize| {
            joined[*user].iter().zip(&joined[viewer]).any(|(theirs, ours)| *theirs && *ours)
        };
        let others = (0..joined.len()).filter(|user| *user != viewer);
        others.filter(shares).map(|user| format!("@user{user}:localhost")).collect()
    }

    /// Returns whom a user is told of as changed and as left since `from`.
    async fn told(&self, viewer: usize, from: &Positions) -> (BTreeSet<String>, BTreeSet<String>) {
        let viewer = session(&self.server, &self.users[viewer]).await.user;
        let services = &self.server.inside().await.services;
        let upto = services.context.streams.positions();
        let told = services.encryption.device_list_changes(viewer, from, &upto).await.unwrap();
        let changed = told.changed.iter().map(|(name, _)| name.to_string());
        (changed.collect(), told.left.iter().map(ToString::to_string).collect())
    }

    /// Asserts that a user is told what follows from the memberships.
    async fn require_told(&self, viewer: usize, from: &Positions, before: &[Vec<bool>]) {
        let (were, are) = (Self::sharing(before, viewer), Self::sharing(&self.joined, viewer));
        let (mut changed, left) = self.told(viewer, from).await;
        // Whoever enters a room is a member of it himself.
        changed.remove(&format!("@user{viewer}:localhost"));
        let context = format!("user{viewer}: {before:?} → {:?}", self.joined);
        assert_eq!(left, &were - &are, "left, {context}");
        assert!(changed.is_superset(&(&are - &were)), "{changed:?} lacks some, {context}");
        assert!(changed.is_subset(&are), "{changed:?} has others, {context}");
    }
}

#[tokio::test]
async fn who_left_in_the_same_gap_as_the_viewer_is_named() {
    let mut village = Village::new(3, 2).await;
    let names = |users: &[usize]| users.iter().map(|n| format!("@user{n}:localhost")).collect();
    let (owner, u, v) = (0, 1, 2);
    for moves in [[(u, 0), (v, 0)], [(v, 0), (u, 0)]] {
        village.toggle_all(&[(u, 0), (v, 0)]).await;
        let from = positions(&village.server).await;
        village.toggle_all(&moves).await;
        let left: BTreeSet<String> = names(&[owner, u]);
        assert_eq!(village.told(v, &from).await.1, left, "{moves:?}");
    }
    // The owner is in another room with the viewer.
    village.toggle_all(&[(u, 0), (v, 0), (v, 1)]).await;
    let from = positions(&village.server).await;
    village.toggle_all(&[(u, 0), (v, 0)]).await;
    assert_eq!(village.told(v, &from).await.1, names(&[u]));
    village.toggle_all(&[(v, 1), (u, 0), (v, 0)]).await;
    let from = positions(&village.server).await;
    village.toggle_all(&[(u, 0), (v, 0), (v, 1)]).await;
    assert_eq!(village.told(v, &from).await.1, names(&[u]));
}

#[tokio::test]
async fn what_is_told_follows_from_the_memberships_at_both_ends() {
    let mut village = Village::new(5, 3).await;
    let mut seed = 0x9e37_79b9_u64;
    let mut random = |below: usize| {
        // Knuth's MMIX generator: the same histories in every run.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let mut history = vec![(positions(&village.server).await, village.joined.clone())];
    for _ in 0..80 {
        village.toggle(1 + random(4), random(3)).await;
        for viewer in 1..5 {
            // Short gaps mostly: in long ones everybody has moved.
            let back = 1 + random(8).min(history.len() - 1);
            let (from, before) = &history[history.len() - back];
            village.require_told(viewer, from, before).await;
        }
        history.push((positions(&village.server).await, village.joined.clone()));
    }
}

//! Rooms of a hierarchy that this server is not in: other servers are asked, a bounded number of times for a page,
//! and what they say is kept for a while. It is what this server may see; what a user of it may see of that, the
//! hierarchy decides.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use colonnade_federation::{
    messaging::{Messaging, MessagingError, RemoteSpace},
    transport::TransportError,
};
use colonnade_model::{
    clock::Clock,
    ruma::{OwnedRoomId, OwnedServerName, RoomId, room::RoomSummary},
};
use quick_cache::sync::Cache;
use tokio::time::Instant;

/// Spaces that are remembered.
const REMEMBERED: usize = 1_000;
/// How long what a server said is good, in milliseconds.
const GOOD_MS: i64 = 5 * 60 * 1_000;
/// How long it is good that no server said anything, in milliseconds.
const NOTHING_MS: i64 = 60 * 1_000;
/// Servers that are asked for one room.
const SERVERS_MAX: usize = 3;
/// Requests made for one page.
const ASKED_MAX: usize = 30;
/// How long a page waits for other servers.
const WITHIN: Duration = Duration::from_secs(20);

/// What other servers said of spaces.
pub(super) struct RemoteSpaces {
    messaging: Messaging,
    clock: Arc<dyn Clock>,
    said: Cache<(OwnedRoomId, bool), Remembered>,
}

#[derive(Clone)]
struct Remembered {
    until_ms: i64,
    space: Option<Arc<RemoteSpace>>,
}

/// What is asked of others for one page.
pub(super) struct Asking<'a> {
    spaces: &'a RemoteSpaces,
    suggested_only: bool,
    deadline: Instant,
    asked: usize,
    /// Rooms that were told of together with the space they are in.
    told: HashMap<OwnedRoomId, RoomSummary>,
    hidden: HashSet<OwnedRoomId>,
}

/// A room as another server shows it.
pub(super) enum Elsewhere {
    /// A space, with the rooms in it.
    Space(Arc<RemoteSpace>),
    /// A room with nothing below it.
    Room(Box<RoomSummary>),
}

impl RemoteSpaces {
    pub(super) fn new(messaging: Messaging, clock: Arc<dyn Clock>) -> Self {
        Self { messaging, clock, said: Cache::new(REMEMBERED) }
    }

    /// Begins to ask for a page.
    pub(super) fn asking(&self, suggested_only: bool) -> Asking<'_> {
        Asking {
            spaces: self,
            suggested_only,
            deadline: Instant::now() + WITHIN,
            asked: 0,
            told: HashMap::new(),
            hidden: HashSet::new(),
        }
    }
}

impl Asking<'_> {
    /// Returns what other servers show of a room, those of `via` first.
    pub(super) async fn find(
        &mut self,
        room_id: &RoomId,
        via: &[OwnedServerName],
    ) -> Option<Elsewhere> {
        if self.hidden.contains(room_id) {
            return None;
        }
        let is_space = |room: &RoomSummary| {
            room.room_type.as_ref().is_some_and(|kind| kind.as_str() == "m.space")
        };
        if let Some(room) = self.told.get(room_id).filter(|room| !is_space(room)) {
            return Some(Elsewhere::Room(Box::new(room.clone())));
        }
        let space = self.space(room_id, via).await?;
        self.hidden.extend(space.inaccessible.iter().cloned());
        for child in &space.children {
            self.told.insert(child.room_id.clone(), child.clone());
        }
        Some(Elsewhere::Space(space))
    }

    async fn space(
        &mut self,
        room_id: &RoomId,
        via: &[OwnedServerName],
    ) -> Option<Arc<RemoteSpace>> {
        let key = (room_id.to_owned(), self.suggested_only);
        let now_ms = self.spaces.clock.now_ms();
        if let Some(said) = self.spaces.said.get(&key)
            && now_ms < said.until_ms
        {
            return said.space;
        }
        let messaging = &self.spaces.messaging;
        let policy = messaging.transport().policy();
        let mut is_refused = false;
        for server in via.iter().filter(|server| policy.permits(server)).take(SERVERS_MAX) {
            if self.asked == ASKED_MAX || Instant::now() >= self.deadline {
                // Nothing is remembered of what nobody was asked for.
                return None;
            }
            self.asked += 1;
            let asked = messaging.space(server, room_id, self.suggested_only);
            match tokio::time::timeout_at(self.deadline, asked).await {
                Ok(Ok(space)) => {
                    let space = Some(Arc::new(space));
                    let until_ms = now_ms.saturating_add(GOOD_MS);
                    self.spaces.said.insert(key, Remembered { until_ms, space: space.clone() });
                    return space;
                }
                Ok(Err(error)) => {
                    is_refused |= is_refusal(&error);
                    tracing::debug!(%server, room = %room_id, %error, "nothing is said of a space");
                }
                Err(_) => return None,
            }
        }
        if is_refused {
            // Whom a server refuses it may show the room in a moment: somebody joined, or was invited.
            return None;
        }
        let until_ms = now_ms.saturating_add(NOTHING_MS);
        self.spaces.said.insert(key, Remembered { until_ms, space: None });
        None
    }
}

/// Tells whether a server answered that it does not show a room, or does not know it.
fn is_refusal(error: &MessagingError) -> bool {
    let MessagingError::Transport(error) = error else { return false };
    !error.is_unrecognized()
        && matches!(error, TransportError::Status { status, .. } if *status < 500)
}

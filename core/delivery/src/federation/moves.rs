//! Who came into a room, for servers that are then told more than the event.

use std::collections::{BTreeSet, HashMap};

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::{Position, Positions, Stream, StreamAdvance, Touch},
};
use colonnade_replication::Subscriber;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Changes of memberships that wait to be looked at, 16 bytes each; more are left out.
const MOVES_MAX: usize = 20_000;

/// Whose memberships changed since they were looked at last.
#[derive(Default)]
pub struct Moves {
    moved: Mutex<BTreeSet<(RoomNid, UserNid)>>,
    news: Notify,
}

impl Moves {
    /// Takes what there is.
    pub(super) fn take(&self) -> BTreeSet<(RoomNid, UserNid)> {
        std::mem::take(&mut *self.moved.lock())
    }

    /// Waits for more.
    pub(super) async fn more(&self) {
        self.news.notified().await;
    }
}

impl Subscriber for Moves {
    fn advanced(&self, advance: &StreamAdvance) {
        let touched = &advance.touched;
        let is_move = |(touch, _): &(Touch, Position)| matches!(touch, Touch::User(_));
        if advance.stream != Stream::Events || !touched.iter().any(is_move) {
            return;
        }
        let rooms = touched.iter().filter_map(|(touch, pos)| match touch {
            Touch::Room(room) => Some((*pos, *room)),
            _ => None,
        });
        let rooms: HashMap<Position, RoomNid> = rooms.collect();
        let mut moved = self.moved.lock();
        for (touch, pos) in touched {
            if let (Touch::User(user), Some(room)) = (touch, rooms.get(pos))
                && moved.len() < MOVES_MAX
            {
                moved.insert((*room, *user));
            }
        }
        self.news.notify_one();
    }

    /// Who moved is not known; presence is said again in a while.
    fn missed(&self, _: Positions) {}
}

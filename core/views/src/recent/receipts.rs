//! What was read last in a room: its newest receipts, the private ones, too.

use std::sync::Arc;

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::Position,
};
use colonnade_rooms::Result;
use colonnade_storage::{
    Database,
    rooms::receipts::{self, Kind, Receipt},
};

/// Receipts kept of a room at most, about 200 bytes each.
const RECEIPTS_MAX: usize = 200;

/// The end of a room's stream of receipts.
pub(crate) struct RecentReceipts {
    /// Every receipt that changed above this, and up to `upto`, is here.
    after: Position,
    upto: Position,
    /// By position.
    receipts: Vec<(Position, Receipt)>,
}

impl RecentReceipts {
    /// Reads a room up to a position, from where it stands in memory if that is near.
    pub(super) async fn read(
        db: &Database,
        room: RoomNid,
        (stands, upto): (Option<Arc<Self>>, Position),
    ) -> Result<Self> {
        let from = stands.as_ref().map_or(0, |stands| stands.upto);
        let newer = receipts::newest(db, room, (from, upto), RECEIPTS_MAX as i64).await?;
        Ok(Self::joined(stands.as_deref(), newer, upto))
    }

    /// Puts what is newer behind what was here.
    fn joined(stands: Option<&Self>, newer: Vec<(Position, Receipt)>, upto: Position) -> Self {
        let is_all = newer.len() < RECEIPTS_MAX;
        let after = match (stands.filter(|_| is_all), newer.first()) {
            (Some(stands), _) => stands.after,
            (None, Some((oldest, _))) if !is_all => *oldest - 1,
            (None, _) => 0,
        };
        let mut joined = Self { after, upto, receipts: Vec::new() };
        if let Some(stands) = stands.filter(|_| is_all) {
            let moved = |one: &Receipt| newer.iter().any(|(_, other)| is_same(one, other));
            let kept = stands.receipts.iter().filter(|(_, receipt)| !moved(receipt));
            joined.receipts.extend(kept.cloned());
        }
        joined.receipts.extend(newer);
        let gone = joined.receipts.len().saturating_sub(RECEIPTS_MAX);
        for (position, _) in joined.receipts.drain(..gone) {
            joined.after = joined.after.max(position);
        }
        joined
    }

    /// Returns up to where everything is here.
    pub(super) fn upto(&self) -> Position {
        self.upto
    }

    /// Returns the receipts that are here, up to a position, as a user may see them.
    pub(crate) fn newest(&self, upto: Position, viewer: UserNid) -> Vec<Receipt> {
        self.between((self.after, upto.min(self.upto)), viewer).unwrap_or_default()
    }

    /// Returns the receipts that changed above a position and up to another, as a user may see them; `None` if
    /// not all of them are here.
    pub(crate) fn between(
        &self,
        (after, upto): (Position, Position),
        viewer: UserNid,
    ) -> Option<Vec<Receipt>> {
        if after < self.after || upto > self.upto {
            return None;
        }
        let within = self.receipts.iter().filter(|(pos, _)| *pos > after && *pos <= upto);
        let seen = within.map(|(_, receipt)| receipt);
        let seen = seen.filter(|one| one.kind == Kind::Public || one.user == viewer);
        Some(seen.cloned().collect())
    }
}

/// Tells whether one of two receipts takes the place of the other.
fn is_same(one: &Receipt, other: &Receipt) -> bool {
    one.user == other.user && one.kind == other.kind && one.thread == other.thread
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(user: i64, kind: Kind, event: &str) -> Receipt {
        Receipt {
            room: RoomNid(1),
            user: UserNid(user),
            kind,
            thread: String::new(),
            event_id: event.to_owned(),
            event_pos: 1,
            ts: 0,
        }
    }

    fn told(recent: &RecentReceipts, range: (Position, Position)) -> Option<Vec<String>> {
        let seen = recent.between(range, UserNid(1))?;
        Some(seen.into_iter().map(|receipt| receipt.event_id).collect())
    }

    #[test]
    fn a_newer_receipt_takes_the_place_of_the_one_before_and_others_stay() {
        let (public, private) = (Kind::Public, Kind::Private);
        let first = vec![(3, receipt(1, private, "$a")), (4, receipt(2, public, "$a"))];
        let first = RecentReceipts::joined(None, first, 5);
        let newer = vec![(7, receipt(2, public, "$b")), (8, receipt(2, private, "$c"))];
        let then = RecentReceipts::joined(Some(&first), newer, 9);
        assert_eq!(told(&first, (0, 5)).unwrap(), ["$a", "$a"]);
        assert_eq!(told(&then, (0, 9)).unwrap(), ["$a", "$b"], "another's private one is not told");
        assert_eq!(told(&then, (3, 9)).unwrap(), ["$b"]);
        assert_eq!(told(&then, (3, 10)), None, "nobody knows here what came after 9");
    }

    #[test]
    fn beyond_the_bound_the_oldest_are_not_known_here() {
        let many = |from: i64, count: usize| -> Vec<(Position, Receipt)> {
            let positions = (from..).take(count);
            positions.map(|pos| (pos, receipt(pos, Kind::Public, "$a"))).collect()
        };
        let full = RecentReceipts::joined(None, many(11, RECEIPTS_MAX), 1_000);
        assert_eq!(told(&full, (9, 1_000)), None);
        assert_eq!(told(&full, (10, 1_000)).unwrap().len(), RECEIPTS_MAX);
        let then = RecentReceipts::joined(Some(&full), many(1_001, 2), 1_002);
        assert_eq!(told(&then, (11, 1_002)), None);
        assert_eq!(told(&then, (12, 1_002)).unwrap().len(), RECEIPTS_MAX);
    }
}

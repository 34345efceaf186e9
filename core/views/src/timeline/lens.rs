//! What of a room a viewer sees, in a form the database applies to rows before it counts them or takes the
//! newest.
//!
//! Invariant: what cannot be known is not seen. A room whose visibility or a user whose membership changed
//! too often to look at all of it shows less, never more.

use colonnade_rooms::{Result, Room};
use colonnade_rules::visibility::{Since, Visibility, stretches};
use colonnade_storage::rooms::{aggregations::Lens, members};

use super::{Standing, Timeline, Viewer};

/// Changes of a room's visibility that are looked at, from the newest on: each is found by the state
/// before the next. Rooms have one or two.
const VISIBILITIES_MAX: usize = 100;
/// Changes of a user's membership of a room that are looked at, the newest: people come and go a few
/// times, bridges some dozens.
const TURNS_MAX: i64 = 1_000;

impl Timeline {
    /// Returns what of a room the viewer sees, in a form the database can apply to rows before it
    /// counts them or takes the newest.
    pub(super) async fn lens(&self, viewer: &Viewer, room: &Room) -> Result<Lens> {
        let ignored = self.account_data.ignored(viewer.user).await?;
        let ignored = ignored.iter().map(AsRef::as_ref);
        let ignored = self.context.interned.find_users(ignored).await?.into_values().collect();
        let point = self.rooms.viewpoint(viewer.user, room.nid).await?;
        let visibilities = self.visibilities(room).await?;
        let is_open = |since: &Since<Visibility>| {
            matches!(since.value, Visibility::Shared | Visibility::WorldReadable)
        };
        let knows_all = visibilities.first().is_some_and(|first| first.pos == 0);
        if point.standing == Standing::Joined && knows_all && visibilities.iter().all(is_open) {
            return Ok(Lens::all_but(ignored));
        }
        let turns = members::turns(&self.context.db, room.nid, viewer.user, TURNS_MAX).await?;
        let turns: Vec<_> = turns
            .into_iter()
            .map(|(pos, membership)| Since { pos, value: membership.state() })
            .collect();
        Ok(Lens::new(&stretches(&visibilities, &turns, point.joined_upto), ignored))
    }

    /// Returns what a room's history visibility was from which position on, oldest first.
    async fn visibilities(&self, room: &Room) -> Result<Vec<Since<Visibility>>> {
        let mut state = Some(self.rooms.head(room.nid).await?.state);
        let mut found = Vec::new();
        while let Some(at) = state {
            if found.len() == VISIBILITIES_MAX {
                break;
            }
            let event = self.rooms.state_event_at(at, "m.room.history_visibility", "").await?;
            let pos = event.as_ref().and_then(|event| event.pos).unwrap_or(0);
            let value = Visibility::of(event.as_ref().map(|event| &*event.event));
            found.push(Since { pos, value });
            state = event.and_then(|event| event.state_before);
        }
        found.reverse();
        Ok(found)
    }
}

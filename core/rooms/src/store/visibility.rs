//! What a user may see of events, by the history visibility and the user's membership at each of them. The
//! states of all of them are asked at once.
//!
//! Whoever names an event by its id is answered by [`Store::seen`]: one that is not there, one of another
//! room and one he may not see are the same to him. Nothing outside `rooms` finds an event by its id in
//! another way.

use std::collections::{BTreeSet, HashMap};

use colonnade_model::session::Session;
use colonnade_model::{
    nid::{RoomNid, StateNid, UserNid},
    ruma::{EventId, UserId},
};
use colonnade_rules::visibility::{Around, Sight, Visibility, may_see, may_see_state};
use colonnade_storage::rooms::{events::EventFlags, members::Membership};
use std::sync::Arc;

use super::{Room, RoomEvent, Store, viewpoint::Viewpoint};
use crate::Result;

/// An event that somebody may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The viewer's membership after it.
    pub membership: Membership,
    /// The viewer may know the state it happened in.
    pub shows_state: bool,
}

/// Who looks.
#[derive(Debug, Clone, Copy)]
pub struct Eye<'a> {
    /// The user.
    pub user: UserNid,
    /// The user's id.
    pub user_id: &'a UserId,
}

impl<'a> From<&'a Session> for Eye<'a> {
    fn from(session: &'a Session) -> Self {
        Self { user: session.user, user_id: &session.user_id }
    }
}

/// What a state says about the viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct ViewerState {
    visibility: Visibility,
    membership: Option<Membership>,
}

impl RoomEvent {
    /// Tells whether it is part of its room, and neither rejected nor soft-failed.
    pub fn is_shown(&self) -> bool {
        let hidden = EventFlags::REJECTED.0 | EventFlags::SOFT_FAILED.0 | EventFlags::OUTLIER.0;
        self.flags.0 & hidden == 0
    }
}

impl Store {
    /// Finds an event of a room by its id, if the viewer may see it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn seen(
        &self,
        eye: Eye<'_>,
        room: &Room,
        event_id: &EventId,
    ) -> Result<Option<(Arc<RoomEvent>, Seen)>> {
        let Some(event) = self.event_by_id(event_id).await? else { return Ok(None) };
        if event.room != room.nid {
            return Ok(None);
        }
        let seen = self.sights(eye, &[&event]).await?.pop().flatten();
        Ok(seen.map(|seen| (event, seen)))
    }

    /// Returns the room of an event that somebody names by its id alone, for a look at it in that room by
    /// [`Store::seen`]: what is not seen there is not there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn room_of(&self, event_id: &EventId) -> Result<Option<Arc<Room>>> {
        match self.event_by_id(event_id).await? {
            Some(event) => self.room(event.room).await.map(Some),
            None => Ok(None),
        }
    }

    /// Says of each of these events, which may be of several rooms, whether the viewer may see it. What is
    /// shown to nobody is seen by nobody.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sights(&self, eye: Eye<'_>, events: &[&RoomEvent]) -> Result<Vec<Option<Seen>>> {
        let rooms: BTreeSet<RoomNid> = events.iter().map(|event| event.room).collect();
        let rooms: Vec<RoomNid> = rooms.into_iter().collect();
        let points = self.viewpoints(eye.user, &rooms).await?;
        self.sights_from(eye, events, &points).await
    }

    /// [`Store::sights`] where it is known from where the viewer looks at their rooms.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sights_from(
        &self,
        eye: Eye<'_>,
        events: &[&RoomEvent],
        points: &HashMap<RoomNid, Viewpoint>,
    ) -> Result<Vec<Option<Seen>>> {
        let said = self.said(eye, events).await?;
        let said_by = |state: Option<StateNid>| {
            state.and_then(|state| said.get(&state)).copied().unwrap_or_default()
        };
        let hidden = EventFlags::REJECTED.0 | EventFlags::SOFT_FAILED.0;
        let sights = events.iter().map(|event| {
            // Everybody may know what became of himself: an invite that ended, a ban. Also of an invitation to
            // a room of which nothing else is known here.
            let is_own = event.event.membership().is_some()
                && event.event.state_key() == Some(eye.user_id.as_str());
            let is_shown = !event.flags.has(EventFlags::OUTLIER) || is_own && event.pos.is_some();
            if event.flags.0 & hidden != 0 || !is_shown {
                return None;
            }
            let (before, after) = (said_by(event.state_before), said_by(event.state_after));
            let joined_upto = points.get(&event.room).and_then(|point| point.joined_upto);
            let state = |said: ViewerState| said.membership.map(Membership::state);
            let sight = Sight {
                visibility: Around { before: before.visibility, after: after.visibility },
                membership: Around { before: state(before), after: state(after) },
                joined_later: joined_upto.is_some_and(|upto| event.pos.unwrap_or(0) < upto),
            };
            (is_own || may_see(&sight)).then(|| Seen {
                membership: after.membership.unwrap_or(Membership::Leave),
                shows_state: may_see_state(&sight),
            })
        });
        Ok(sights.collect())
    }

    /// Looks up what the states around some events say about the viewer.
    async fn said(
        &self,
        eye: Eye<'_>,
        events: &[&RoomEvent],
    ) -> Result<HashMap<StateNid, ViewerState>> {
        let around = |event: &&RoomEvent| [event.state_before, event.state_after];
        let states: BTreeSet<StateNid> = events.iter().flat_map(around).flatten().collect();
        let states: Vec<StateNid> = states.into_iter().collect();
        let visibilities =
            self.state_events_across(&states, "m.room.history_visibility", "").await?;
        let members =
            self.state_events_across(&states, "m.room.member", eye.user_id.as_str()).await?;
        let said = states.into_iter().map(|state| {
            let visibility = Visibility::of(visibilities.get(&state).map(|found| &*found.event));
            let membership = members.get(&state).and_then(|found| found.event.membership());
            let membership = membership.as_ref().and_then(Membership::of);
            (state, ViewerState { visibility, membership })
        });
        Ok(said.collect())
    }
}

//! The state of a room as a user may read it: now for members, as it was when their last stay ended for
//! those who left.

use colonnade_model::{
    MatrixError,
    nid::StateNid,
    ruma::{RoomId, events::room::member::MembershipState},
    token::{SyncToken, TimelineToken},
};
use colonnade_rooms::{Result, Room};
use colonnade_rules::event::{ClientFormat, Event};
use colonnade_storage::rooms::{
    events::{self, Range, StoredEvent},
    heads as room_rows,
    members::{self, Membership},
    state::Part,
};
use serde_json::value::RawValue;
use std::sync::Arc;

use super::{Bundles, JoinedMembers, Shown, Standing, StateEvents, Timeline, Viewer};

/// The place before everything in a timeline.
const BEFORE_ALL: i64 = i64::MIN;

/// The state of a room that somebody may read.
pub struct Readable {
    /// The room.
    pub room: Arc<Room>,
    /// The newest state he may read.
    pub state: StateNid,
    /// The place in the timeline beyond which he may read nothing, for those who left.
    pub upto: Option<i64>,
}

impl Timeline {
    /// Finds the state of a room the viewer may read.
    ///
    /// # Errors
    /// `M_FORBIDDEN` for those who are not and never were in the room, unless it is world readable.
    pub async fn readable_state(&self, viewer: &Viewer, room_id: &RoomId) -> Result<Readable> {
        let forbidden = || MatrixError::forbidden("you are not in this room");
        let room = self.rooms.find(room_id).await?.ok_or_else(forbidden)?;
        let db = &self.context.db;
        let head = room_rows::head(db, room.nid).await?.ok_or_else(forbidden)?;
        let point = self.rooms.viewpoint(viewer.user, room.nid).await?;
        if point.standing == Standing::Joined || self.is_world_readable(&room).await? {
            return Ok(Readable { room, state: head.state, upto: None });
        }
        let Standing::Left(ended) = point.standing else { return Err(forbidden().into()) };
        let state = self.rooms.states().at(room.nid, ended).await?;
        let state = state.filter(|_| point.remembers()).ok_or_else(forbidden)?;
        let range = Range { after: ended - 1, upto: ended, newest_first: true, limit: 1 };
        let upto =
            events::live(db, room.nid, range).await?.events.pop().and_then(|row| row.timeline_key);
        Ok(Readable { room, state, upto })
    }

    /// Reads the whole state of a room.
    ///
    /// # Errors
    /// `M_FORBIDDEN` outside the room.
    pub async fn state(self: &Arc<Self>, viewer: Viewer, room_id: &RoomId) -> Result<StateEvents> {
        let Readable { room, state, .. } = self.readable_state(&viewer, room_id).await?;
        self.state_events(viewer, room, state, &[Part::Core, Part::Member], |_| true).await
    }

    /// Reads one state event: its content, or all of it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is none, `M_FORBIDDEN` outside the room.
    pub async fn state_event(
        &self,
        viewer: &Viewer,
        room_id: &RoomId,
        event_type: &str,
        state_key: &str,
        whole: bool,
    ) -> Result<Box<RawValue>> {
        let not_found = || MatrixError::not_found("no such state event");
        let Readable { room, state, .. } = self.readable_state(viewer, room_id).await?;
        let found = self.rooms.state_event_at(state, event_type, state_key).await?;
        let page = [Shown::from(found.ok_or_else(not_found)?)];
        let Some(shown) = page.first().filter(|_| !whole) else {
            let format = ClientFormat::WithRoom;
            let json = self.render(viewer, &room, &page, format, Bundles::None).await?;
            return Ok(json.into_iter().next().ok_or_else(not_found)?);
        };
        Ok(shown.row.event.shown_content().to_owned())
    }

    /// Reads the member events of a room, now or at a token. At the token of a sync from before the
    /// room there are none.
    ///
    /// # Errors
    /// `M_FORBIDDEN` outside the room; `M_INVALID_PARAM` for a bad token.
    pub async fn members(
        self: &Arc<Self>,
        viewer: Viewer,
        room_id: &RoomId,
        at: Option<&str>,
        keep: impl Fn(&MembershipState) -> bool + Send + 'static,
    ) -> Result<StateEvents> {
        let Readable { room, mut state, upto } = self.readable_state(&viewer, room_id).await?;
        if let Some(token) = at {
            let mut timeline_key = self.place_of(&room, token).await?.0;
            if token.parse::<TimelineToken>().is_err() {
                if timeline_key == BEFORE_ALL {
                    return Ok(StateEvents::none(self, viewer, room));
                }
                // No sync told those who left of anything later.
                timeline_key = timeline_key.min(upto.unwrap_or(i64::MAX));
            }
            match self.state_at(&viewer, &room, timeline_key).await? {
                Some(then) => state = then,
                None => return Ok(StateEvents::none(self, viewer, room)),
            }
        }
        let keep = move |event: &Event| event.membership().is_some_and(|state| keep(&state));
        self.state_events(viewer, room, state, &[Part::Member], keep).await
    }

    /// Returns the state at a place in the timeline, which lies between two events: whoever sees one of
    /// them, and not only since it is about himself, may know it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` for others.
    async fn state_at(
        &self,
        viewer: &Viewer,
        room: &Room,
        timeline_key: i64,
    ) -> Result<Option<StateNid>> {
        let db = &self.context.db;
        let before = Range { after: i64::MIN, upto: timeline_key, newest_first: true, limit: 1 };
        let after = Range { after: timeline_key, upto: i64::MAX, newest_first: false, limit: 1 };
        let before = events::timeline(db, room.nid, before).await?.events.pop();
        let after = events::timeline(db, room.nid, after).await?.events.pop();
        let around = before.clone().into_iter().chain(after).collect();
        let seen = self.visible(viewer, self.shown(around).await?).await?;
        if !seen.iter().any(|shown| shown.shows_state) {
            return Err(MatrixError::forbidden("you may not see the room as it was then").into());
        }
        let then = match before {
            None => self.beginning(room).await?,
            before => before,
        };
        Ok(then.and_then(|row| row.state_after))
    }

    /// Reads the event by which a room had its first member. A place before everything comes from
    /// the timeline of somebody who saw the room whole: he knows at least of its creator.
    async fn beginning(&self, room: &Room) -> Result<Option<StoredEvent>> {
        const CREATE_AND_JOIN: i64 = 2;
        let range =
            Range { after: i64::MIN, upto: i64::MAX, newest_first: false, limit: CREATE_AND_JOIN };
        Ok(events::timeline(&self.context.db, room.nid, range).await?.events.pop())
    }

    /// Reads who is in a room now.
    ///
    /// # Errors
    /// `M_FORBIDDEN` for those who are not in the room.
    pub async fn joined_members(
        self: &Arc<Self>,
        viewer: &Viewer,
        room_id: &RoomId,
    ) -> Result<JoinedMembers> {
        let forbidden = || MatrixError::forbidden("you are not in this room");
        let room = self.rooms.find(room_id).await?.ok_or_else(forbidden)?;
        let member = members::get(&self.context.db, room.nid, viewer.user).await?;
        if member.is_none_or(|member| member.membership != Membership::Join) {
            return Err(forbidden().into());
        }
        Ok(JoinedMembers::of(self, &room))
    }

    /// Makes ready to read the events of some parts of a room state that are wanted.
    pub(super) async fn state_events(
        self: &Arc<Self>,
        viewer: Viewer,
        room: Arc<Room>,
        state: StateNid,
        parts: &[Part],
        keep: impl Fn(&Event) -> bool + Send + 'static,
    ) -> Result<StateEvents> {
        let mut events = StateEvents::none(self, viewer, room);
        // Read from the end.
        for part in parts.iter().rev() {
            let entries = self.rooms.states().list(state, *part).await?;
            events.left.extend(entries.iter().map(|entry| entry.event));
        }
        events.keep = Box::new(keep);
        Ok(events)
    }

    /// Finds the place in a room's timeline that a token of ours means: timeline tokens say it,
    /// sync tokens mean the last event their holder was told of.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for anything else.
    pub async fn place_of(&self, room: &Room, token: &str) -> Result<TimelineToken> {
        if let Ok(place) = token.parse() {
            return Ok(place);
        }
        let sync = SyncToken::decode(token, &self.context.token_key)
            .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
        let pos = sync.positions.get(colonnade_model::stream::Stream::Events);
        let range = Range { after: 0, upto: pos, newest_first: true, limit: 1 };
        let row = events::live(&self.context.db, room.nid, range).await?.events.pop();
        Ok(TimelineToken(row.and_then(|row| row.timeline_key).unwrap_or(BEFORE_ALL)))
    }
}

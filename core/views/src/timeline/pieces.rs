//! Answers that list all there is, however much: read and rendered a piece at a time, so that the process
//! holds one piece of each, and not the whole.

use std::sync::Arc;

use colonnade_model::{
    nid::{EventNid, RoomNid, UserNid},
    ruma::OwnedUserId,
};
use colonnade_rooms::{Result, Room};
use colonnade_rules::event::{ClientFormat, Event};
use colonnade_storage::rooms::members;
use serde_json::value::RawValue;

use super::{Bundles, Shown, Timeline, Viewer};

/// Bytes of a piece: it ends with the event that reaches them.
const PIECE_BYTES: usize = 256 * 1024;
/// Events or members of one piece at most: their local ids are known, their sizes are asked for together.
const PIECE_MAX: usize = 500;

/// The events of a room state that somebody may read, rendered as they are asked for.
pub struct StateEvents {
    timeline: Arc<Timeline>,
    viewer: Viewer,
    room: Arc<Room>,
    pub(super) left: Vec<EventNid>,
    pub(super) keep: Box<dyn Fn(&Event) -> bool + Send>,
}

impl StateEvents {
    /// Makes a list without events.
    pub(super) fn none(timeline: &Arc<Timeline>, viewer: Viewer, room: Arc<Room>) -> Self {
        let timeline = Arc::clone(timeline);
        Self { timeline, viewer, room, left: Vec::new(), keep: Box::new(|_| true) }
    }

    /// Returns the next events, about 256 KiB at most as they are stored, maybe none of them wanted;
    /// `None` at the end.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(&mut self) -> Result<Option<Vec<Box<RawValue>>>> {
        let Some(some) = self.timeline.next_piece(&mut self.left).await? else { return Ok(None) };
        let events = self.timeline.rooms.events(&some).await?.into_iter();
        let events = events.filter(|found| (self.keep)(&found.event));
        let page: Vec<Shown> = events.map(Shown::from).collect();
        let (format, none) = (ClientFormat::WithRoom, Bundles::None);
        self.timeline.render(&self.viewer, &self.room, &page, format, none).await.map(Some)
    }
}

impl Timeline {
    /// Takes the events of the next piece from the end of what is left; `None` if nothing is.
    pub(crate) async fn next_piece(
        &self,
        left: &mut Vec<EventNid>,
    ) -> Result<Option<Vec<EventNid>>> {
        if left.is_empty() {
            return Ok(None);
        }
        let next = left.iter().rev().take(PIECE_MAX).copied();
        let fitting = self.fitting(next, PIECE_BYTES).await?;
        let mut piece = left.split_off(left.len() - fitting);
        piece.reverse();
        Ok(Some(piece))
    }
}

/// Who is in a room now, as it is asked for.
pub struct JoinedMembers {
    timeline: Arc<Timeline>,
    room: RoomNid,
    after: UserNid,
}

/// A member's name and picture in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberProfile {
    /// Who it is.
    pub user_id: OwnedUserId,
    /// The name.
    pub display_name: Option<String>,
    /// The picture, an `mxc://` address.
    pub avatar_url: Option<String>,
}

impl JoinedMembers {
    pub(super) fn of(timeline: &Arc<Timeline>, room: &Room) -> Self {
        Self { timeline: Arc::clone(timeline), room: room.nid, after: UserNid(0) }
    }

    /// Returns the next members, about 256 KiB of names and pictures at most; `None` at the end.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(&mut self) -> Result<Option<Vec<MemberProfile>>> {
        let context = &self.timeline.context;
        let size_max = (PIECE_MAX as i64, PIECE_BYTES as i64);
        let joined = members::joined_page(&context.db, self.room, self.after, size_max).await?;
        let Some(last) = joined.last() else { return Ok(None) };
        self.after = last.user;
        let nids: Vec<UserNid> = joined.iter().map(|member| member.user).collect();
        let users = context.interned.user_ids(&nids).await?;
        let profiles = users.into_iter().zip(joined).map(|(user_id, member)| MemberProfile {
            user_id,
            display_name: member.display_name,
            avatar_url: member.avatar_url,
        });
        Ok(Some(profiles.collect()))
    }
}

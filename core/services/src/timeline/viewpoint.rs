//! From where somebody looks at a room: he is in it, he was in it until something ended his last stay,
//! or he never was. Whatever shows a part of a room asks here, and nowhere else is it decided.
//!
//! Invariants:
//! 1. "When he left" is what ended the last stay. What became of the user afterwards ends nothing: an
//!    invite turned down, a knock taken back, a ban of somebody outside.
//! 2. What cannot be known is not seen: a room whose visibility or a user whose membership changed too
//!    often to look at all of it shows less, never more.

use std::collections::HashMap;

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::Position,
};
use colonnade_rules::visibility::{Since, Visibility, stretches};
use colonnade_storage::{
    aggregations::Lens,
    members::{self, Member, Membership, Stay},
};

use super::{Timeline, Viewer};
use crate::{Result, rooms::Room};

/// Changes of a room's visibility that are looked at, from the newest on: each is found by the state
/// before the next. Rooms have one or two.
const VISIBILITIES_MAX: usize = 100;
/// Changes of a user's membership of a room that are looked at, the newest: people come and go a few
/// times, bridges some dozens.
const TURNS_MAX: i64 = 1_000;

/// How somebody stands to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In it.
    Joined,
    /// Was in it, until this position.
    Left(Position),
    /// Never was in it.
    Never,
}

/// From where somebody looks at a room.
#[derive(Debug, Clone)]
pub(crate) struct Viewpoint {
    /// How he stands to it.
    pub(crate) standing: Standing,
    /// Up to where in the stream events count as from before he joined; none if he never did.
    pub(crate) joined_upto: Option<Position>,
    /// What he is in it now; none if he never had to do with it.
    pub(super) member: Option<Member>,
}

impl Viewpoint {
    fn of(stay: Option<&Stay>, member: Option<Member>) -> Self {
        let (standing, joined_upto) = match stay {
            Some(Stay { ended: None, .. }) => (Standing::Joined, Some(Position::MAX)),
            Some(Stay { joined, ended: Some(ended), .. }) => {
                (Standing::Left(*ended), Some(*joined))
            }
            None => (Standing::Never, None),
        };
        Self { standing, joined_upto, member }
    }

    fn joined(member: Member) -> Self {
        let (standing, joined_upto) = (Standing::Joined, Some(Position::MAX));
        Self { standing, joined_upto, member: Some(member) }
    }

    /// Returns the position up to which he may know the room's state; 0 for none at all.
    pub(crate) fn state_upto(&self) -> Position {
        match self.standing {
            Standing::Joined => Position::MAX,
            Standing::Left(ended) => ended,
            Standing::Never => 0,
        }
    }

    /// Tells whether he has not asked to forget the room.
    pub(super) fn remembers(&self) -> bool {
        self.member.as_ref().is_some_and(|member| !member.forgotten)
    }
}

impl Timeline {
    /// Returns from where a user looks at a room now.
    pub(crate) async fn viewpoint(&self, user: UserNid, room: RoomNid) -> Result<Viewpoint> {
        let found = self.viewpoints(user, &[room]).await?.remove(&room);
        Ok(found.unwrap_or_else(|| Viewpoint::of(None, None)))
    }

    /// Returns from where a user looks at rooms now; nothing for rooms he never had to do with.
    pub(super) async fn viewpoints(
        &self,
        user: UserNid,
        rooms: &[RoomNid],
    ) -> Result<HashMap<RoomNid, Viewpoint>> {
        let db = &self.context.db;
        let known = members::of_user_in(db, user, rooms).await?;
        let (inside, outside): (Vec<Member>, Vec<Member>) =
            known.into_iter().partition(|member| member.membership == Membership::Join);
        let mut points: HashMap<RoomNid, Viewpoint> = HashMap::with_capacity(rooms.len());
        points.extend(inside.into_iter().map(|member| (member.room, Viewpoint::joined(member))));
        if outside.is_empty() {
            return Ok(points);
        }
        let left: Vec<RoomNid> = outside.iter().map(|member| member.room).collect();
        let stays = members::stays(db, user, &left, Position::MAX).await?;
        let stays: HashMap<RoomNid, Stay> =
            stays.into_iter().map(|stay| (stay.room, stay)).collect();
        points.extend(
            outside
                .into_iter()
                .map(|member| (member.room, Viewpoint::of(stays.get(&member.room), Some(member)))),
        );
        Ok(points)
    }

    /// Returns from where a member of a room looked at it at a position.
    pub(crate) async fn viewpoint_at(&self, member: &Member, upto: Position) -> Result<Viewpoint> {
        let db = &self.context.db;
        let stays = members::stays(db, member.user, &[member.room], upto).await?;
        Ok(Viewpoint::of(stays.first(), Some(member.clone())))
    }

    /// Returns what of a room the viewer sees, in a form the database can apply to rows before it
    /// counts them or takes the newest.
    pub(super) async fn lens(&self, viewer: &Viewer, room: &Room) -> Result<Lens> {
        let ignored = self.account_data.ignored(viewer.user).await?;
        let ignored = ignored.iter().map(AsRef::as_ref);
        let ignored = self.context.interned.find_users(ignored).await?.into_values().collect();
        let point = self.viewpoint(viewer.user, room.nid).await?;
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

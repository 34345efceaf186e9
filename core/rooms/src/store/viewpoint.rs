//! From where somebody looks at a room: he is in it, he was in it until something ended his last stay,
//! or he never was. Whatever shows a part of a room asks here, and nowhere else is it decided.
//!
//! Invariant: "when he left" is what ended the last stay. What became of the user afterwards ends nothing:
//! an invite turned down, a knock taken back, a ban of somebody outside.

use std::collections::HashMap;

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::Position,
};
use colonnade_storage::rooms::members::{self, Member, Membership, Stay};

use super::Store;
use crate::Result;

/// How somebody stands to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In it.
    Joined,
    /// Was in it, until this position.
    Left(Position),
    /// Never was in it.
    Never,
}

/// From where somebody looks at a room.
#[derive(Debug, Clone)]
pub struct Viewpoint {
    /// How he stands to it.
    pub standing: Standing,
    /// Up to where in the stream events count as from before he joined; none if he never did.
    pub joined_upto: Option<Position>,
    /// What he is in it now; none if he never had to do with it.
    pub member: Option<Member>,
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

    /// Returns from where somebody looks at a room he is in.
    pub fn joined(member: Member) -> Self {
        let (standing, joined_upto) = (Standing::Joined, Some(Position::MAX));
        Self { standing, joined_upto, member: Some(member) }
    }

    /// Returns the position up to which he may know the room's state; 0 for none at all.
    pub fn state_upto(&self) -> Position {
        match self.standing {
            Standing::Joined => Position::MAX,
            Standing::Left(ended) => ended,
            Standing::Never => 0,
        }
    }

    /// Tells whether he has not asked to forget the room.
    pub fn remembers(&self) -> bool {
        self.member.as_ref().is_some_and(|member| !member.forgotten)
    }
}

impl Store {
    /// Returns from where a user looks at a room now.
    pub async fn viewpoint(&self, user: UserNid, room: RoomNid) -> Result<Viewpoint> {
        let found = self.viewpoints(user, &[room]).await?.remove(&room);
        Ok(found.unwrap_or_else(|| Viewpoint::of(None, None)))
    }

    /// Returns from where a user looks at rooms now; nothing for rooms he never had to do with.
    pub async fn viewpoints(
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
    pub async fn viewpoint_at(&self, member: &Member, upto: Position) -> Result<Viewpoint> {
        let db = &self.context.db;
        let stays = members::stays(db, member.user, &[member.room], upto).await?;
        Ok(Viewpoint::of(stays.first(), Some(member.clone())))
    }
}

#[cfg(test)]
mod tests {
    use colonnade_model::nid::EventNid;

    use super::*;

    fn member(membership: Membership, forgotten: bool) -> Member {
        Member {
            room: RoomNid(1),
            user: UserNid(2),
            membership,
            event: EventNid(3),
            sender: UserNid(2),
            pos: 9,
            forgotten,
            display_name: None,
            avatar_url: None,
        }
    }

    #[test]
    fn a_viewpoint_is_that_of_the_last_stay() {
        let stay = |joined, ended| Stay { room: RoomNid(1), joined, ended };
        for (stay, standing, joined_upto, state_upto) in [
            (None, Standing::Never, None, 0),
            (Some(stay(4, None)), Standing::Joined, Some(Position::MAX), Position::MAX),
            (Some(stay(4, Some(7))), Standing::Left(7), Some(4), 7),
        ] {
            let point = Viewpoint::of(stay.as_ref(), Some(member(Membership::Leave, false)));
            assert_eq!((point.standing, point.joined_upto), (standing, joined_upto));
            assert_eq!(point.state_upto(), state_upto, "{standing:?}");
        }
        let joined = Viewpoint::joined(member(Membership::Join, false));
        assert_eq!((joined.standing, joined.state_upto()), (Standing::Joined, Position::MAX));
    }

    #[test]
    fn who_never_was_there_or_forgot_it_does_not_remember_a_room() {
        assert!(!Viewpoint::of(None, None).remembers());
        assert!(!Viewpoint::of(None, Some(member(Membership::Leave, true))).remembers());
        assert!(Viewpoint::of(None, Some(member(Membership::Leave, false))).remembers());
    }
}

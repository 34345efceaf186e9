//! What a room shows to somebody who is not in it, and to whom it shows anything at all.

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::RoomNid,
    ruma::{
        MxcUri, OwnedRoomId, RoomAliasId, RoomId, RoomOrAliasId, UInt, UserId,
        events::room::member::MembershipState,
        room::{JoinRuleSummary, RestrictedSummary, RoomSummary},
    },
};
use colonnade_rooms::{Result, Room, unknown_room};
use colonnade_storage::rooms::{
    members::Membership,
    summaries::{self, Summary},
};
use serde_json::Value;

use super::Directory;

/// Rooms looked at in a join rule that asks for membership of other rooms: bounds what one look at a
/// room costs.
const ALLOWED_ROOMS_MAX: usize = 100;

/// A room as one user may see it.
pub(super) struct Seen {
    pub(super) summary: RoomSummary,
    pub(super) membership: Option<Membership>,
}

impl Directory {
    /// Returns what a room shows to a user, or to somebody who is not logged in, and the user's
    /// membership of it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such room or it shows nothing to them.
    pub async fn summary(
        &self,
        session: Option<&Session>,
        name: &RoomOrAliasId,
    ) -> Result<(RoomSummary, Option<MembershipState>)> {
        let room = self.rooms.resolve(name).await?;
        let seen = self.look(session, &room).await?.ok_or_else(unknown_room)?;
        Ok((seen.summary, seen.membership.map(Membership::state)))
    }

    /// Tells whether everybody may read a room.
    pub(super) async fn is_world_readable(&self, room: &Room) -> Result<bool> {
        let summary = summaries::get(&self.context.db, room.nid).await?;
        Ok(summary.is_some_and(|summary| is_world_readable(&summary)))
    }

    /// Returns what a room shows; `None` if nothing.
    ///
    /// Source: Matrix v1.19, client-server, `GET /rooms/{roomId}/hierarchy`, on which rooms are
    /// returned.
    pub(super) async fn look(
        &self,
        session: Option<&Session>,
        room: &Room,
    ) -> Result<Option<Seen>> {
        let Some(summary) = summaries::get(&self.context.db, room.nid).await? else {
            return Ok(None);
        };
        let membership = match session {
            Some(session) => self.rooms.membership(room.nid, session.user).await?,
            None => None,
        };
        let restricted = matches!(summary.join_rule.as_str(), "restricted" | "knock_restricted");
        let allowed = if restricted { self.allowed_rooms(room.nid).await? } else { Vec::new() };
        let visible = match (membership, summary.join_rule.as_str()) {
            (Some(Membership::Join | Membership::Invite), _) => true,
            _ if is_world_readable(&summary) => true,
            (Some(Membership::Ban), _) => false,
            (_, "public" | "knock" | "knock_restricted") => true,
            (_, "restricted") => match session {
                Some(session) => self.is_in_one(session, &allowed).await?,
                None => false,
            },
            _ => false,
        };
        if !visible {
            return Ok(None);
        }
        Ok(Some(Seen { summary: shown(room, summary, allowed), membership }))
    }

    /// Returns the rooms whose members may join this one.
    pub(super) async fn allowed_rooms(&self, room: RoomNid) -> Result<Vec<OwnedRoomId>> {
        let rules = self.rooms.state_event(room, "m.room.join_rules", "").await?;
        let rules: Value =
            rules.and_then(|event| event.event.content_as().ok()).unwrap_or(Value::Null);
        let conditions = rules["allow"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rooms = conditions.iter().filter_map(|condition| {
            let kind = condition["type"].as_str();
            let room_id = condition["room_id"].as_str()?;
            RoomId::parse(room_id).ok().filter(|_| kind == Some("m.room_membership"))
        });
        Ok(rooms.take(ALLOWED_ROOMS_MAX).collect())
    }

    pub(super) async fn is_in_one(&self, session: &Session, rooms: &[OwnedRoomId]) -> Result<bool> {
        for room_id in rooms {
            let Some(room) = self.rooms.find(room_id).await? else { continue };
            let membership = self.rooms.membership(room.nid, session.user).await?;
            if membership == Some(Membership::Join) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells whether a user may look at a room at all, for an error that says so.
    pub(super) fn not_shown(user: &UserId, room_id: &RoomId) -> MatrixError {
        MatrixError::forbidden(format!("{room_id} shows nothing to {user}, or does not exist"))
    }
}

pub(super) fn is_world_readable(summary: &Summary) -> bool {
    summary.history_visibility == "world_readable"
}

pub(super) fn shown(room: &Room, summary: Summary, allowed: Vec<OwnedRoomId>) -> RoomSummary {
    let world_readable = is_world_readable(&summary);
    let allowed = RestrictedSummary { allowed_room_ids: allowed };
    RoomSummary {
        room_id: room.room_id.clone(),
        canonical_alias: summary.canonical_alias.and_then(|alias| RoomAliasId::parse(alias).ok()),
        name: summary.name,
        topic: summary.topic,
        avatar_url: summary.avatar_url.map(|url| <&MxcUri>::from(url.as_str()).to_owned()),
        room_type: summary.room_type.map(Into::into),
        num_joined_members: UInt::new_saturating(u64::try_from(summary.joined).unwrap_or(0)),
        join_rule: match summary.join_rule.as_str() {
            "public" => JoinRuleSummary::Public,
            "knock" => JoinRuleSummary::Knock,
            "private" => JoinRuleSummary::Private,
            "restricted" => JoinRuleSummary::Restricted(allowed),
            "knock_restricted" => JoinRuleSummary::KnockRestricted(allowed),
            // A rule nobody knows lets nobody in but the invited.
            _ => JoinRuleSummary::Invite,
        },
        world_readable,
        guest_can_join: summary.guest_access,
        encryption: summary.encryption.map(Into::into),
        room_version: Some(room.version.clone()),
    }
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::{RoomVersionId, room_id};

    use super::*;

    fn summary(join_rule: &str, allowed: Vec<OwnedRoomId>) -> RoomSummary {
        let version = RoomVersionId::V11;
        let (rules, nid) = (version.rules().unwrap(), RoomNid(1));
        let room = Room { nid, room_id: room_id!("!a:b").to_owned(), version, rules };
        let (join_rule, history_visibility) = (join_rule.to_owned(), "shared".to_owned());
        let summary = Summary { join_rule, history_visibility, joined: 3, ..Summary::default() };
        shown(&room, summary, allowed)
    }

    #[test]
    fn a_rule_that_nobody_knows_lets_in_the_invited_only() {
        for (rule, expected) in [
            ("public", JoinRuleSummary::Public),
            ("knock", JoinRuleSummary::Knock),
            ("private", JoinRuleSummary::Private),
            ("invite", JoinRuleSummary::Invite),
            ("org.example.maybe", JoinRuleSummary::Invite),
            ("", JoinRuleSummary::Invite),
        ] {
            assert_eq!(
                format!("{:?}", summary(rule, Vec::new()).join_rule),
                format!("{expected:?}")
            );
        }
    }

    #[test]
    fn a_restricted_room_says_whose_members_come_in() {
        let allowed = vec![room_id!("!space:b").to_owned()];
        for rule in ["restricted", "knock_restricted"] {
            let shown = summary(rule, allowed.clone());
            let (JoinRuleSummary::Restricted(rooms) | JoinRuleSummary::KnockRestricted(rooms)) =
                shown.join_rule
            else {
                panic!("{rule}")
            };
            assert_eq!(rooms.allowed_room_ids, allowed);
        }
    }
}

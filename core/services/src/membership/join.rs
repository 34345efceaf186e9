//! Coming into a room: joining, by invitation, by membership elsewhere or freely, and knocking.

use std::sync::Arc;

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::{
        CanonicalJsonObject, CanonicalJsonValue, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId,
        RoomOrAliasId, UserId,
    },
};
use colonnade_rooms::{
    Error, Result, Room,
    proposal::{content, member},
    unknown_room,
};
use colonnade_storage::rooms::{
    members::{self, Membership},
    servers,
};
use serde_json::{Map, Value, json};

use super::{elsewhere::Located, profile::showing, service::MembershipService};

/// Members looked at to find one who may let others in. Whoever may is nearly always an early one.
const AUTHORISERS_MAX: i64 = 1_000;
/// Rooms a join rule may name: bounds what one join costs.
const ALLOWED_ROOMS_MAX: usize = 100;
/// This server is in none of the rooms that would let somebody in (Matrix v1.19, server-server, make_join).
const UNABLE_TO_AUTHORISE_JOIN: &str = "M_UNABLE_TO_AUTHORISE_JOIN";
/// Nobody of this server may let somebody in (Matrix v1.19, server-server, make_join).
const UNABLE_TO_GRANT_JOIN: &str = "M_UNABLE_TO_GRANT_JOIN";

impl MembershipService {
    /// Joins a room, and tells whether that changed anything: whoever is in it already stays as he
    /// is. `extra` is what the client wants in the member event besides: a reason, a name for this
    /// room, keys of its own.
    ///
    /// # Errors
    /// `M_NOT_FOUND` for an unknown alias, `M_FORBIDDEN` if the room does not let the user in.
    pub async fn join(
        &self,
        session: &Session,
        name: &RoomOrAliasId,
        via: &[OwnedServerName],
        extra: Map<String, Value>,
    ) -> Result<(Arc<Room>, bool)> {
        let joined = self.join_known(session, name, via, extra).await;
        self.keeping_quiet(session, name, joined).await
    }

    /// Says the same of a room that does not exist and of one that refuses a stranger who has its id
    /// from nowhere. Aliases are public, and tell themselves whether they exist.
    async fn keeping_quiet<T>(
        &self,
        session: &Session,
        name: &RoomOrAliasId,
        done: Result<T>,
    ) -> Result<T> {
        let (Err(Error::Client(error)), Ok(room_id)) = (&done, <&RoomId>::try_from(name)) else {
            return done;
        };
        let is_refusal = matches!(&*error.errcode, "M_FORBIDDEN" | "M_NOT_FOUND");
        if !is_refusal || self.is_no_secret_to(session, room_id).await? {
            return done;
        }
        Err(MatrixError::forbidden("there is no such room, or it does not let you in").into())
    }

    /// Tells whether a user may know that a room exists: he had to do with it, or everybody may join.
    async fn is_no_secret_to(&self, session: &Session, room_id: &RoomId) -> Result<bool> {
        let Some(room) = self.rooms.find(room_id).await? else { return Ok(false) };
        if self.rooms.membership(room.nid, session.user).await?.is_some() {
            return Ok(true);
        }
        let rules = self.rooms.state_event(room.nid, "m.room.join_rules", "").await?;
        let rules: Value =
            rules.and_then(|event| event.event.content_as().ok()).unwrap_or(Value::Null);
        Ok(rules["join_rule"] == "public")
    }

    async fn join_known(
        &self,
        session: &Session,
        name: &RoomOrAliasId,
        via: &[OwnedServerName],
        extra: Map<String, Value>,
    ) -> Result<(Arc<Room>, bool)> {
        let located = self.locate(name, via).await?;
        if let Some(room) = &located.room
            && self.rooms.membership(room.nid, session.user).await? == Some(Membership::Join)
        {
            return Ok((Arc::clone(room), false));
        }
        let extra = joining(extra)?;
        let names_itself = ["displayname", "avatar_url"].iter().any(|key| extra.contains_key(*key));
        let shown = self.profile(&session.user_id).await?;
        let mut content = content(showing(json!({ "membership": "join" }), &shown))?;
        for (key, value) in extra {
            content.insert(key, value);
        }
        let room = match self.joinable_here(&located).await? {
            Some(room) => match self.join_here(session, &room, content.clone()).await {
                Err(refused) if self.may_be_late(&room, session, &refused).await? => {
                    let joined = self.join_over(&located, &session.user_id, &content).await;
                    joined.map_err(|_| refused)?
                }
                joined => joined.map(|()| room)?,
            },
            None => self.join_over(&located, &session.user_id, &content).await?,
        };
        self.keep_if_welcome(session, &room).await?;
        if !names_itself {
            self.came_in(&session.user_id, &shown).await?;
        }
        Ok((room, true))
    }

    async fn join_here(
        &self,
        session: &Session,
        room: &Arc<Room>,
        mut content: CanonicalJsonObject,
    ) -> Result<()> {
        self.complete_member(session, room, session.user_id.as_str(), &mut content).await?;
        let join = member(&session.user_id, &session.user_id, content);
        self.rooms.propose(room, join).await?;
        Ok(())
    }

    /// Tells whether another server in a room may let a user in whom this one refuses: an invitation that was
    /// answered there a moment ago may be on its way, and there may be somebody who may let others in.
    async fn may_be_late(&self, room: &Room, session: &Session, refused: &Error) -> Result<bool> {
        let Error::Client(why) = refused else { return Ok(false) };
        let codes = ["M_FORBIDDEN", UNABLE_TO_AUTHORISE_JOIN, UNABLE_TO_GRANT_JOIN];
        if !codes.contains(&&*why.errcode) {
            return Ok(false);
        }
        let others = servers::of_rooms(&self.context.db, &[room.nid]).await?;
        let membership = self.rooms.membership(room.nid, session.user).await?;
        Ok(membership != Some(Membership::Ban) && others.iter().any(|other| other.joined > 0))
    }

    /// Returns a room that this server is in, or that lives here alone.
    async fn joinable_here(&self, located: &Located) -> Result<Option<Arc<Room>>> {
        let Some(room) = &located.room else {
            if located.servers.is_empty() {
                return Err(unknown_room().into());
            }
            return Ok(None);
        };
        Ok((!self.rooms.is_elsewhere(room).await?).then(|| Arc::clone(room)))
    }

    /// Asks to be let into a room.
    ///
    /// # Errors
    /// `M_NOT_FOUND` for an unknown alias, `M_FORBIDDEN` if the room takes no knocks.
    pub async fn knock(
        &self,
        session: &Session,
        name: &RoomOrAliasId,
        via: &[OwnedServerName],
        reason: Option<&str>,
    ) -> Result<OwnedRoomId> {
        let knocked = self.knock_known(session, name, via, reason).await;
        self.keeping_quiet(session, name, knocked).await
    }

    async fn knock_known(
        &self,
        session: &Session,
        name: &RoomOrAliasId,
        via: &[OwnedServerName],
        reason: Option<&str>,
    ) -> Result<OwnedRoomId> {
        let located = self.locate(name, via).await?;
        let user = &session.user_id;
        let content = self.member_content(user, "knock", reason).await?;
        match self.joinable_here(&located).await? {
            Some(room) => drop(self.rooms.propose(&room, member(user, user, content)).await?),
            None => drop(self.knock_over(&located, user, &content).await?),
        }
        Ok(located.room_id)
    }

    /// Makes the content of a member event for a user of this server, with his profile.
    pub(crate) async fn member_content(
        &self,
        user_id: &UserId,
        membership: &str,
        reason: Option<&str>,
    ) -> Result<CanonicalJsonObject> {
        let mut member = json!({ "membership": membership });
        if self.rooms.is_local(user_id) && matches!(membership, "join" | "invite" | "knock") {
            member = showing(member, &self.profile(user_id).await?);
        }
        if let Some(reason) = reason {
            member["reason"] = reason.into();
        }
        Ok(content(member)?)
    }

    /// Checks a member event a user wants to send, and adds who lets him in where the room asks
    /// for that.
    ///
    /// # Errors
    /// `M_FORBIDDEN` for an invitation to another server, and when nothing lets the user in;
    /// `M_INVITE_BLOCKED`.
    pub(crate) async fn complete_member(
        &self,
        session: &Session,
        room: &Room,
        state_key: &str,
        content: &mut CanonicalJsonObject,
    ) -> Result<()> {
        let membership = content.get("membership").and_then(CanonicalJsonValue::as_str);
        match membership {
            Some("invite") => {
                let invited = UserId::parse(state_key)
                    .map_err(|_| MatrixError::invalid_param("not a user id"))?;
                self.require_invitable(&session.user_id, &invited).await?;
            }
            Some("join") if state_key == session.user_id.as_str() => {
                self.require_guests_welcome(session, room).await?;
                // Ours to say, not the client's.
                content.remove("join_authorised_via_users_server");
                if let Some(authoriser) = self.authoriser(session.user, room).await? {
                    let key = "join_authorised_via_users_server".to_owned();
                    content.insert(key, authoriser.to_string().into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds to the join of a user of another server who lets him in, where the room asks for that.
    ///
    /// # Errors
    /// `M_FORBIDDEN`, `M_UNABLE_TO_AUTHORISE_JOIN` when this server cannot know, and `M_UNABLE_TO_GRANT_JOIN`
    /// when nobody of it may let anybody in: another server may.
    pub(crate) async fn authorise_join(
        &self,
        room: &Room,
        user: &UserId,
        content: &mut CanonicalJsonObject,
    ) -> Result<()> {
        let user = self.context.interned.user(user).await?;
        if let Some(authoriser) = self.authoriser(user, room).await? {
            let key = "join_authorised_via_users_server".to_owned();
            content.insert(key, authoriser.to_string().into());
        }
        Ok(())
    }

    /// Finds who lets a user into a room that asks for membership of other rooms; `None` where the
    /// user needs nobody.
    ///
    /// Source: Matrix v1.19, client-server, "Restricted rooms".
    async fn authoriser(&self, user: UserNid, room: &Room) -> Result<Option<OwnedUserId>> {
        let rules = self.rooms.state_event(room.nid, "m.room.join_rules", "").await?;
        let rules: Value =
            rules.and_then(|event| event.event.content_as().ok()).unwrap_or(Value::Null);
        let restricted = match rules["join_rule"].as_str() {
            Some("restricted") => room.rules.authorization.restricted_join_rule,
            Some("knock_restricted") => room.rules.authorization.knock_restricted_join_rule,
            _ => false,
        };
        let membership = self.rooms.membership(room.nid, user).await?;
        let welcome = matches!(membership, Some(Membership::Join | Membership::Invite));
        if !restricted || welcome || membership == Some(Membership::Ban) {
            return Ok(None);
        }
        match self.meets_a_condition(user, &rules).await? {
            Some(true) => {}
            Some(false) => {
                let why = "you are in none of the rooms whose members may join this one";
                return Err(MatrixError::forbidden(why).into());
            }
            None => {
                let why = "this server is in none of the rooms whose members may join this one";
                return Err(MatrixError::new(400, UNABLE_TO_AUTHORISE_JOIN, why).into());
            }
        }
        let found = self.inviter(room).await?;
        let why = "nobody here can let you in";
        let nobody = || MatrixError::new(400, UNABLE_TO_GRANT_JOIN, why);
        Ok(Some(found.ok_or_else(nobody)?))
    }

    /// Tells whether a user is in one of the rooms that a join rule names; `None` when he is in none that is
    /// known here, and some are not.
    async fn meets_a_condition(&self, user: UserNid, rules: &Value) -> Result<Option<bool>> {
        let mut knows_all = true;
        let conditions = rules["allow"].as_array().map(Vec::as_slice).unwrap_or_default();
        for condition in conditions.iter().take(ALLOWED_ROOMS_MAX) {
            let room_id = condition["room_id"].as_str().and_then(|id| RoomId::parse(id).ok());
            let (Some("m.room_membership"), Some(room_id)) = (condition["type"].as_str(), room_id)
            else {
                continue;
            };
            match self.rooms.find(&room_id).await? {
                Some(room) if self.rooms.is_resident(&room).await? => {
                    let membership = self.rooms.membership(room.nid, user).await?;
                    if membership == Some(Membership::Join) {
                        return Ok(Some(true));
                    }
                }
                _ => knows_all = false,
            }
        }
        Ok(knows_all.then_some(false))
    }

    /// Finds a member of this server who may invite.
    async fn inviter(&self, room: &Room) -> Result<Option<OwnedUserId>> {
        let Some(levels) = self.rooms.power_levels(room).await? else { return Ok(None) };
        let db = &self.context.db;
        let kinds = [Membership::Join];
        let joined = members::first_members(db, room.nid, &kinds, AUTHORISERS_MAX).await?;
        let users: Vec<_> = joined.iter().map(|member| member.user).collect();
        let ids = self.context.interned.user_ids(&users).await?;
        Ok(ids.into_iter().find(|user| self.rooms.is_local(user) && levels.may_invite(user)))
    }
}

/// Returns what of a client's body goes into its join.
fn joining(mut extra: Map<String, Value>) -> Result<CanonicalJsonObject, MatrixError> {
    // Read by the server, not meant for the room.
    for key in ["membership", "third_party_signed", "join_authorised_via_users_server"] {
        extra.remove(key);
    }
    for key in ["reason", "displayname", "avatar_url"] {
        if extra.get(key).is_some_and(|value| !value.is_string()) {
            return Err(MatrixError::bad_json(format!("{key} is not text")));
        }
    }
    content(Value::Object(extra))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn joined(extra: Value) -> Result<Value, MatrixError> {
        let Value::Object(extra) = extra else { panic!("an object") };
        joining(extra).map(|content| Value::from(CanonicalJsonValue::Object(content)))
    }

    #[test]
    fn what_the_server_reads_of_a_join_does_not_go_into_the_room() {
        let extra = json!({
            "membership": "ban", "third_party_signed": {}, "reason": "curious",
            "join_authorised_via_users_server": "@a:b", "displayname": "A", "org.example": [1],
        });
        let left = json!({ "reason": "curious", "displayname": "A", "org.example": [1] });
        assert_eq!(joined(extra).unwrap(), left);
    }

    #[test]
    fn what_people_read_of_a_join_is_text() {
        for key in ["reason", "displayname", "avatar_url"] {
            let error = joined(json!({ (key): 5 })).unwrap_err();
            assert_eq!(error.errcode, "M_BAD_JSON", "{key}");
        }
        assert_eq!(joined(json!({ "x": 0.5 })).unwrap_err().errcode, "M_BAD_JSON");
    }
}

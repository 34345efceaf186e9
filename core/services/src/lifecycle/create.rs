//! Creating a room as a client asks: the request becomes a plan, and the plan a room.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{
        OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomVersionId, UserId,
        events::TimelineEventType,
    },
    session::Session,
};
use colonnade_rooms::{
    Result, Room,
    founding::{RoomPlan, alias_taken, rules_of},
    proposal::{Proposal, content, member, state_event},
};
use colonnade_storage::rooms::directory;
use serde_json::{Value, json};

use super::{
    presets::{self, Preset},
    service::RoomLifecycle,
};
use crate::membership::showing;

/// Users invited at once at most: each is an event that is signed and written with the room.
const INVITES_MAX: usize = 100;
/// State events given at once at most, for the same reason.
const INITIAL_STATE_MAX: usize = 200;

/// What somebody wants in a new room.
///
/// Source: Matrix v1.19, client-server, `POST /createRoom`.
#[derive(Debug, Clone, Default)]
pub struct NewRoomRequest {
    /// Further content of the create event.
    pub creation_content: Option<Value>,
    /// State events: `type`, `state_key` (empty if missing), `content`.
    pub initial_state: Vec<Value>,
    /// Users to invite.
    pub invite: Vec<OwnedUserId>,
    /// The invitations are to a conversation.
    pub is_direct: bool,
    /// Its name.
    pub name: Option<String>,
    /// Its topic.
    pub topic: Option<String>,
    /// What replaces parts of the default power levels.
    pub power_levels: Option<Value>,
    /// What kind of room it is; by default public if published, private if not.
    pub preset: Option<Preset>,
    /// The local part of its alias.
    pub alias_name: Option<String>,
    /// Its version.
    pub version: Option<RoomVersionId>,
    /// Whether it stands in the public directory.
    pub published: bool,
}

impl RoomLifecycle {
    /// Makes a room.
    ///
    /// # Errors
    /// `M_UNSUPPORTED_ROOM_VERSION`, `M_ROOM_IN_USE` for a taken alias, `M_INVALID_ROOM_STATE` when
    /// the request contradicts what a room can be, `M_INVITE_BLOCKED`, `M_BAD_JSON`, `M_INVALID_PARAM`.
    pub async fn create(&self, session: &Session, request: NewRoomRequest) -> Result<OwnedRoomId> {
        if request.invite.len() > INVITES_MAX {
            let why = format!("at most {INVITES_MAX} users can be invited with a new room");
            return Err(MatrixError::invalid_param(why).into());
        }
        if request.initial_state.len() > INITIAL_STATE_MAX {
            let why = format!("at most {INITIAL_STATE_MAX} state events can start a room");
            return Err(MatrixError::invalid_param(why).into());
        }
        let invited =
            request.invite.iter().cloned().chain(invited_by_state(&request.initial_state));
        for user_id in invited.filter(|user_id| *user_id != session.user_id) {
            self.membership.require_invitable(&session.user_id, &user_id).await?;
        }
        let mut plan = self.plan(session, request).await?;
        // Their servers sign their invitations, once there is a room.
        let elsewhere = |proposal: &mut Proposal| {
            let user = proposal.state_key.as_deref().and_then(|user| UserId::parse(user).ok());
            proposal.event_type == TimelineEventType::RoomMember
                && user.is_some_and(|user| !self.rooms.is_local(&user))
        };
        let invitations: Vec<Proposal> = plan.proposals.extract_if(.., elsewhere).collect();
        if let Some(alias) = &plan.alias {
            if directory::resolve(&self.context.db, alias).await?.is_some() {
                return Err(alias_taken().into());
            }
            let quota = self.context.settings.limits.aliases();
            directory::require_room(&self.context.db, session.user, quota).await?;
        }
        let room = self.found(session, plan).await?;
        for invitation in invitations {
            let invited = invitation.state_key.as_deref().and_then(|user| UserId::parse(user).ok());
            let Some(invited) = invited else { continue };
            let (sender, content) = (&invitation.sender, invitation.content);
            let sent = self.membership.invite_elsewhere(&room, sender, &invited, content).await;
            if let Err(error) = sent {
                // The room is there, and whoever made it can invite again.
                tracing::warn!(room = %room.room_id, %invited, %error, "cannot invite");
            }
        }
        Ok(room.room_id.clone())
    }

    /// Turns the request into events, in the order the specification gives.
    async fn plan(&self, session: &Session, request: NewRoomRequest) -> Result<RoomPlan> {
        let default = &self.context.settings.rooms.default_version;
        let version = request.version.clone().unwrap_or_else(|| default.clone());
        let rules = rules_of(&version)?;
        let creator = &session.user_id;
        let fallback = if request.published { Preset::Public } else { Preset::Private };
        let preset = request.preset.unwrap_or(fallback);
        let mut invited: Vec<OwnedUserId> =
            request.invite.iter().filter(|user| *user != creator).cloned().collect();
        invited.sort();
        invited.dedup();

        let mut create = request.creation_content.clone().unwrap_or_else(|| json!({}));
        let additional = rules.authorization.additional_room_creators;
        if preset == Preset::TrustedPrivate && additional && !invited.is_empty() {
            add_creators(&mut create, &invited)?;
        }
        let given = initial_state(&request.initial_state)?;
        let is_given = |kind: &str| given.iter().any(|(k, key, _)| k == kind && key.is_empty());

        let mut state: Vec<(String, String, Value)> = Vec::new();
        let mut add = |kind: &str, value: Value| {
            state.push((kind.to_owned(), String::new(), value));
        };
        if !is_given("m.room.power_levels") {
            let mut levels = presets::power_levels(preset, &rules, creator, &invited);
            override_levels(&mut levels, request.power_levels.as_ref())?;
            add("m.room.power_levels", levels);
        }
        let alias = self.alias(request.alias_name.as_deref())?;
        if let Some(alias) = alias.as_ref().filter(|_| !is_given("m.room.canonical_alias")) {
            add("m.room.canonical_alias", json!({ "alias": alias }));
        }
        for (kind, value) in preset.state() {
            if !is_given(kind) {
                add(kind, value);
            }
        }
        // Power levels first, whoever gives them: they decide about the rest.
        let (levels, others): (Vec<_>, Vec<_>) =
            given.into_iter().partition(|(kind, _, _)| kind == "m.room.power_levels");
        state.splice(0..0, levels);
        state.extend(others);
        if let Some(name) = &request.name {
            state.push(("m.room.name".to_owned(), String::new(), json!({ "name": name })));
        }
        if let Some(topic) = &request.topic {
            let rich = json!({ "topic": topic, "m.topic": { "m.text": [{ "body": topic }] } });
            state.push(("m.room.topic".to_owned(), String::new(), rich));
        }
        let mut proposals = Vec::with_capacity(state.len() + invited.len());
        for (kind, state_key, value) in state {
            proposals.push(state_event(creator, &kind, state_key, content(value)?));
        }
        for user_id in &invited {
            let mut invite = self.membership.member_content(user_id, "invite", None).await?;
            if request.is_direct {
                invite.insert("is_direct".to_owned(), true.into());
            }
            proposals.push(member(creator, user_id, invite));
        }
        let create = content(create)?;
        let (creator, published) = (creator.clone(), request.published);
        let replaces = None;
        Ok(RoomPlan { creator, version, rules, create, proposals, alias, published, replaces })
    }

    /// Makes the alias of a new room.
    fn alias(&self, name: Option<&str>) -> Result<Option<OwnedRoomAliasId>> {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
        let alias = format!("#{name}:{}", self.context.server_name);
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '#');
        let parsed = RoomAliasId::parse(alias.as_str());
        match parsed.ok().filter(|_| !name.contains(forbidden) && alias.len() <= 255) {
            Some(alias) => Ok(Some(alias)),
            None => {
                let why = "room_alias_name cannot be the local part of an alias";
                Err(MatrixError::invalid_param(why).into())
            }
        }
    }

    /// Makes a room by a plan; the creator's join shows the profile of the creator.
    ///
    /// # Errors
    /// `M_ROOM_IN_USE` when the alias is taken, or the room it replaces has been replaced.
    pub(super) async fn found(&self, session: &Session, plan: RoomPlan) -> Result<Arc<Room>> {
        let shown = self.membership.profile(&plan.creator).await?;
        let join = content(showing(json!({ "membership": "join" }), &shown))?;
        let room = self.rooms.found(session.user, &plan, &join).await?;
        self.membership.came_in(&plan.creator, &shown).await?;
        Ok(room)
    }
}

/// Adds users to the creators that the content of a create event names.
fn add_creators(create: &mut Value, users: &[OwnedUserId]) -> Result<()> {
    let object = create.as_object_mut();
    let object = object.ok_or_else(|| MatrixError::bad_json("creation_content is an object"))?;
    let creators = object.entry("additional_creators").or_insert_with(|| json!([]));
    let creators = creators.as_array_mut();
    let creators = creators.ok_or_else(|| MatrixError::bad_json("creators are a list"))?;
    for user in users {
        if !creators.iter().any(|creator| creator.as_str() == Some(user.as_str())) {
            creators.push(user.to_string().into());
        }
    }
    Ok(())
}

/// Reads the state events a client wants a room to start with.
fn initial_state(given: &[Value]) -> Result<Vec<(String, String, Value)>> {
    let mut state: Vec<(String, String, Value)> = Vec::with_capacity(given.len());
    for event in given {
        let bad = || MatrixError::bad_json("initial_state has `type`, `state_key`, `content`");
        let kind = event["type"].as_str().ok_or_else(bad)?.to_owned();
        let state_key = match &event["state_key"] {
            Value::Null => String::new(),
            Value::String(state_key) => state_key.clone(),
            _ => return Err(bad().into()),
        };
        let content = event["content"].is_object().then(|| event["content"].clone());
        state.push((kind, state_key, content.ok_or_else(bad)?));
    }
    Ok(state)
}

/// Returns whom member events in the initial state invite: another way to do what `invite` does.
fn invited_by_state(given: &[Value]) -> impl Iterator<Item = OwnedUserId> {
    let invites = given.iter().filter(|event| {
        event["type"] == "m.room.member" && event["content"]["membership"] == "invite"
    });
    invites.filter_map(|event| UserId::parse(event["state_key"].as_str()?).ok())
}

/// Replaces the parts of the power levels that the creator wants otherwise.
fn override_levels(levels: &mut Value, request: Option<&Value>) -> Result<()> {
    let Some(request) = request else { return Ok(()) };
    let request = request.as_object();
    let request = request
        .ok_or_else(|| MatrixError::bad_json("power_level_content_override is an object"))?;
    for (key, value) in request {
        levels[key] = value.clone();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::user_id;

    use super::*;

    #[test]
    fn creators_are_added_once_and_only_to_a_list() {
        let users = [user_id!("@a:b").to_owned(), user_id!("@c:b").to_owned()];
        let added = |mut create: Value| add_creators(&mut create, &users).map(|()| create);
        for (create, creators) in [
            (json!({}), json!(["@a:b", "@c:b"])),
            (json!({ "additional_creators": ["@c:b"] }), json!(["@c:b", "@a:b"])),
            (json!({ "additional_creators": ["@d:b"] }), json!(["@d:b", "@a:b", "@c:b"])),
        ] {
            assert_eq!(added(create).unwrap()["additional_creators"], creators);
        }
        assert!(added(json!([])).is_err());
        assert!(added(json!({ "additional_creators": "@d:b" })).is_err());
    }

    #[test]
    fn the_first_state_has_types_and_contents() {
        let event = json!({ "type": "a", "state_key": "k", "content": { "x": 1 } });
        let without_key = json!({ "type": "b", "content": {} });
        let null_key = json!({ "type": "c", "state_key": null, "content": {} });
        let read = initial_state(&[event, without_key, null_key]).unwrap();
        let named: Vec<(&str, &str)> =
            read.iter().map(|(kind, key, _)| (kind.as_str(), key.as_str())).collect();
        assert_eq!(named, [("a", "k"), ("b", ""), ("c", "")]);
        assert_eq!(read[0].2, json!({ "x": 1 }));
        for wrong in [
            json!({ "content": {} }),
            json!({ "type": 1, "content": {} }),
            json!({ "type": "a" }),
            json!({ "type": "a", "content": [] }),
            json!({ "type": "a", "content": {}, "state_key": 5 }),
            json!("a"),
        ] {
            assert!(initial_state(std::slice::from_ref(&wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_invitations_in_the_first_state_invite() {
        let member = |key: Value, membership: &str| {
            json!({
                "type": "m.room.member", "state_key": key, "content": { "membership": membership },
            })
        };
        let given = [
            member(json!("@a:b"), "invite"),
            member(json!("@c:b"), "ban"),
            member(json!("nobody"), "invite"),
            member(json!(null), "invite"),
            json!({ "type": "m.room.topic", "state_key": "@d:b", "content": { "membership": "invite" } }),
        ];
        assert_eq!(invited_by_state(&given).collect::<Vec<_>>(), [user_id!("@a:b")]);
    }

    #[test]
    fn overrides_replace_whole_parts_of_the_levels() {
        let levels = json!({ "users": { "@a:b": 100 }, "ban": 50 });
        let over = |request: Option<Value>| {
            let mut levels = levels.clone();
            override_levels(&mut levels, request.as_ref()).map(|()| levels)
        };
        assert_eq!(over(None).unwrap(), levels);
        let given = json!({ "users": { "@c:b": 1 }, "kick": 2 });
        let expected = json!({ "users": { "@c:b": 1 }, "ban": 50, "kick": 2 });
        assert_eq!(over(Some(given)).unwrap(), expected);
        assert!(over(Some(json!([1]))).is_err());
    }
}

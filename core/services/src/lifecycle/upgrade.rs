//! Replacing a room by one of another version: the new room takes over what can be taken over, the
//! old one points to it and falls silent.

use std::sync::Arc;

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{EventNid, StateNid},
    ruma::{
        CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, RoomId, RoomVersionId,
        events::TimelineEventType, room_version_rules::RoomVersionRules,
    },
};
use colonnade_rooms::{
    Error, Result, Room, RoomEvent, aliases_of,
    founding::{RoomPlan, rules_of},
    proposal::{CHANGED_MEANWHILE, Over, Proposal, content, state_event},
};
use colonnade_rules::power::with_integers;
use colonnade_storage::rooms::{
    directory,
    heads::{self, Head},
    members::Membership,
    state::Part,
};
use serde_json::{Value, json};

use super::service::RoomLifecycle;

/// State that a replacement takes over.
///
/// Source: Matrix v1.19, client-server, "Server behaviour" of room upgrades.
const TAKEN_OVER: [&str; 9] = [
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.space.child",
];
/// Bans that a replacement takes over at most: each is an event that is signed and written at once.
const BANS_MAX: usize = 1_000;

impl RoomLifecycle {
    /// Replaces a room. Of those who do so at the same time one makes the new room, and the others are
    /// told of it; so are those who come later and ask for the version that it has.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user may not close the room, or somebody replaces it by another version at
    /// this moment; `M_UNSUPPORTED_ROOM_VERSION`.
    pub async fn upgrade(
        &self,
        session: &Session,
        room_id: &RoomId,
        version: RoomVersionId,
        additional_creators: &[OwnedUserId],
    ) -> Result<Arc<Room>> {
        let rules = rules_of(&version)?;
        let old = self.rooms.joined_room(room_id, session.user).await?;
        let levels = self.rooms.power_levels(&old).await?;
        let may = levels.is_some_and(|levels| {
            levels.may_send_state(&session.user_id, &TimelineEventType::from("m.room.tombstone"))
        });
        if !may {
            return Err(MatrixError::forbidden("you may not replace this room").into());
        }
        let head = self.rooms.head(old.nid).await?;
        let core = self.rooms.state_events(head.state, Part::Core).await?;
        let tombstone = core.iter().find(|e| e.event.is_state(&"m.room.tombstone".into(), ""));
        if let Some(new) = self.replaced_by(&old, tombstone, &version).await? {
            return Ok(new);
        }
        let new = (version.clone(), rules, additional_creators);
        let plan = self.replacement(session, &old, &head, &core, new).await?;
        let new = match self.found(session, plan).await {
            // Somebody else was faster.
            Err(Error::Client(error)) if error.errcode == "M_ROOM_IN_USE" => {
                let before = tombstone.map(|tombstone| tombstone.nid);
                let faster = heads::successor(&self.context.db, old.nid, before).await?;
                let faster = faster.ok_or_else(|| Error::from(error))?;
                self.rooms.room(faster).await?
            }
            made => made?,
        };
        if new.version != version {
            let why = "somebody is replacing this room by one of another version";
            return Err(MatrixError::forbidden(why).into());
        }
        self.retire(session, &old, tombstone, &new).await?;
        Ok(new)
    }

    /// Returns the room that a tombstone points to, if it is a replacement of this version.
    async fn replaced_by(
        &self,
        old: &Room,
        tombstone: Option<&Arc<RoomEvent>>,
        version: &RoomVersionId,
    ) -> Result<Option<Arc<Room>>> {
        let content: Option<Value> = tombstone.and_then(|event| event.event.content_as().ok());
        let named = content.as_ref().and_then(|content| content["replacement_room"].as_str());
        let Some(named) = named.and_then(|named| RoomId::parse(named).ok()) else {
            return Ok(None);
        };
        let Some(new) = self.rooms.find(&named).await? else { return Ok(None) };
        // Whoever writes a tombstone may point anywhere.
        let follows =
            self.rooms.predecessor(&new).await?.is_some_and(|before| before.nid == old.nid);
        Ok((follows && new.version == *version).then_some(new))
    }

    /// Plans the room that replaces one in this state.
    async fn replacement(
        &self,
        session: &Session,
        old: &Room,
        head: &Head,
        core: &[Arc<RoomEvent>],
        (version, rules, additional_creators): (RoomVersionId, RoomVersionRules, &[OwnedUserId]),
    ) -> Result<RoomPlan> {
        let find = |kind: &str| core.iter().find(|e| e.event.is_state(&kind.into(), ""));
        let create = self.replacement_create(old, &rules, find("m.room.create"), &head.extremities);
        let mut create = create.await?;
        create.remove("additional_creators");
        if rules.authorization.additional_room_creators && !additional_creators.is_empty() {
            let ids = additional_creators.iter().map(|id| id.to_string().into()).collect();
            create.insert("additional_creators".to_owned(), CanonicalJsonValue::Array(ids));
        }
        let creator = &session.user_id;
        let mut proposals = Vec::new();
        if let Some(levels) = find("m.room.power_levels") {
            let mut taken = with_integers(&levels.event);
            fit_levels(&mut taken, old, creator, additional_creators, &rules);
            proposals.push(state_event(
                creator,
                "m.room.power_levels",
                String::new(),
                content(taken)?,
            ));
        }
        proposals.extend(taken_over(core, creator));
        proposals.extend(self.bans(head.state, creator).await?);
        let published = directory::published(&self.context.db, old.nid).await?.unwrap_or(false);
        Ok(RoomPlan {
            creator: creator.clone(),
            version,
            rules,
            create,
            proposals,
            alias: None,
            published,
            replaces: Some((old.nid, find("m.room.tombstone").map(|tombstone| tombstone.nid))),
        })
    }

    /// Makes the content of the create event: that of the old room, and where that was.
    async fn replacement_create(
        &self,
        old: &Room,
        rules: &RoomVersionRules,
        create: Option<&Arc<RoomEvent>>,
        extremities: &[EventNid],
    ) -> Result<CanonicalJsonObject> {
        let mut taken: Value = match create {
            Some(create) => create.event.content_as().unwrap_or_else(|_| json!({})),
            None => json!({}),
        };
        let mut predecessor = json!({ "room_id": old.room_id });
        // Where the room id is the hash of this event the old room cannot be closed before it, and no
        // last event is known (Matrix v1.19, "Room version 12").
        let knows_last = rules.event_format.require_room_create_room_id;
        if let Some(last) = extremities.last().filter(|_| knows_last)
            && let Some(last) = self.rooms.event(*last).await?
        {
            predecessor["event_id"] = last.event.event_id().as_str().into();
        }
        taken["predecessor"] = predecessor;
        Ok(canonical_fields(taken))
    }

    async fn bans(&self, state: StateNid, creator: &OwnedUserId) -> Result<Vec<Proposal>> {
        let members = self.rooms.state_events(state, Part::Member).await?;
        let banned = members.iter().filter(|member| {
            member.event.membership().as_ref().and_then(Membership::of) == Some(Membership::Ban)
        });
        let mut bans = Vec::new();
        for member in banned.take(BANS_MAX) {
            let state_key = member.event.state_key().unwrap_or_default().to_owned();
            let taken: Value = member.event.content_as().unwrap_or_else(|_| json!({}));
            let taken = canonical_fields(taken);
            bans.push(state_event(creator, "m.room.member", state_key, taken));
        }
        Ok(bans)
    }

    /// Takes out of the content of a canonical alias what does not point to the room (any more).
    async fn without_dangling(&self, room: &Room, content: &mut Value) -> Result<()> {
        let named = aliases_of(content).unwrap_or_default();
        let pointing = directory::pointing_to(&self.context.db, room.nid, &named).await?;
        let points = |alias: &Value| pointing.iter().any(|known| alias.as_str() == Some(known));
        if !content.get("alias").is_some_and(points) {
            content.as_object_mut().map(|content| content.remove("alias"));
        }
        if let Some(others) = content.get_mut("alt_aliases").and_then(Value::as_array_mut) {
            others.retain(points);
        }
        Ok(())
    }

    /// Points the old room to the new one, moves its aliases, and lets nobody speak in it. Two may do
    /// so at the same time for the same new room.
    async fn retire(
        &self,
        session: &Session,
        old: &Arc<Room>,
        before: Option<&Arc<RoomEvent>>,
        new: &Arc<Room>,
    ) -> Result<()> {
        let creator = &session.user_id;
        let body = "This room has been replaced";
        let tombstone = content(json!({ "body": body, "replacement_room": new.room_id }))?;
        let mut tombstone = state_event(creator, "m.room.tombstone", String::new(), tombstone);
        tombstone.over = Some(Over::read(before.map(|before| &**before)));
        match self.rooms.propose(old, tombstone).await {
            // It points there already: who was faster does the rest, too.
            Err(Error::Client(error)) if error.status == CHANGED_MEANWHILE => return Ok(()),
            sent => sent.map(drop)?,
        }
        let (source, target) = (old.nid, new.nid);
        self.context
            .db
            .write(move |tx| {
                Box::pin(async move {
                    directory::move_aliases(tx, source, target).await?;
                    directory::set_published(tx, source, false).await
                })
            })
            .await?;
        let kind = "m.room.canonical_alias";
        if let Some(canonical) = self.rooms.state_event(old.nid, kind, "").await? {
            let mut taken: Value = canonical.event.content_as().unwrap_or_else(|_| json!({}));
            self.without_dangling(new, &mut taken).await?;
            let moved = state_event(creator, kind, String::new(), canonical_fields(taken));
            // Refused to who is not in the new room, since another made it.
            ignoring_refusal(self.rooms.propose(new, moved).await.map(drop))?;
            let none = |_| Some(json!({}));
            ignoring_refusal(self.rooms.change_state(creator, old, kind, none).await)?;
        }
        let silent = self
            .rooms
            .change_state(creator, old, "m.room.power_levels", |levels| Some(silenced(levels)));
        ignoring_refusal(silent.await)
    }
}

/// Lets pass what would be good to have in a retired room; the user may not have the power for it.
fn ignoring_refusal(sent: Result<()>) -> Result<()> {
    match sent {
        // An alias may be deleted at the same time.
        Err(Error::Client(error)) if ["M_FORBIDDEN", "M_BAD_ALIAS"].contains(&&*error.errcode) => {
            Ok(())
        }
        other => other,
    }
}

/// Returns power levels by which only those above the usual level may speak and invite.
fn silenced(mut levels: Value) -> Value {
    if !levels.is_object() {
        levels = json!({});
    }
    let default = levels["users_default"].as_i64().unwrap_or(0);
    let silent = default.saturating_add(1).max(50);
    for key in ["events_default", "invite"] {
        let level = levels[key].as_i64().unwrap_or(0);
        levels[key] = level.max(silent).into();
    }
    levels
}

/// Returns what may be the content of a new event: all fields of an old one but those that are not canonical JSON, which
/// older room versions let pass.
fn canonical_fields(content: Value) -> CanonicalJsonObject {
    let Value::Object(fields) = content else { return CanonicalJsonObject::new() };
    let canonical = |(key, value): (String, Value)| Some((key, value.try_into().ok()?));
    fields.into_iter().filter_map(canonical).collect()
}

fn taken_over(core: &[Arc<RoomEvent>], creator: &OwnedUserId) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    for kind in TAKEN_OVER {
        for found in core.iter().filter(|e| e.event.event_type().to_string() == kind) {
            let state_key = found.event.state_key().unwrap_or_default().to_owned();
            let taken: Value = found.event.content_as().unwrap_or_else(|_| json!({}));
            let taken = canonical_fields(taken);
            // A space's child that was removed has no content; nothing else needs an empty one.
            if !taken.is_empty() && (state_key.is_empty() || kind == "m.space.child") {
                proposals.push(state_event(creator, kind, state_key, taken));
            }
        }
    }
    proposals
}

/// Makes the old room's power levels fit the new version and its creators.
fn fit_levels(
    levels: &mut Value,
    old: &Room,
    creator: &OwnedUserId,
    additional: &[OwnedUserId],
    rules: &RoomVersionRules,
) {
    if rules.authorization.explicitly_privilege_room_creators {
        if let Some(users) = levels["users"].as_object_mut() {
            users.remove(creator.as_str());
            for user in additional {
                users.remove(user.as_str());
            }
        }
        if !levels["events"].is_object() {
            levels["events"] = json!({});
        }
        let tombstone = levels["events"]["m.room.tombstone"].as_i64().unwrap_or(100);
        levels["events"]["m.room.tombstone"] = tombstone.max(150).into();
        return;
    }
    // From a version in which creators stand above all levels: they need one here.
    if old.rules.authorization.explicitly_privilege_room_creators
        || levels["users"].get(creator.as_str()).is_none()
    {
        if !levels["users"].is_object() {
            levels["users"] = json!({});
        }
        levels["users"][creator.as_str()] = 100.into();
        // Read before it is written: a level that is not there must not become null, which no room takes.
        let tombstone = levels["events"].get("m.room.tombstone").and_then(Value::as_i64);
        if tombstone.is_some_and(|level| level > 100) {
            levels["events"]["m.room.tombstone"] = 100.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use colonnade_model::{
        nid::RoomNid,
        ruma::{room_id, user_id},
    };

    use super::*;

    /// What levels become when a room of one version is replaced by one of another.
    fn fitted(mut levels: Value, old: RoomVersionId, new: RoomVersionId) -> Value {
        let rules = old.rules().unwrap();
        let room_id = room_id!("!old:b").to_owned();
        let old = Room { nid: RoomNid(1), room_id, version: old, rules };
        let (creator, more) = (user_id!("@a:b").to_owned(), [user_id!("@c:b").to_owned()]);
        fit_levels(&mut levels, &old, &creator, &more, &new.rules().unwrap());
        levels
    }

    #[test]
    fn creators_have_no_level_where_they_stand_above_all() {
        let levels = json!({ "users": { "@a:b": 100, "@c:b": 50, "@d:b": 50 }, "events": {} });
        let fitted = fitted(levels, RoomVersionId::V11, RoomVersionId::V12);
        assert_eq!(fitted["users"], json!({ "@d:b": 50 }));
        assert_eq!(fitted["events"]["m.room.tombstone"], 150);
        let without = super::tests::fitted(json!({}), RoomVersionId::V11, RoomVersionId::V12);
        assert_eq!(without["events"], json!({ "m.room.tombstone": 150 }));
    }

    #[test]
    fn creators_get_a_level_where_they_need_one() {
        let (v11, v12) = (RoomVersionId::V11, RoomVersionId::V12);
        let high = json!({ "users": {}, "events": { "m.room.tombstone": 150, "x": 1 } });
        let levels = fitted(high, v12.clone(), v11.clone());
        assert_eq!(levels["users"], json!({ "@a:b": 100 }));
        assert_eq!(levels["events"], json!({ "m.room.tombstone": 100, "x": 1 }));
        let has_one = json!({ "users": { "@a:b": 70 }, "events": { "m.room.tombstone": 120 } });
        assert_eq!(fitted(has_one.clone(), RoomVersionId::V10, v11), has_one);
    }

    #[test]
    fn a_level_that_is_not_there_does_not_become_null() {
        let (v10, v11) = (RoomVersionId::V10, RoomVersionId::V11);
        for events in [json!({}), json!({ "x": 1 }), json!("of an old version"), json!(null)] {
            let levels = json!({ "users_default": 100, "events": events });
            let fitted = fitted(levels, v10.clone(), v11.clone());
            assert_eq!(fitted["events"], events);
            assert_eq!(fitted["users"], json!({ "@a:b": 100 }));
        }
    }

    #[test]
    fn in_a_retired_room_only_those_above_the_usual_speak_and_invite() {
        for (levels, speak, invite) in [
            (json!({}), 50, 50),
            (json!({ "users_default": 60 }), 61, 61),
            (json!({ "events_default": 80, "invite": 20 }), 80, 50),
            (json!({ "users_default": i64::MAX }), i64::MAX, i64::MAX),
            (json!("none"), 50, 50),
        ] {
            let silent = silenced(levels.clone());
            let expected = (&json!(speak), &json!(invite));
            assert_eq!((&silent["events_default"], &silent["invite"]), expected, "{levels}");
        }
    }

    #[test]
    fn a_retired_room_may_refuse_what_would_be_good_to_have() {
        assert!(ignoring_refusal(Err(MatrixError::forbidden("no").into())).is_ok());
        assert!(ignoring_refusal(Err(MatrixError::bad_alias("no").into())).is_ok());
        assert!(ignoring_refusal(Err(MatrixError::bad_json("no").into())).is_err());
        assert!(ignoring_refusal(Ok(())).is_ok());
    }
}

//! What is asked of an event of our users beyond the authorization rules, where the answer depends
//! on what is in the room: duplicate reactions, threads in threads, redactions of nothing, tombstones
//! that point at their own room, aliases that point elsewhere. What others may change before the commit
//! is demanded of it once more (`Demand`).

use std::collections::BTreeSet;

use colonnade_model::{
    MatrixError,
    ruma::{
        CanonicalJsonObject, CanonicalJsonValue, RoomAliasId, RoomId, UserId,
        events::TimelineEventType,
    },
};
use colonnade_rules::{auth::StateKey, event::relation::RelatesTo};
use colonnade_storage::{
    StorageError,
    rooms::{
        directory,
        members::{self, Membership},
        persist::Demand,
        relations, servers,
    },
};
use serde_json::Value;

use super::{PendingRoom, power_levels};
use crate::Result;
use crate::{
    proposal::Proposal,
    refusals::no_event,
    store::{RoomEvent, Store, visibility::Eye},
};

/// Checks a proposal.
///
/// # Errors
/// `M_DUPLICATE_ANNOTATION`, `M_UNKNOWN`, `M_NOT_FOUND`, `M_FORBIDDEN`, `M_INVALID_PARAM`, `M_BAD_ALIAS`
/// with what is wrong.
pub(crate) async fn proposal(
    pending: &mut PendingRoom,
    store: &Store,
    proposal: &Proposal,
) -> Result<()> {
    if proposal.event_type == TimelineEventType::RoomRedaction {
        redaction(pending, store, proposal).await?;
    }
    if proposal.event_type == TimelineEventType::from("m.room.tombstone") {
        tombstone(&pending.room.room_id, &proposal.content)?;
    }
    if proposal.event_type == TimelineEventType::RoomMember {
        membership(pending, store, proposal).await?;
    }
    if proposal.event_type == TimelineEventType::RoomCanonicalAlias
        && proposal.state_key.as_deref() == Some("")
    {
        canonical_alias(pending, store, proposal).await?;
    }
    if let Some(relates_to) = proposal.content.get("m.relates_to") {
        let relates_to = Value::from(relates_to.clone());
        if let Some(relates_to) = RelatesTo::read(&relates_to) {
            relation(pending, store, proposal, relates_to).await?;
        }
    }
    Ok(())
}

/// Refuses an invitation to whom too many wait for already, whether in all or from this sender: each of
/// them is in the first answer to whoever is invited, and a stranger can send them. Refuses somebody who
/// comes in and is in as many rooms as may be, for they are all in his.
async fn membership(pending: &mut PendingRoom, store: &Store, proposal: &Proposal) -> Result<()> {
    let wanted = proposal.content.get("membership").and_then(|wanted| wanted.as_str());
    let wanted = match wanted {
        Some("invite") => Membership::Invite,
        Some("join") => Membership::Join,
        Some("knock") => Membership::Knock,
        _ => return Ok(()),
    };
    let target = proposal.state_key.as_deref().map(UserId::parse);
    let Some(Ok(target)) = target else { return Ok(()) };
    let context = &store.context;
    let user = context.interned.find_user(&target).await?;
    let Some(user) = user.filter(|_| store.is_local(&target)) else { return Ok(()) };
    let stands = members::get(&context.db, pending.room.nid, user).await?;
    if stands.is_some_and(|stands| stands.membership == wanted) {
        return Ok(());
    }
    let limits = &context.settings.limits;
    if wanted != Membership::Invite {
        let present = members::present(&context.db, user).await?;
        let quota = limits.rooms();
        quota.require(present + 1, 0)?;
        pending.added.demands.push(Demand::Rooms { user, quota });
        return Ok(());
    }
    let sender = context.interned.user(&proposal.sender).await?;
    let (all, of_sender) = members::invitations(&context.db, user, sender).await?;
    let (in_all, per_sender) = limits.invites();
    in_all.require(all + 1, 0)?;
    per_sender.require(of_sender + 1, 0)?;
    let demand = Demand::Invitations { user, all: in_all, sender, of_sender: per_sender };
    pending.added.demands.push(demand);
    Ok(())
}

/// Refuses a canonical alias that newly calls an alias the room's own which does not point to it.
///
/// Source: Matrix v1.19, client-server, `PUT /rooms/{roomId}/state/{eventType}/{stateKey}`, error
/// responses 400.
async fn canonical_alias(
    pending: &mut PendingRoom,
    store: &Store,
    proposal: &Proposal,
) -> Result<()> {
    let invalid = || MatrixError::invalid_param("an alias is a string like #name:server");
    let content = Value::from(CanonicalJsonValue::Object(proposal.content.clone()));
    let wanted = aliases_of(&content).ok_or_else(invalid)?;
    let key: StateKey = (proposal.event_type.to_string().into(), String::new());
    let current = pending.look_up(store, pending.tip.state, std::slice::from_ref(&key)).await?;
    // It will be told that something else stands there by now.
    if proposal.over.as_ref().is_some_and(|over| !over.is(current.get(&key))) {
        return Ok(());
    }
    let known: Option<Value> = current.get(&key).and_then(|event| event.event.content_as().ok());
    let known = known.as_ref().and_then(aliases_of).unwrap_or_default();
    let new: BTreeSet<String> = wanted.into_iter().filter(|alias| !known.contains(alias)).collect();
    if new.iter().any(|alias| RoomAliasId::parse(alias.as_str()).is_err()) {
        return Err(invalid().into());
    }
    if new.is_empty() {
        return Ok(());
    }
    let new: Vec<String> = new.into_iter().collect();
    // The alias of a new room is written with it.
    if !pending.is_new() {
        let pointing = directory::pointing_to(&store.context.db, pending.room.nid, &new).await?;
        if let Some(dangling) = new.iter().find(|alias| !pointing.contains(alias)) {
            return Err(StorageError::Dangling(dangling.clone()).into());
        }
    }
    pending.added.demands.push(Demand::Aliases(new));
    Ok(())
}

/// Returns the alias and alternative aliases in a content; `None` when one is no string.
pub fn aliases_of(content: &Value) -> Option<Vec<String>> {
    let mut aliases = Vec::new();
    match content.get("alias") {
        None | Some(Value::Null) => {}
        // The empty string stands for none, as clients send it.
        Some(Value::String(alias)) if alias.is_empty() => {}
        Some(Value::String(alias)) => aliases.push(alias.clone()),
        Some(_) => return None,
    }
    match content.get("alt_aliases") {
        None | Some(Value::Null) => {}
        Some(Value::Array(alternatives)) => {
            for alternative in alternatives {
                aliases.push(alternative.as_str()?.to_owned());
            }
        }
        Some(_) => return None,
    }
    Some(aliases)
}

/// Source: Matrix v1.19, client-server, "Avoiding duplicate annotations" and "Threading" ("Server
/// behaviour": no thread starts at an event that relates to another).
async fn relation(
    pending: &PendingRoom,
    store: &Store,
    proposal: &Proposal,
    relates_to: RelatesTo,
) -> Result<()> {
    let found = pending.find(store, &relates_to.event_id).await?;
    let Some(parent) = found.filter(|found| found.room == pending.room.nid) else {
        // It may be on its way from another server.
        return Ok(());
    };
    let Err(refusal) = fits(pending, store, proposal, relates_to, &parent).await? else {
        return Ok(());
    };
    // Whoever may not see the parent is told nothing about it.
    if sees(pending, store, &proposal.sender, &parent).await? {
        Err(refusal.into())
    } else {
        Ok(())
    }
}

/// Says whether a proposal may relate to an event of its room so.
async fn fits(
    pending: &PendingRoom,
    store: &Store,
    proposal: &Proposal,
    relates_to: RelatesTo,
    parent: &RoomEvent,
) -> Result<Result<(), MatrixError>> {
    if relates_to.rel_type == "m.thread" && RelatesTo::of(&parent.event).is_some() {
        let why = "a thread cannot start at an event that relates to another";
        return Ok(Err(MatrixError::unknown(why)));
    }
    let Some(key) = relates_to.key.filter(|_| relates_to.rel_type == "m.annotation") else {
        return Ok(Ok(()));
    };
    let context = &store.context;
    let sender = context.interned.user(&proposal.sender).await?;
    let kind = context.interned.event_type(&proposal.event_type.to_string()).await?;
    let stored = relations::has_annotation(&context.db, parent.nid, sender, kind, &key).await?;
    if stored || pending.annotates(parent.nid, sender, kind, &key) {
        let why = "you have annotated this event so already";
        return Ok(Err(MatrixError::new(400, "M_DUPLICATE_ANNOTATION", why)));
    }
    Ok(Ok(()))
}

/// Tells whether a user may see an event of the room. One that is not committed yet nobody knows by its id
/// but who made it.
async fn sees(
    pending: &PendingRoom,
    store: &Store,
    user_id: &UserId,
    event: &RoomEvent,
) -> Result<bool> {
    if pending.is_fresh(event.nid) {
        return Ok(true);
    }
    let Some(user) = store.context.interned.find_user(user_id).await? else { return Ok(false) };
    let sights = store.sights(Eye { user, user_id }, &[event]).await?;
    Ok(sights.into_iter().flatten().next().is_some())
}

/// A room that replaces itself would lead clients around for ever.
fn tombstone(room_id: &RoomId, content: &CanonicalJsonObject) -> Result<()> {
    let successor = content.get("replacement_room").and_then(CanonicalJsonValue::as_str);
    if successor == Some(room_id.as_str()) {
        return Err(MatrixError::invalid_param("a room cannot be replaced by itself").into());
    }
    Ok(())
}

async fn redaction(pending: &mut PendingRoom, store: &Store, proposal: &Proposal) -> Result<()> {
    let Some(target) = &proposal.redacts else {
        return Err(MatrixError::bad_json("a redaction says what it `redacts`").into());
    };
    let state = pending.tip.state;
    let levels = power_levels::levels(pending, store, state).await?;
    let Some(target) = pending.find(store, target).await? else {
        // It may be on its way: whoever may redact anything redacts it when it comes.
        let may = levels.is_some_and(|levels| levels.may_redact_any(&proposal.sender));
        let others = servers::of_rooms(&store.context.db, &[pending.room.nid]).await?;
        let is_alone = others.iter().all(|other| other.joined <= 0);
        return if may && !is_alone { Ok(()) } else { Err(no_event().into()) };
    };
    if target.room != pending.room.nid || !sees(pending, store, &proposal.sender, &target).await? {
        return Err(no_event().into());
    }
    let may = levels.is_some_and(|levels| {
        levels.may_redact(&proposal.sender, target.event.sender())
            && *target.event.event_type() != TimelineEventType::RoomCreate
    });
    if !may {
        return Err(MatrixError::forbidden("you may not redact this event").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::room_id;
    use serde_json::json;

    use super::*;
    use crate::proposal::content;

    #[test]
    fn the_aliases_of_a_content_are_all_it_names() {
        let named = |content: Value| aliases_of(&content).map(|aliases| aliases.join(" "));
        for (content, expected) in [
            (json!({}), Some("")),
            (json!({ "alias": null, "alt_aliases": null }), Some("")),
            (json!({ "alias": "" }), Some("")),
            (json!({ "alias": "#a:b" }), Some("#a:b")),
            (json!({ "alias": "#a:b", "alt_aliases": ["#c:d", "#e:f"] }), Some("#a:b #c:d #e:f")),
            (json!({ "alias": 5 }), None),
            (json!({ "alt_aliases": "#a:b" }), None),
            (json!({ "alt_aliases": ["#a:b", 5] }), None),
        ] {
            assert_eq!(named(content.clone()).as_deref(), expected, "{content}");
        }
    }

    #[test]
    fn a_room_is_replaced_by_another_or_by_none() {
        let closed = |content_of: Value| {
            tombstone(room_id!("!a:b"), &content(content_of).unwrap()).map_err(
                |error| match error {
                    crate::Error::Client(error) => error.errcode,
                    other => panic!("{other}"),
                },
            )
        };
        assert_eq!(closed(json!({ "replacement_room": "!a:b" })), Err("M_INVALID_PARAM".into()));
        assert_eq!(closed(json!({ "replacement_room": "!c:b" })), Ok(()));
        assert_eq!(closed(json!({})), Ok(()));
        assert_eq!(closed(json!({ "replacement_room": ["!a:b"] })), Ok(()));
    }
}

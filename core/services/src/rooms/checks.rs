//! What is asked of an event of our users beyond the authorization rules, where the answer depends
//! on what is in the room: duplicate reactions, threads in threads, redactions of nothing, tombstones
//! that point at their own room.

use colonnade_model::{
    MatrixError,
    ruma::{CanonicalJsonValue, UserId, events::TimelineEventType},
};
use colonnade_storage::{
    members::{self, Membership},
    relations,
};
use serde_json::Value;

use super::{
    store::Store,
    unread,
    work::{Proposal, RelatesTo, Work},
};
use crate::Result;

/// Checks a proposal.
///
/// # Errors
/// `M_DUPLICATE_ANNOTATION`, `M_UNKNOWN`, `M_NOT_FOUND`, `M_FORBIDDEN`, `M_INVALID_PARAM` with what is
/// wrong.
pub(super) async fn proposal(work: &mut Work, store: &Store, proposal: &Proposal) -> Result<()> {
    if proposal.event_type == TimelineEventType::RoomRedaction {
        redaction(work, store, proposal).await?;
    }
    if proposal.event_type == TimelineEventType::from("m.room.tombstone") {
        tombstone(work, proposal)?;
    }
    if proposal.event_type == TimelineEventType::RoomMember {
        membership(work, store, proposal).await?;
    }
    if let Some(relates_to) = proposal.content.get("m.relates_to") {
        let relates_to = Value::from(relates_to.clone());
        if let Some(relates_to) = RelatesTo::read(&relates_to) {
            relation(work, store, proposal, relates_to).await?;
        }
    }
    Ok(())
}

/// Refuses an invitation to whom too many wait for already, whether in all or from this sender: each of
/// them is in the first answer to whoever is invited, and a stranger can send them. Refuses somebody who
/// comes in and is in as many rooms as may be, for they are all in his.
async fn membership(work: &Work, store: &Store, proposal: &Proposal) -> Result<()> {
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
    let stands = members::get(&context.db, work.room.nid, user).await?;
    if stands.is_some_and(|stands| stands.membership == wanted) {
        return Ok(());
    }
    let limits = &context.settings.limits;
    if wanted != Membership::Invite {
        let present = members::present(&context.db, user).await?;
        return Ok(limits.rooms().require(present + 1, 0)?);
    }
    let sender = context.interned.user(&proposal.sender).await?;
    let (all, of_sender) = members::invitations(&context.db, user, sender).await?;
    let (in_all, per_sender) = limits.invites();
    in_all.require(all + 1, 0)?;
    Ok(per_sender.require(of_sender + 1, 0)?)
}

/// Source: Matrix v1.19, client-server, "Avoiding duplicate annotations" and "Threading" ("Server
/// behaviour": no thread starts at an event that relates to another).
async fn relation(
    work: &Work,
    store: &Store,
    proposal: &Proposal,
    relates_to: RelatesTo,
) -> Result<()> {
    let Some(parent) = work.find(store, &relates_to.event_id).await? else {
        // It may be on its way from another server.
        return Ok(());
    };
    if parent.room != work.room.nid {
        let why = "an event cannot relate to an event of another room";
        return Err(MatrixError::unknown(why).into());
    }
    if relates_to.rel_type == "m.thread" && RelatesTo::of(&parent.event).is_some() {
        let why = "a thread cannot start at an event that relates to another";
        return Err(MatrixError::unknown(why).into());
    }
    let Some(key) = relates_to.key.filter(|_| relates_to.rel_type == "m.annotation") else {
        return Ok(());
    };
    let context = &store.context;
    let sender = context.interned.user(&proposal.sender).await?;
    let kind = context.interned.event_type(&proposal.event_type.to_string()).await?;
    let stored = relations::has_annotation(&context.db, parent.nid, sender, kind, &key).await?;
    if stored || work.annotates(parent.nid, sender, kind, &key) {
        let why = "you have annotated this event so already";
        return Err(MatrixError::new(400, "M_DUPLICATE_ANNOTATION", why).into());
    }
    Ok(())
}

/// A room that replaces itself would lead clients around for ever.
fn tombstone(work: &Work, proposal: &Proposal) -> Result<()> {
    let successor = proposal.content.get("replacement_room").and_then(CanonicalJsonValue::as_str);
    if successor == Some(work.room.room_id.as_str()) {
        return Err(MatrixError::invalid_param("a room cannot be replaced by itself").into());
    }
    Ok(())
}

async fn redaction(work: &mut Work, store: &Store, proposal: &Proposal) -> Result<()> {
    let Some(target) = &proposal.redacts else {
        return Err(MatrixError::bad_json("a redaction says what it `redacts`").into());
    };
    let found = work.find(store, target).await?;
    let Some(target) = found.filter(|found| found.room == work.room.nid) else {
        return Err(MatrixError::not_found("there is no such event in this room").into());
    };
    let state = work.state;
    let levels = unread::levels(work, store, state).await?;
    let may = levels.is_some_and(|levels| {
        levels.may_redact(&proposal.sender, target.event.sender())
            && *target.event.event_type() != TimelineEventType::RoomCreate
    });
    if !may {
        return Err(MatrixError::forbidden("you may not redact this event").into());
    }
    Ok(())
}

//! The rooms below a space, depth first. A page walks again over what earlier pages have shown, so
//! that nothing has to be remembered between them; that is bounded by [`ROOMS_MAX`].
//!
//! Source: Matrix v1.19, client-server, "Spaces".

use std::collections::HashSet;

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    ruma::{
        MilliSecondsSinceUnixEpoch, OwnedRoomId, RoomId,
        api::client::space::SpaceHierarchyRoomsChunk,
        events::space::child::HierarchySpaceChildEvent, serde::Raw,
    },
};
use colonnade_rooms::{Error, Result, Room, RoomEvent};
use colonnade_storage::rooms::state::Part;
use serde_json::{Value, json, value::to_raw_value};

use super::Directory;

/// Rooms on a page when the client does not say.
const PAGE_DEFAULT: u64 = 50;
/// Rooms on a page at most.
const PAGE_MAX: u64 = 100;
/// Levels below the space, when the client does not say and at most: people do not nest deeper.
const DEPTH_MAX: u64 = 16;
/// Rooms one hierarchy shows on all its pages together.
const ROOMS_MAX: usize = 2_000;
/// Children of one space that are looked at.
const CHILDREN_MAX: usize = 2_000;
/// The longest `order` that counts.
///
/// Source: Matrix v1.19, client-server, `m.space.child`.
const ORDER_LENGTH_MAX: usize = 50;

/// Which part of a hierarchy is wanted.
#[derive(Debug, Clone, Default)]
pub struct HierarchyRequest {
    /// A token from an earlier page.
    pub from: Option<String>,
    /// Rooms wanted.
    pub limit: Option<u64>,
    /// Levels below the space.
    pub max_depth: Option<u64>,
    /// Only children marked as suggested.
    pub suggested_only: bool,
}

/// A room of a hierarchy, in the specification's form.
pub type Branch = SpaceHierarchyRoomsChunk;

/// A part of a hierarchy.
pub struct HierarchyPage {
    /// The rooms.
    pub rooms: Vec<Branch>,
    /// Token of the next page.
    pub next: Option<String>,
}

/// A child as its space names it.
struct Child {
    room_id: OwnedRoomId,
    /// Children with an order come first.
    order: Option<String>,
    origin_ts: MilliSecondsSinceUnixEpoch,
    stripped: Raw<HierarchySpaceChildEvent>,
}

impl Directory {
    /// Returns a page of the rooms below a space that the user may see, the space itself first.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when the user may not see the space, `M_INVALID_PARAM` for a bad token or one
    /// made with another depth or choice.
    pub async fn hierarchy(
        &self,
        session: &Session,
        room_id: &RoomId,
        request: &HierarchyRequest,
    ) -> Result<HierarchyPage> {
        let depth_max = request.max_depth.unwrap_or(DEPTH_MAX).min(DEPTH_MAX);
        let suggested = request.suggested_only;
        let limit = request.limit.unwrap_or(PAGE_DEFAULT);
        if limit == 0 {
            return Err(MatrixError::invalid_param("limit is at least 1").into());
        }
        let limit = usize::try_from(limit.min(PAGE_MAX)).unwrap_or(usize::MAX);
        let skip = match &request.from {
            Some(token) => skipped(token, depth_max, suggested)?,
            None => 0,
        };
        let mut seen = HashSet::new();
        let mut waiting = vec![(room_id.to_owned(), 0)];
        let (mut shown, mut page) = (0, Vec::new());
        while let Some((next_id, depth)) = waiting.pop() {
            if !seen.insert(next_id.clone()) {
                continue;
            }
            let room = self.rooms.find(&next_id).await?;
            let looked = match &room {
                Some(room) => self.look(Some(session), room).await?,
                None => None,
            };
            let (Some(room), Some(looked)) = (room, looked) else {
                if depth == 0 {
                    return Err(Self::not_shown(&session.user_id, room_id).into());
                }
                continue;
            };
            if page.len() == limit || shown == ROOMS_MAX {
                let next = (shown < ROOMS_MAX).then(|| token(shown, depth_max, suggested));
                return Ok(HierarchyPage { rooms: page, next });
            }
            let is_space =
                looked.summary.room_type.as_ref().is_some_and(|kind| kind.as_str() == "m.space");
            let children =
                if is_space { self.children(&room, suggested).await? } else { Vec::new() };
            if depth < depth_max {
                let below = children.iter().rev().map(|child| (child.room_id.clone(), depth + 1));
                waiting.extend(below);
            }
            shown += 1;
            if shown > skip {
                let children_state = children.into_iter().map(|child| child.stripped).collect();
                page.push(Branch { summary: looked.summary, children_state });
            }
        }
        Ok(HierarchyPage { rooms: page, next: None })
    }

    /// Returns the children of a space in the order in which they are shown.
    async fn children(&self, room: &Room, suggested: bool) -> Result<Vec<Child>> {
        let state = self.rooms.head(room.nid).await?.state;
        let entries = self.rooms.states().list(state, Part::Core).await?;
        let state_key_nids: Vec<_> = entries.iter().map(|entry| entry.state_key_nid).collect();
        let keys = self.context.interned.state_keys(&state_key_nids).await?;
        let events = entries.iter().zip(keys);
        let events = events.filter(|(_, key)| &*key.event_type == "m.space.child");
        let events: Vec<_> = events.map(|(entry, _)| entry.event).take(CHILDREN_MAX).collect();
        let mut children = Vec::with_capacity(events.len());
        for event in self.rooms.events(&events).await? {
            children.extend(child(&event, suggested)?);
        }
        children.sort_by(|one, other| {
            let order = |child: &Child| (child.order.is_none(), child.order.clone());
            order(one)
                .cmp(&order(other))
                .then_with(|| one.origin_ts.cmp(&other.origin_ts))
                .then_with(|| one.room_id.cmp(&other.room_id))
        });
        Ok(children)
    }
}

/// Reads a child; `None` if the event names none (any more), or one that is not wanted.
fn child(event: &RoomEvent, suggested: bool) -> Result<Option<Child>> {
    let event = &event.event;
    let Some(room_id) = event.state_key().and_then(|key| RoomId::parse(key).ok()) else {
        return Ok(None);
    };
    let Ok(content) = event.content_as::<Value>() else { return Ok(None) };
    let via = content["via"].as_array().map(Vec::as_slice).unwrap_or_default();
    if via.is_empty() || !via.iter().all(Value::is_string) {
        return Ok(None);
    }
    if suggested && content["suggested"] != Value::Bool(true) {
        return Ok(None);
    }
    let printable = |order: &&str| {
        order.len() <= ORDER_LENGTH_MAX && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
    };
    let order = content["order"].as_str().filter(printable).map(str::to_owned);
    let origin_ts = event.origin_server_ts();
    let stripped = json!({
        "type": "m.space.child",
        "state_key": event.state_key(),
        "content": content,
        "sender": event.sender(),
        "origin_server_ts": origin_ts,
    });
    let stripped = to_raw_value(&stripped)
        .map_err(|error| Error::internal("write a child of a space", error))?;
    Ok(Some(Child { room_id, order, origin_ts, stripped: Raw::from_json(stripped) }))
}

/// Writes a token: the rooms shown so far, and what may not change between pages.
fn token(shown: usize, depth_max: u64, suggested: bool) -> String {
    format!("h{shown}_{depth_max}_{}", u8::from(suggested))
}

/// Reads a token back.
fn skipped(text: &str, depth_max: u64, suggested: bool) -> Result<usize> {
    let invalid = |why: &str| Error::from(MatrixError::invalid_param(why));
    let unknown = || invalid("this is no token of a hierarchy");
    let (shown, _) =
        text.strip_prefix('h').and_then(|rest| rest.split_once('_')).ok_or_else(unknown)?;
    let shown = shown.parse::<usize>().map_err(|_| unknown())?;
    if shown > ROOMS_MAX {
        return Err(unknown());
    }
    if token(shown, depth_max, suggested) != text {
        return Err(invalid("max_depth and suggested_only stay the same on all pages"));
    }
    Ok(shown)
}

#[cfg(test)]
mod tests;

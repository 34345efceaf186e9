//! The rooms below a space, depth first. A page walks again over what earlier pages have shown, so
//! that nothing has to be remembered between them; that is bounded by [`ROOMS_MAX`]. Of rooms that nobody of
//! this server is in other servers are asked (`elsewhere.rs`).
//!
//! Source: Matrix v1.19, client-server, "Spaces".

use std::collections::HashSet;

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    ruma::{
        MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedServerName, RoomId,
        api::client::space::SpaceHierarchyRoomsChunk,
        events::space::child::HierarchySpaceChildEvent,
        room::{JoinRuleSummary, RoomSummary},
        serde::Raw,
    },
};
use colonnade_rooms::{Error, Result, Room, RoomEvent};
use colonnade_storage::rooms::{members::Membership, state::Part};
use serde_json::{Value, json, value::to_raw_value};

use super::{
    Directory,
    elsewhere::{Asking, Elsewhere},
};

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
/// Servers of a child that count: of more the first are as good.
const VIA_MAX: usize = 5;
/// Rooms looked at in another server's list of those whose members may join.
const ALLOWED_ROOMS_MAX: usize = 100;
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
pub(super) struct Child {
    pub(super) room_id: OwnedRoomId,
    /// Servers that know it.
    via: Vec<OwnedServerName>,
    /// Children with an order come first.
    order: Option<String>,
    origin_ts: MilliSecondsSinceUnixEpoch,
    pub(super) stripped: Raw<HierarchySpaceChildEvent>,
}

/// A room that is to be looked at.
struct Waiting {
    room_id: OwnedRoomId,
    depth: u64,
    via: Vec<OwnedServerName>,
}

/// A room that the user may see, and the rooms below it.
struct RoomBelow {
    summary: RoomSummary,
    children: Vec<Child>,
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
        let mut asking = self.remote_spaces.asking(suggested);
        let mut seen = HashSet::new();
        let mut waiting = vec![Waiting { room_id: room_id.to_owned(), depth: 0, via: Vec::new() }];
        let (mut shown, mut page) = (0, Vec::new());
        while let Some(next) = waiting.pop() {
            if !seen.insert(next.room_id.clone()) {
                continue;
            }
            let looked = self.look_anywhere(session, &next, suggested, &mut asking).await?;
            let Some(RoomBelow { summary, children }) = looked else {
                if next.depth == 0 {
                    return Err(Self::not_shown(&session.user_id, room_id).into());
                }
                continue;
            };
            if page.len() == limit || shown == ROOMS_MAX {
                let next = (shown < ROOMS_MAX).then(|| token(shown, depth_max, suggested));
                return Ok(HierarchyPage { rooms: page, next });
            }
            if next.depth < depth_max {
                waiting.extend(children.iter().rev().map(|child| Waiting {
                    room_id: child.room_id.clone(),
                    depth: next.depth + 1,
                    via: child.via.clone(),
                }));
            }
            shown += 1;
            if shown > skip {
                let children_state = children.into_iter().map(|child| child.stripped).collect();
                page.push(Branch { summary, children_state });
            }
        }
        Ok(HierarchyPage { rooms: page, next: None })
    }

    /// Looks at a room here, or at what other servers show of it; `None` if it shows nothing to the user.
    async fn look_anywhere(
        &self,
        session: &Session,
        next: &Waiting,
        suggested: bool,
        asking: &mut Asking<'_>,
    ) -> Result<Option<RoomBelow>> {
        let room = self.rooms.find(&next.room_id).await?;
        let is_here = match &room {
            Some(room) => self.rooms.is_resident(room).await?,
            None => false,
        };
        let found = match is_here || next.via.is_empty() {
            true => None,
            false => asking.find(&next.room_id, &next.via).await,
        };
        let Some(found) = found else {
            let Some(room) = room else { return Ok(None) };
            let Some(looked) = self.look(Some(session), &room).await? else { return Ok(None) };
            let children = match is_space(&looked.summary) {
                true => self.children(&room, suggested).await?,
                false => Vec::new(),
            };
            return Ok(Some(RoomBelow { summary: looked.summary, children }));
        };
        let (summary, children) = match &found {
            Elsewhere::Room(summary) => (&**summary, &[][..]),
            Elsewhere::Space(space) => (&space.room.summary, &space.room.children_state[..]),
        };
        if !self.is_shown(session, summary, room.as_deref()).await? {
            return Ok(None);
        }
        let mut below = Vec::with_capacity(children.len());
        for event in children {
            below.extend(child_elsewhere(event, suggested)?);
        }
        below.sort_by_cached_key(order);
        Ok(Some(RoomBelow { summary: summary.clone(), children: below }))
    }

    /// Tells whether a user may see a room that another server shows to this one.
    async fn is_shown(
        &self,
        session: &Session,
        summary: &RoomSummary,
        room: Option<&Room>,
    ) -> Result<bool> {
        if let Some(room) = room {
            match self.rooms.membership(room.nid, session.user).await? {
                Some(Membership::Join | Membership::Invite) => return Ok(true),
                Some(Membership::Ban) if !summary.world_readable => return Ok(false),
                _ => {}
            }
        }
        match &summary.join_rule {
            _ if summary.world_readable => Ok(true),
            JoinRuleSummary::Public
            | JoinRuleSummary::Knock
            | JoinRuleSummary::KnockRestricted(_) => Ok(true),
            JoinRuleSummary::Restricted(restricted) => {
                let rooms = &restricted.allowed_room_ids;
                self.is_in_one(session, &rooms[..rooms.len().min(ALLOWED_ROOMS_MAX)]).await
            }
            _ => Ok(false),
        }
    }

    /// Returns the children of a space in the order in which they are shown.
    pub(super) async fn children(&self, room: &Room, suggested: bool) -> Result<Vec<Child>> {
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
        children.sort_by_cached_key(order);
        Ok(children)
    }
}

/// What children are sorted by: those with an order first, then the oldest.
fn order(child: &Child) -> (bool, Option<String>, MilliSecondsSinceUnixEpoch, OwnedRoomId) {
    (child.order.is_none(), child.order.clone(), child.origin_ts, child.room_id.clone())
}

fn is_space(summary: &RoomSummary) -> bool {
    summary.room_type.as_ref().is_some_and(|kind| kind.as_str() == "m.space")
}

/// Reads a child; `None` if the event names none (any more), or one that is not wanted.
fn child(event: &RoomEvent, suggested: bool) -> Result<Option<Child>> {
    let event = &event.event;
    let (Some(state_key), Ok(content)) = (event.state_key(), event.content_as::<Value>()) else {
        return Ok(None);
    };
    named(state_key, event.sender().as_str(), event.origin_server_ts(), content, suggested)
}

/// Reads a child of another server's space.
fn child_elsewhere(
    event: &Raw<HierarchySpaceChildEvent>,
    suggested: bool,
) -> Result<Option<Child>> {
    #[derive(serde::Deserialize)]
    struct Stripped {
        state_key: String,
        sender: String,
        origin_server_ts: MilliSecondsSinceUnixEpoch,
        content: Value,
    }
    let Ok(event) = serde_json::from_str::<Stripped>(event.json().get()) else { return Ok(None) };
    named(&event.state_key, &event.sender, event.origin_server_ts, event.content, suggested)
}

fn named(
    state_key: &str,
    sender: &str,
    origin_ts: MilliSecondsSinceUnixEpoch,
    content: Value,
    suggested: bool,
) -> Result<Option<Child>> {
    let Ok(room_id) = RoomId::parse(state_key) else { return Ok(None) };
    let via = content["via"].as_array().map(Vec::as_slice).unwrap_or_default();
    if via.is_empty() || !via.iter().all(Value::is_string) {
        return Ok(None);
    }
    if suggested && content["suggested"] != Value::Bool(true) {
        return Ok(None);
    }
    let servers = via.iter().filter_map(|server| OwnedServerName::try_from(server.as_str()?).ok());
    let via = servers.take(VIA_MAX).collect();
    let printable = |order: &&str| {
        order.len() <= ORDER_LENGTH_MAX && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
    };
    let order = content["order"].as_str().filter(printable).map(str::to_owned);
    let stripped = json!({
        "type": "m.space.child",
        "state_key": state_key,
        "content": content,
        "sender": sender,
        "origin_server_ts": origin_ts,
    });
    let stripped = to_raw_value(&stripped)
        .map_err(|error| Error::internal("write a child of a space", error))?;
    Ok(Some(Child { room_id, via, order, origin_ts, stripped: Raw::from_json(stripped) }))
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

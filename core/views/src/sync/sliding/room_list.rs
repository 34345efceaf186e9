//! The rooms of a user in the order of what was said last, and those of them that a request looks at.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use colonnade_model::{
    nid::{RoomNid, StateKeyNid},
    ruma::OwnedRoomId,
    stream::{Position, Stream},
};
use colonnade_rooms::{Result, Standing, Viewpoint};
use colonnade_storage::rooms::{
    members::{Member, Membership},
    state::Part,
    summaries::Summary,
};
use serde_json::Value;

use super::{
    connection_state::ConnectionState,
    facts::UserFacts,
    request::{RoomConfig, RoomFilters, SlidingRequest},
};
use crate::sync::{
    notifier::RoomHead,
    service::{Memberships, Sync, SyncContext},
};

/// A room in the list.
#[derive(Clone, Copy)]
pub(super) struct Listed<'a> {
    pub(super) member: &'a Member,
    pub(super) head: RoomHead,
    /// By what it is ordered.
    pub(super) pos: Position,
}

/// A room that a request looks at.
pub(super) struct MatchedRoom<'a> {
    pub(super) listed: Listed<'a>,
    pub(super) config: RoomConfig,
    /// In the windows of which lists it is.
    pub(super) lists: Vec<String>,
    pub(super) is_subscribed: bool,
}

/// What a request looks at.
pub(super) struct Windows<'a> {
    /// How many rooms each list has.
    pub(super) counts: BTreeMap<String, usize>,
    /// The rooms in the order of the list.
    pub(super) rooms: Vec<MatchedRoom<'a>>,
}

/// What filters ask.
struct FilterFacts {
    user: Arc<UserFacts>,
    rooms: HashMap<RoomNid, Arc<Summary>>,
    names: HashMap<RoomNid, OwnedRoomId>,
    /// The children of each space that a filter names.
    children: HashMap<OwnedRoomId, HashSet<String>>,
}

impl Sync {
    /// Returns the rooms of a user, the one in which something was said last first. Of those he left by
    /// himself only the ones that were told of.
    pub(super) async fn room_list<'a>(
        &self,
        context: &SyncContext,
        (memberships, heads): (&'a Memberships, &[RoomHead]),
        told: &ConnectionState,
    ) -> Result<Vec<Listed<'a>>> {
        let invites = self.invites(context, memberships, true).await?;
        let inside = self.removed_from_inside(context, memberships).await?;
        let mut list = Vec::with_capacity(memberships.rooms.len());
        for (member, head) in memberships.rooms.iter().zip(heads) {
            let was_told = told.rooms.contains_key(&member.room);
            let is_listed = match member.membership {
                Membership::Join | Membership::Knock => true,
                Membership::Invite => {
                    invites.shows(member, true) && !self.is_ignored(context, member).await?
                }
                Membership::Leave | Membership::Ban => {
                    !member.forgotten && (was_told || inside.contains(&member.room))
                }
            };
            let pos = match member.membership {
                Membership::Join => head.events.min(context.now(Stream::Events)),
                _ => member.pos,
            };
            if is_listed {
                list.push(Listed { member, head: *head, pos });
            }
        }
        list.sort_by_key(|listed| std::cmp::Reverse((listed.pos, listed.member.room)));
        Ok(list)
    }

    async fn is_ignored(&self, context: &SyncContext, member: &Member) -> Result<bool> {
        if context.ignored.is_empty() {
            return Ok(false);
        }
        let sender = self.context.interned.user_id(member.sender).await?;
        Ok(context.ignored.contains(&sender))
    }

    /// Returns the rooms that somebody else took the user out of while he was in them.
    async fn removed_from_inside(
        &self,
        context: &SyncContext,
        memberships: &Memberships,
    ) -> Result<HashSet<RoomNid>> {
        let is_out = |member: &&Member| {
            matches!(member.membership, Membership::Leave | Membership::Ban)
                && member.sender != member.user
        };
        let removed = memberships.rooms.iter().filter(is_out);
        let removed: HashMap<RoomNid, Position> =
            removed.map(|member| (member.room, member.pos)).collect();
        if removed.is_empty() {
            return Ok(HashSet::new());
        }
        let rooms: Vec<RoomNid> = removed.keys().copied().collect();
        let user = context.viewer.user;
        // Forgetting is no event, so what is in memory does not know of it.
        let points = self.from.rooms.viewpoints(user, &rooms).await?;
        // One whose invitation was withdrawn was never in, or not any more.
        let is_inside = |(room, point): &(RoomNid, Viewpoint)| {
            let ended = removed.get(room).map(|pos| Standing::Left(*pos));
            point.remembers() && Some(point.standing) == ended
        };
        Ok(points.into_iter().filter(is_inside).map(|(room, _)| room).collect())
    }

    /// Returns which of the rooms a request looks at.
    pub(super) async fn windows<'a>(
        &self,
        context: &SyncContext,
        request: &SlidingRequest,
        list: &[Listed<'a>],
    ) -> Result<Windows<'a>> {
        let known = self.known(context, request, list).await?;
        let mut found: HashMap<RoomNid, MatchedRoom<'a>> = HashMap::new();
        let wanted = |listed: Listed<'a>| MatchedRoom {
            listed,
            config: RoomConfig::default(),
            lists: Vec::new(),
            is_subscribed: false,
        };
        let mut counts = BTreeMap::new();
        for (name, asked) in &request.lists {
            let passing = list.iter().filter(|listed| known.passes(&asked.filters, listed));
            let passing: Vec<&Listed<'a>> = passing.collect();
            for (at, listed) in passing.iter().enumerate() {
                let within = |(first, last): &(usize, usize)| *first <= at && at <= *last;
                if asked.ranges.as_ref().is_none_or(|ranges| ranges.iter().any(within)) {
                    let room = found.entry(listed.member.room).or_insert_with(|| wanted(**listed));
                    room.config.join(&asked.config);
                    room.lists.push(name.clone());
                }
            }
            counts.insert(name.clone(), passing.len());
        }
        if !request.subscriptions.is_empty() {
            let rooms: Vec<RoomNid> = list.iter().map(|listed| listed.member.room).collect();
            // Only his own rooms: whatever else is named is not looked for.
            for room in self.from.rooms.rooms(&rooms).await? {
                let Some(config) = request.subscriptions.get(&room.room_id) else { continue };
                let Some(listed) = list.iter().find(|listed| listed.member.room == room.nid) else {
                    continue;
                };
                let room = found.entry(room.nid).or_insert_with(|| wanted(*listed));
                room.config.join(config);
                room.is_subscribed = true;
            }
        }
        let mut rooms: Vec<MatchedRoom<'a>> = found.into_values().collect();
        rooms.sort_by_key(|room| std::cmp::Reverse((room.listed.pos, room.listed.member.room)));
        Ok(Windows { counts, rooms })
    }

    /// Finds out what the filters of a request ask.
    async fn known(
        &self,
        context: &SyncContext,
        request: &SlidingRequest,
        list: &[Listed<'_>],
    ) -> Result<FilterFacts> {
        let FilterNeeds { by_state, by_name, spaces } = FilterNeeds::of(request);
        let mut known = FilterFacts {
            user: self.user_facts(context.viewer.user).await?,
            rooms: HashMap::new(),
            names: HashMap::new(),
            children: HashMap::new(),
        };
        if by_state {
            let at = list.iter().map(|listed| (listed.member.room, listed.pos));
            known.rooms = self.room_facts(at).await?;
            for listed in list {
                if let Entry::Vacant(unknown) = known.rooms.entry(listed.member.room) {
                    unknown.insert(self.shown_facts(listed.member).await?);
                }
            }
        }
        if by_name {
            let rooms: Vec<RoomNid> = list.iter().map(|listed| listed.member.room).collect();
            let rooms = self.from.rooms.rooms(&rooms).await?;
            known.names = rooms.iter().map(|room| (room.nid, room.room_id.clone())).collect();
        }
        for space in spaces {
            let children = self.children_of(context, &space, list).await?;
            known.children.insert(space, children);
        }
        Ok(known)
    }

    /// Returns the rooms that a space names as its children, if the user is in it.
    async fn children_of(
        &self,
        context: &SyncContext,
        space: &OwnedRoomId,
        list: &[Listed<'_>],
    ) -> Result<HashSet<String>> {
        let Some(room) = self.from.rooms.find(space).await? else { return Ok(HashSet::new()) };
        let is_in = |listed: &Listed<'_>| {
            listed.member.room == room.nid && listed.member.membership == Membership::Join
        };
        if !list.iter().any(is_in) {
            return Ok(HashSet::new());
        }
        let states = self.from.rooms.states();
        let Some(state) = states.at(room.nid, context.now(Stream::Events)).await? else {
            return Ok(HashSet::new());
        };
        let entries = states.list(state, Part::Core).await?;
        let keys: Vec<StateKeyNid> = entries.iter().map(|entry| entry.state_key_nid).collect();
        let keys = self.context.interned.state_keys(&keys).await?;
        let named = entries.iter().zip(keys);
        let named = named.filter(|(_, key)| &*key.event_type == "m.space.child");
        let (nids, ids): (Vec<_>, Vec<_>) =
            named.map(|(entry, key)| (entry.event, key.state_key.to_string())).unzip();
        let events = self.from.rooms.events(&nids).await?;
        // One that names no server by which to join it is one no more.
        let counts = |event: &Value| event["via"].is_array();
        let children = ids.into_iter().zip(events);
        let children = children
            .filter(|(_, event)| event.event.content_as::<Value>().is_ok_and(|it| counts(&it)));
        Ok(children.map(|(id, _)| id).collect())
    }
}

/// What the filters of a request ask of rooms.
struct FilterNeeds {
    /// What their state says.
    by_state: bool,
    /// What the user or a space says of them by their ids.
    by_name: bool,
    /// The spaces of which they are children.
    spaces: BTreeSet<OwnedRoomId>,
}

impl FilterNeeds {
    fn of(request: &SlidingRequest) -> Self {
        let mut asked = Self { by_state: false, by_name: false, spaces: BTreeSet::new() };
        for filters in request.lists.values().map(|list| &list.filters) {
            asked.by_state |= filters.is_encrypted.is_some()
                || filters.room_types.is_some()
                || filters.not_room_types.is_some();
            asked.by_name |= filters.is_dm.is_some() || filters.spaces.is_some();
            asked.spaces.extend(filters.spaces.iter().flatten().cloned());
        }
        asked
    }
}

impl FilterFacts {
    fn passes(&self, filters: &RoomFilters, listed: &Listed<'_>) -> bool {
        let room = listed.member.room;
        let name = self.names.get(&room).map(|name| name.as_str());
        let is_invite = listed.member.membership == Membership::Invite;
        let summary = self.rooms.get(&room);
        let is_one = |types: &Vec<Option<String>>| {
            summary.is_some_and(|summary| types.contains(&summary.room_type))
        };
        let in_space = |spaces: &Vec<OwnedRoomId>| {
            let children = spaces.iter().filter_map(|space| self.children.get(space));
            name.is_some_and(|name| children.into_iter().any(|all| all.contains(name)))
        };
        let is_encrypted = || summary.is_some_and(|summary| summary.encryption.is_some());
        let is_direct = || name.is_some_and(|name| self.user.is_direct(name));
        filters.is_invite.is_none_or(|wanted| wanted == is_invite)
            && filters.is_dm.is_none_or(|wanted| wanted == is_direct())
            && filters.is_encrypted.is_none_or(|wanted| wanted == is_encrypted())
            && filters.room_types.as_ref().is_none_or(is_one)
            && !filters.not_room_types.as_ref().is_some_and(is_one)
            && filters.tags.as_ref().is_none_or(|tags| self.user.has_tag(room, tags))
            && !filters.not_tags.as_ref().is_some_and(|tags| self.user.has_tag(room, tags))
            && filters.spaces.as_ref().is_none_or(in_space)
    }
}

//! What is told of a room.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::{
    nid::{EventNid, RoomNid, StateNid},
    ruma::UserId,
    stream::{Position, Stream},
};
use colonnade_rooms::{Result, Room, Standing, Viewpoint};
use colonnade_storage::rooms::{heads, members::Membership};

use super::{
    answer::{Hero, RoomAnswer, Timeline},
    connection_state::{ConnectionState, SentRoom},
    facts::UserFacts,
    required::StateChange,
    room_list::MatchedRoom,
};
use crate::sync::{
    at_hand::AtHand,
    chunk::TimelineChunk,
    heroes_of,
    service::{Sync, SyncContext},
};

/// Events after which a room moves up in a list.
const BUMPING: [&str; 7] = [
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "m.beacon_info",
];

/// An answer being made.
pub(super) struct Slide<'a> {
    pub(super) context: SyncContext,
    pub(super) told: &'a ConnectionState,
    pub(super) user: Arc<UserFacts>,
    /// How many are joined and invited to the rooms that are told from the beginning.
    pub(super) counts: HashMap<RoomNid, (i64, i64)>,
}

/// From where to where a room is told.
#[derive(Clone, Copy)]
struct RoomRange {
    /// The client has what was said up to here.
    since: Position,
    upto: Position,
    /// The user may know the state up to here; of none if it is 0.
    known_upto: Position,
    /// The client has nothing of it.
    initial: bool,
}

impl Sync {
    /// Returns what is told of a room, if anything, and what was told of it then.
    pub(super) async fn slide_room(
        &self,
        slide: &Slide<'_>,
        wanted: &MatchedRoom<'_>,
        room: &Room,
    ) -> Result<(Option<RoomAnswer>, SentRoom)> {
        let member = wanted.listed.member;
        let before = slide.told.rooms.get(&room.nid);
        let had = before.map_or(0, |before| slide.told.room_upto(before));
        let is_dm = slide.user.is_direct(room.room_id.as_str());
        let mut told = SentRoom {
            upto: None,
            config: Arc::new(wanted.config.clone()),
            membership: member.membership,
            is_dm,
            unread: before.and_then(|before| before.unread),
            members: before.map(|before| Arc::clone(&before.members)).unwrap_or_default(),
        };
        let was_in = before.is_some_and(|before| before.membership == Membership::Join);
        let has_it = before.is_some_and(|before| before.membership == member.membership);
        let mut answer = match member.membership {
            Membership::Invite | Membership::Knock if has_it && member.pos <= had => None,
            Membership::Invite | Membership::Knock => Some(self.invitation(slide, wanted).await?),
            Membership::Join => {
                let upto = slide.context.now(Stream::Events);
                let since = if was_in { had } else { 0 };
                let stretch =
                    RoomRange { since, upto, known_upto: Position::MAX, initial: !was_in };
                let moved = wanted.listed.head.events > since;
                let other = before.is_none_or(|before| {
                    before.config.wants_less_than(&wanted.config) || before.is_dm != is_dm
                });
                let has_read = self.has_read(slide, wanted);
                match moved || other || has_read {
                    true => {
                        let recent = upto.min(wanted.listed.head.events);
                        let recent = self.from.recent.said(room.nid, recent).await?;
                        let point = Some(Viewpoint::joined(member.clone()));
                        let at_hand = AtHand { recent: Some(recent), point };
                        self.said_in(slide, wanted, room, (stretch, &at_hand), &mut told).await?
                    }
                    // Nothing was said, so what a longer timeline has the client has still.
                    false => {
                        told.keep_timeline(before);
                        None
                    }
                }
            }
            Membership::Leave | Membership::Ban if has_it && member.pos <= had => None,
            Membership::Leave | Membership::Ban => {
                let point = self.from.rooms.viewpoint_at(member, member.pos).await?;
                let was_never = point.standing == Standing::Never;
                let stretch = RoomRange {
                    // Whoever never was in sees only how the invitation or the knock ended.
                    since: if was_never {
                        member.pos - 1
                    } else if was_in {
                        had
                    } else {
                        0
                    },
                    upto: member.pos,
                    known_upto: point.state_upto(),
                    initial: !was_in,
                };
                let at_hand = AtHand::default();
                self.said_in(slide, wanted, room, (stretch, &at_hand), &mut told).await?
            }
        };
        if let Some(answer) = &mut answer {
            answer.membership = member.membership.state().to_string();
            answer.lists.clone_from(&wanted.lists);
        }
        Ok((answer.filter(RoomAnswer::says_something), told))
    }

    /// Tells whether the user may have read in a room since it was told, maybe on another device.
    fn has_read(&self, slide: &Slide<'_>, wanted: &MatchedRoom<'_>) -> bool {
        let Some(upto) = slide.told.upto else { return false };
        let since = upto.get(Stream::Receipts);
        let own = self.heads.user(slide.context.viewer.user).receipts;
        own > since && wanted.listed.head.receipts > since
    }

    /// Tells of a room that the user is invited to, or knocks at.
    async fn invitation(&self, slide: &Slide<'_>, wanted: &MatchedRoom<'_>) -> Result<RoomAnswer> {
        let member = wanted.listed.member;
        let mut bytes_max = self.context.settings.limits.invite_state_bytes_max as usize;
        let is_dm = self.from.rooms.room(member.room).await?;
        let is_dm = slide.user.is_direct(is_dm.room_id.as_str());
        Ok(RoomAnswer {
            initial: true,
            stripped: Some(self.stripped(member, &mut bytes_max).await?),
            bump_stamp: Some(member.pos),
            is_dm: is_dm.then_some(true),
            ..RoomAnswer::default()
        })
    }

    /// Tells of a room that the user is or was in.
    async fn said_in(
        &self,
        slide: &Slide<'_>,
        wanted: &MatchedRoom<'_>,
        room: &Room,
        (stretch, at_hand): (RoomRange, &AtHand),
        told: &mut SentRoom,
    ) -> Result<Option<RoomAnswer>> {
        let context = &slide.context;
        let RoomRange { since, upto, known_upto, initial } = stretch;
        let before = slide.told.rooms.get(&room.nid).filter(|_| !initial);
        let config = &wanted.config;
        let is_longer =
            before.is_some_and(|before| before.config.timeline_limit < config.timeline_limit);
        let after = if is_longer { 0 } else { since };
        let chunk = self.timeline_chunk(context, room, (after, upto), at_hand).await?;
        let state = match known_upto {
            0 => None,
            _ => self.state_at(room, upto.min(known_upto), at_hand).await?,
        };
        let known = match initial {
            true => None,
            false => self.state_at(room, since.min(known_upto), at_hand).await?,
        };
        let is_lazy = config.required_state.is_lazy();
        let all_members = is_lazy && !chunk.limited;
        let change = self.state_change((known, state), &config.required_state, all_members).await?;
        let mut answer = RoomAnswer { initial, ..RoomAnswer::default() };
        answer.required_state =
            self.required_of(slide, wanted, room, (state, &change, &chunk), told).await?;
        answer.gone.clone_from(&change.gone);
        answer.expanded =
            is_longer && chunk.events.iter().any(|shown| shown.row.pos.unwrap_or(0) <= since);
        let was_dm = before.is_some_and(|before| before.is_dm);
        answer.is_dm = (told.is_dm != was_dm).then_some(told.is_dm);
        if !chunk.limited {
            // All of what a longer timeline has was told before.
            told.keep_timeline(before);
        }
        self.describe(slide, wanted, (room, state), (&change, &chunk), &mut answer).await?;
        if wanted.listed.member.membership == Membership::Join {
            let (unread, _) = self.unread(context, room, at_hand).await?;
            answer.unread = Some((unread.notification_count, unread.highlight_count));
            answer.has_read = before.is_some_and(|before| before.unread != answer.unread);
            told.unread = answer.unread;
            answer.bump_stamp = at_hand.recent().map(|recent| recent.newest_of(&BUMPING));
        } else {
            answer.bump_stamp = Some(wanted.listed.member.pos);
        }
        answer.timeline = Some(said(chunk, slide.told.events()));
        Ok(Some(answer))
    }

    /// Returns the state that the client wants and does not have.
    async fn required_of(
        &self,
        slide: &Slide<'_>,
        wanted: &MatchedRoom<'_>,
        room: &Room,
        (state, change, chunk): (Option<StateNid>, &StateChange, &TimelineChunk),
        told: &mut SentRoom,
    ) -> Result<Vec<Box<serde_json::value::RawValue>>> {
        let Some(state) = state else { return Ok(Vec::new()) };
        let required = &wanted.config.required_state;
        let before = slide.told.rooms.get(&room.nid);
        let before = before.filter(|before| before.membership == Membership::Join);
        let mut nids: Vec<EventNid> = change.events.clone();
        if before.is_none_or(|before| before.config.required_state != *required) {
            let all = self.required(state, required).await?;
            let had = |event_type: &str, state_key: &str| {
                before.is_some_and(|one| one.config.required_state.wants(event_type, state_key))
            };
            let missing = all.iter().filter(|event| {
                let state_key = event.event.state_key().unwrap_or_default();
                !had(&event.event.event_type().to_string(), state_key)
            });
            nids.extend(missing.map(|event| event.nid));
        }
        if required.is_lazy() {
            if before.is_none() {
                told.members = Arc::default();
            }
            if chunk.limited && !change.members.is_empty() {
                // What became of them in the gap the client does not have.
                let users = change.members.iter().filter_map(|id| <&UserId>::try_from(&**id).ok());
                let users = self.context.interned.find_users(users).await?;
                told.forget_members(users.into_values());
            }
            let (members, users) = self.members_of(state, &chunk.events, &told.members).await?;
            nids.extend(members);
            told.add_members(users);
        }
        self.rendered_required(&slide.context, room, nids).await
    }

    /// Says what the room is called, and to members who is in it, if that is news.
    async fn describe(
        &self,
        slide: &Slide<'_>,
        wanted: &MatchedRoom<'_>,
        (room, state): (&Room, Option<StateNid>),
        (change, chunk): (&StateChange, &TimelineChunk),
        answer: &mut RoomAnswer,
    ) -> Result<()> {
        let is_news = |event_type: &str| answer.initial || change.types.contains(event_type);
        let (name_moved, avatar_moved) = (is_news("m.room.name"), is_news("m.room.avatar"));
        let came = chunk.events.iter().any(|shown| shown.row.event.membership().is_some());
        let is_in = wanted.listed.member.membership == Membership::Join;
        let members_moved = is_in && (answer.initial || !change.members.is_empty() || came);
        if state.is_none() || !(name_moved || avatar_moved || members_moved) {
            return Ok(());
        }
        let text = |content: Option<serde_json::Value>, key: &str| {
            let text = content.and_then(|content| content[key].as_str().map(str::to_owned));
            text.filter(|text| !text.is_empty())
        };
        let name = text(self.content_at(state, "m.room.name").await?, "name");
        if avatar_moved {
            let avatar = text(self.content_at(state, "m.room.avatar").await?, "url");
            answer.avatar = Some(avatar).filter(|avatar| avatar.is_some() || !answer.initial);
        }
        if members_moved {
            let counts = match slide.counts.get(&room.nid) {
                Some(counts) => Some(*counts),
                None => {
                    let found = heads::counts(&self.context.db, &[room.nid]).await?.pop();
                    found.map(|(_, joined, invited)| (joined, invited))
                }
            };
            answer.joined = counts.map(|(joined, _)| joined);
            answer.invited = counts.map(|(_, invited)| invited);
        }
        if is_in && name.is_none() && (members_moved || name_moved) {
            answer.heroes = Some(self.heroes(&slide.context, room, state).await?);
        }
        if name_moved {
            answer.name = Some(name).filter(|name| name.is_some() || !answer.initial);
        }
        Ok(())
    }

    /// Returns whom a room is named after, with their names in it.
    async fn heroes(
        &self,
        context: &SyncContext,
        room: &Room,
        state: Option<StateNid>,
    ) -> Result<Vec<Hero>> {
        let viewer = (&*context.viewer.user_id, context.viewer.user);
        let mut heroes = Vec::new();
        for user_id in heroes_of(&self.context, room.nid, viewer).await? {
            let content = self.member_content(state, &user_id).await?;
            let text = |key: &str| content[key].as_str().map(str::to_owned);
            let (displayname, avatar_url) = (text("displayname"), text("avatar_url"));
            heroes.push(Hero { user_id, displayname, avatar_url });
        }
        Ok(heroes)
    }

    async fn member_content(
        &self,
        state: Option<StateNid>,
        user: &UserId,
    ) -> Result<serde_json::Value> {
        let Some(state) = state else { return Ok(serde_json::Value::Null) };
        let member = self.from.rooms.state_event_at(state, "m.room.member", user.as_str()).await?;
        Ok(member.and_then(|member| member.event.content_as().ok()).unwrap_or_default())
    }
}

/// Makes of a chunk what is told of it; what is above `since` is live.
fn said(chunk: TimelineChunk, since: Position) -> Timeline {
    let is_live = |pos: Option<Position>| since > 0 && pos.is_some_and(|pos| pos > since);
    let live = chunk.events.iter().filter(|shown| is_live(shown.row.pos)).count();
    let ids = chunk.events.iter().map(|shown| shown.row.event.event_id().to_owned()).collect();
    let prev_batch = chunk.prev_batch.map(|token| token.to_string());
    Timeline { events: chunk.json, ids, limited: chunk.limited, prev_batch, live }
}

//! Finding events by the words in them, in the rooms a user is or was in.
//!
//! Source: Matrix v1.19, client-server, "Server Side Search".

mod index;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use colonnade_model::{
    MatrixError,
    nid::RoomNid,
    ruma::{OwnedRoomId, api::client::filter::RoomEventFilter},
    stream::{Position, Stream},
    token::TimelineToken,
};
use colonnade_rules::event::ClientFormat;
use colonnade_storage::{
    events,
    members::{self, Membership},
    search::{self as table, Wanted},
};
use serde_json::{Map, Value, json, value::RawValue};

pub(crate) use index::WordIndex;

use super::{Bundles, Direction, Shown, Timeline, Viewer, pages::Span};
use crate::{Result, rooms::Room, sync::filter};

/// Events in one answer at most.
const PAGE_MAX: usize = 100;
/// Events around a find at most, on each side.
const AROUND_MAX: i64 = 20;
/// Matches looked at for one answer; many may be hidden from the user or filtered out.
const SCANNED_MAX: usize = 1_000;
/// Matches of which the best are told when they are ordered by rank: the newest of them.
const RANKED_MAX: i64 = 500;
/// How far matches are counted.
const COUNTED_MAX: i64 = 10_000;
/// Words looked for at a time.
const WORDS_MAX: usize = 50;

/// What is searched for, and how it is shown.
#[derive(Debug, Clone, Default)]
pub struct SearchWish {
    /// The words.
    pub term: String,
    /// The parts of events looked at, `content.body` say; all of them if empty.
    pub keys: Vec<String>,
    /// Which events of which rooms.
    pub filter: RoomEventFilter,
    /// Events in one answer.
    pub limit: usize,
    /// The newest first, instead of the best.
    pub recent: bool,
    /// Events shown around each find: before and after, with the profiles of their senders.
    pub context: Option<(i64, i64, bool)>,
    /// Along with the state of the rooms.
    pub state: bool,
    /// By what finds are grouped: `room_id`, `sender`.
    pub group_by: Vec<String>,
    /// Where the last answer ended.
    pub from: Option<String>,
}

/// An event that was found.
struct Find {
    shown: Shown,
    room: Arc<Room>,
    rank: f64,
}

impl Timeline {
    /// Searches, and renders the `room_events` of the answer.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for a token that is none of ours.
    pub async fn search(&self, viewer: &Viewer, wish: SearchWish) -> Result<Value> {
        let mut words = index::split(&wish.term);
        words.truncate(WORDS_MAX);
        let fields = index::FIELDS.iter().filter(|(key, _, _)| {
            wish.keys.is_empty() || wish.keys.iter().any(|wanted| wanted == key)
        });
        let fields = fields.map(|(_, _, field)| *field).collect();
        let rooms = self.searched(viewer, &wish.filter).await?;
        let wanted = Wanted { words, rooms, fields };
        if wanted.words.is_empty() || wanted.rooms.is_empty() || wanted.fields.is_empty() {
            return Ok(json!({ "count": 0, "results": [], "highlights": [] }));
        }
        self.words.reached(self.context.streams.position(Stream::Events)).await;
        let limit = wish.limit.clamp(1, PAGE_MAX);
        let (finds, next) = match wish.recent {
            true => self.newest(viewer, &wish, &wanted, limit).await?,
            false => self.best(viewer, &wish, &wanted, limit).await?,
        };
        let mut results = Vec::with_capacity(finds.len());
        for find in &finds {
            results.push(self.result(viewer, &wish, find).await?);
        }
        let mut body = json!({
            "count": table::count(&self.context.db, &wanted, COUNTED_MAX).await?,
            "highlights": wanted.words,
            "results": results,
        });
        if let Some(next) = next {
            body["next_batch"] = next.into();
        }
        if !wish.group_by.is_empty() {
            body["groups"] = groups(&wish.group_by, &finds);
        }
        if wish.state {
            body["state"] = self.states(viewer, &finds).await?;
        }
        Ok(body)
    }

    /// Returns the rooms that are searched: those the user is in, and those he left and remembers.
    async fn searched(&self, viewer: &Viewer, wanted: &RoomEventFilter) -> Result<Vec<RoomNid>> {
        const KINDS: [Membership; 3] = [Membership::Join, Membership::Leave, Membership::Ban];
        let known = members::rooms_of(&self.context.db, viewer.user, &KINDS).await?;
        let known = known.into_iter().filter(|member| !member.forgotten).map(|member| member.room);
        let known: Vec<RoomNid> = known.collect();
        if wanted.rooms.is_none() && wanted.not_rooms.is_empty() {
            return Ok(known);
        }
        let rooms = self.rooms.rooms(&known).await?;
        let rooms = rooms.iter().filter(|room| filter::wants_room(wanted, &room.room_id));
        Ok(rooms.map(|room| room.nid).collect())
    }

    /// Finds the newest events; the token is the position of the last.
    async fn newest(
        &self,
        viewer: &Viewer,
        wish: &SearchWish,
        wanted: &Wanted,
        limit: usize,
    ) -> Result<(Vec<Find>, Option<String>)> {
        let mut below = match &wish.from {
            Some(token) => number(token, 'p')?,
            None => Position::MAX,
        };
        let (mut finds, mut scanned) = (Vec::new(), 0);
        while finds.len() < limit && scanned < SCANNED_MAX {
            let block = (limit - finds.len()).max(20);
            let rows = table::find(&self.context.db, wanted, below, block as i64).await?;
            let (count, last) = (rows.len(), rows.last().map(|(_, pos)| *pos));
            scanned += count;
            for (event, pos) in rows {
                let found = self.found(viewer, wish, wanted, event).await?;
                finds.extend(found);
                below = pos;
                if finds.len() == limit {
                    return Ok((finds, Some(format!("p{below}"))));
                }
            }
            if count < block || last.is_none() {
                return Ok((finds, None));
            }
        }
        Ok((finds, Some(format!("p{below}"))))
    }

    /// Finds the events of which the words are the largest part; the token says how many were told.
    async fn best(
        &self,
        viewer: &Viewer,
        wish: &SearchWish,
        wanted: &Wanted,
        limit: usize,
    ) -> Result<(Vec<Find>, Option<String>)> {
        let told = match &wish.from {
            Some(token) => usize::try_from(number(token, 'n')?).unwrap_or(0),
            None => 0,
        };
        let rows = table::find(&self.context.db, wanted, Position::MAX, RANKED_MAX).await?;
        let mut finds = Vec::new();
        for (event, _) in rows {
            finds.extend(self.found(viewer, wish, wanted, event).await?);
        }
        // Among equals the newest stays first.
        finds.sort_by(|one, other| other.rank.total_cmp(&one.rank));
        let finds: Vec<Find> = finds.into_iter().skip(told).take(limit).collect();
        let next = (finds.len() == limit).then(|| format!("n{}", told + limit));
        Ok((finds, next))
    }

    /// Reads a match; `None` if the user may not see it, does not want it, or it is gone.
    async fn found(
        &self,
        viewer: &Viewer,
        wish: &SearchWish,
        wanted: &Wanted,
        event: colonnade_model::nid::EventNid,
    ) -> Result<Option<Find>> {
        let rows = events::many(&self.context.db, &[event]).await?;
        let page = self.shown(rows).await?;
        let page: Vec<Shown> = page
            .into_iter()
            .filter(|shown| filter::wants(&wish.filter, &shown.row.event))
            .collect();
        let Some(first) = page.first() else { return Ok(None) };
        let room = self.rooms.room(first.row.room).await?;
        let Some(shown) = self.visible(viewer, &room, page).await?.pop() else { return Ok(None) };
        // An erased user's words may not be found by those they are hidden from.
        let Some((_, text)) = index::text_of(&shown.row.event) else { return Ok(None) };
        let has = index::split(&text);
        let rank = wanted.words.len() as f64 / has.len().max(1) as f64;
        Ok(Some(Find { shown, room, rank }))
    }

    /// Renders a find with what was said around it.
    async fn result(&self, viewer: &Viewer, wish: &SearchWish, find: &Find) -> Result<Value> {
        let (room, format) = (&find.room, ClientFormat::WithRoom);
        let page = [find.shown.clone()];
        let json = self.render(viewer, room, &page, format, Bundles::All).await?;
        let mut result = json!({ "rank": find.rank, "result": json.first() });
        let (Some((before, after, profiles)), Some(tl)) = (wish.context, find.shown.row.tl) else {
            return Ok(result);
        };
        let everything = RoomEventFilter::default();
        let span = |direction, limit: i64, from| Span {
            from: TimelineToken(from),
            to: None,
            direction,
            limit: limit.clamp(0, AROUND_MAX),
            filter: &everything,
        };
        let (before, _) =
            self.scan(viewer, room, span(Direction::Backward, before, tl - 1)).await?;
        let (after, _) = self.scan(viewer, room, span(Direction::Forward, after, tl)).await?;
        let oldest = before.last().and_then(|shown| shown.row.tl).unwrap_or(tl);
        let newest = after.last().and_then(|shown| shown.row.tl).unwrap_or(tl);
        result["context"] = json!({
            "events_before": self.render(viewer, room, &before, format, Bundles::All).await?,
            "events_after": self.render(viewer, room, &after, format, Bundles::All).await?,
            "start": TimelineToken(oldest - 1).to_string(),
            "end": TimelineToken(newest).to_string(),
        });
        if profiles {
            let all: Vec<Shown> = before.into_iter().chain(page).chain(after).collect();
            result["context"]["profile_info"] = self.sender_profiles(viewer, room, &all).await?;
        }
        Ok(result)
    }

    /// Returns the names and pictures the senders of a page had in the room.
    async fn sender_profiles(&self, viewer: &Viewer, room: &Room, page: &[Shown]) -> Result<Value> {
        let mut profiles = Map::new();
        for member in self.senders(viewer, room, page).await? {
            let member: Value = serde_json::from_str(member.get()).unwrap_or_default();
            let mut profile = Map::new();
            for key in ["displayname", "avatar_url"] {
                if let Some(text) = member["content"][key].as_str() {
                    profile.insert(key.to_owned(), text.into());
                }
            }
            profiles.insert(
                member["state_key"].as_str().unwrap_or_default().to_owned(),
                profile.into(),
            );
        }
        Ok(profiles.into())
    }

    /// Renders the state of every room something was found in.
    async fn states(&self, viewer: &Viewer, finds: &[Find]) -> Result<Value> {
        let rooms: BTreeSet<&OwnedRoomId> = finds.iter().map(|find| &find.room.room_id).collect();
        let mut states: BTreeMap<&OwnedRoomId, Vec<Box<RawValue>>> = BTreeMap::new();
        for room in rooms {
            states.insert(room, self.state(viewer, room).await?);
        }
        Ok(json!(states))
    }
}

/// Reads a token: a letter and a number.
fn number(token: &str, letter: char) -> Result<i64, MatrixError> {
    let number = token.strip_prefix(letter).and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| MatrixError::invalid_param("next_batch is not a token of this search"))
}

/// Lists the finds by room or sender, groups in the order of their first find.
fn groups(by: &[String], finds: &[Find]) -> Value {
    let mut groups = Map::new();
    for key in by {
        let mut order: HashMap<String, usize> = HashMap::new();
        let mut found: Vec<(String, Vec<Value>)> = Vec::new();
        for find in finds {
            let event = &find.shown.row.event;
            let value = match key.as_str() {
                "room_id" => find.room.room_id.to_string(),
                "sender" => event.sender().to_string(),
                _ => continue,
            };
            let at = *order.entry(value.clone()).or_insert(found.len());
            if at == found.len() {
                found.push((value, Vec::new()));
            }
            found[at].1.push(json!(event.event_id()));
        }
        let rendered: Map<String, Value> = found
            .into_iter()
            .enumerate()
            .map(|(at, (value, results))| (value, json!({ "order": at, "results": results })))
            .collect();
        groups.insert(key.clone(), rendered.into());
    }
    groups.into()
}

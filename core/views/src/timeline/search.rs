//! Finding events by the words in them, in the rooms a user is or was in.
//!
//! Source: Matrix v1.19, client-server, "Server Side Search".

mod found;
mod index;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use colonnade_model::{
    MatrixError,
    nid::{EventNid, RoomNid},
    ruma::{OwnedRoomId, api::client::filter::RoomEventFilter},
    stream::{Position, Stream},
    token::TimelineToken,
};
use colonnade_rooms::{Result, Room};
use colonnade_rules::event::ClientFormat;
use colonnade_storage::rooms::{
    events,
    members::{self, Membership},
    search as table,
    search::SearchTerms,
};
use colonnade_users::answers::Growth;
use serde_json::{Map, Value, json, value::RawValue};

pub use found::Found;
pub use index::WordIndex;

use self::found::{Find, groups};
use super::{
    Bundles, Direction, PAGE_BYTES_MAX, Shown, Timeline, Viewer, pages::Span,
    render::RENDERED_AT_ONCE,
};
use crate::sync::filter;

/// Events in one answer at most.
const PAGE_MAX: usize = 100;
/// Events around a find at most, on each side.
const AROUND_MAX: i64 = 20;
/// Bytes of them on each side: eight finds with all that was said around them fill a page.
const AROUND_BYTES_MAX: usize = PAGE_BYTES_MAX / 16;
/// Rows read for them on each side: what is hidden around a find is not passed over without end.
const AROUND_ROWS_MAX: i64 = 100;
/// Finds in one answer at most where what was said around each is shown, too: every one is two more pages.
const AROUND_FINDS_MAX: usize = 20;
/// Matches looked at for one answer, the newest: many may be hidden from the user or filtered out. As
/// far are they counted, too, and the best found among them.
const SCANNED_MAX: i64 = 1_000;
/// Matches held in memory at once, of which an event of the largest kind takes 64 KB.
const BLOCK: usize = 100;
/// Words looked for at a time.
const WORDS_MAX: usize = 50;
/// Rooms whose index is looked through at the cost of one ordinary request.
const ROOMS_PER_COST: usize = 50;
/// Events read around finds at that cost.
const AROUND_PER_COST: i64 = 20;

/// What is searched for, and how it is shown.
#[derive(Debug, Clone, Default)]
pub struct SearchRequest {
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

impl SearchRequest {
    /// Returns how many ordinary requests this costs as much as: each word and each fifty rooms are one
    /// more look into the index, each twenty events around finds one more page, each state one more state.
    fn cost(&self, words: usize, rooms: usize) -> u32 {
        let finds = self.limit.clamp(1, PAGE_MAX);
        let around = self.context.map_or(0, |(before, after, _)| {
            let each = before.clamp(0, AROUND_MAX) + after.clamp(0, AROUND_MAX);
            each * i64::try_from(finds).unwrap_or(AROUND_MAX) / AROUND_PER_COST
        });
        let states = if self.state { finds.min(rooms) } else { 0 };
        let cost = words.max(1) + rooms / ROOMS_PER_COST + states;
        u32::try_from(cost).unwrap_or(u32::MAX).saturating_add(u32::try_from(around).unwrap_or(0))
    }

    /// Returns how many of the best were shown already.
    fn shown_before(&self) -> Result<usize, MatrixError> {
        match &self.from {
            Some(token) => Ok(usize::try_from(number(token, 'n')?).unwrap_or(usize::MAX)),
            None => Ok(0),
        }
    }

    /// Returns the token to go on with after these.
    fn token_after(&self, page: &[Match]) -> Result<String, MatrixError> {
        match page.last().filter(|_| self.recent) {
            Some(last) => Ok(format!("p{}", last.pos)),
            None => Ok(format!("n{}", self.shown_before()? + page.len())),
        }
    }
}

/// A match that the user may see and wants.
#[derive(Debug, Clone, Copy)]
struct Match {
    event: EventNid,
    pos: Position,
    rank: f64,
}

/// Matches, newest first.
struct Matches {
    all: Vec<Match>,
    /// Where to look on, if there may be more.
    below: Option<Position>,
}

/// What of an answer was rendered: finds, and the states of their rooms.
struct Results {
    results: Vec<Value>,
    states: BTreeMap<OwnedRoomId, Vec<Box<RawValue>>>,
}

impl Timeline {
    /// Searches, and renders the `room_events` of the answer. Nothing in it, no count either, tells of
    /// events the user may not see or of people he ignores. `admit` is told what the
    /// search costs, in ordinary requests, before it is made.
    ///
    /// # Errors
    /// What `admit` returned; `M_INVALID_PARAM` for a token that is none of ours.
    pub async fn search(
        self: &Arc<Self>,
        viewer: &Viewer,
        request: SearchRequest,
        admit: impl FnOnce(u32) -> Result<(), MatrixError>,
        growth: &Growth,
    ) -> Result<Found> {
        let mut words = index::split(&request.term);
        words.truncate(WORDS_MAX);
        let fields = index::FIELDS.iter().filter(|(key, _, _)| {
            request.keys.is_empty() || request.keys.iter().any(|wanted| wanted == key)
        });
        let fields = fields.map(|(_, _, field)| *field).collect();
        let rooms = self.searched(viewer, &request.filter).await?;
        admit(request.cost(words.len(), rooms.len()))?;
        let wanted = SearchTerms { words, rooms, fields };
        if wanted.words.is_empty() || wanted.rooms.is_empty() || wanted.fields.is_empty() {
            return Ok(Found { groups: json!({}), ..Found::default() });
        }
        self.words.reached(self.context.streams.position(Stream::Events)).await;
        let limit = request.limit.clamp(1, PAGE_MAX);
        let newest = self.matches(viewer, &request, &wanted, Position::MAX).await?;
        let count = newest.all.len();
        let (page, mut next) = match request.recent {
            true => self.newest(viewer, &request, &wanted, newest, limit).await?,
            false => best(&request, newest, limit)?,
        };
        let mut shown = self.fitting(page.iter().map(|one| one.event), PAGE_BYTES_MAX).await?;
        let mut finds = self.finds(viewer, &page[..shown]).await?;
        let Results { results, states } = self.results(viewer, &request, &finds, growth).await?;
        if results.len() < finds.len() {
            finds.truncate(results.len());
            let last = finds.last().map(|find| find.shown.row.nid);
            shown = page.iter().position(|one| Some(one.event) == last).map_or(shown, |at| at + 1);
        }
        if shown < page.len() {
            next = Some(request.token_after(&page[..shown])?);
        }
        let groups = groups(&request.group_by, &finds);
        let highlights = if count > 0 { wanted.words } else { Vec::new() };
        Ok(Found { count, highlights, results, groups, state: states, next_batch: next })
    }

    /// Returns the rooms that are searched: those the user ever had to do with and remembers. What of
    /// them he may see is decided event by event.
    async fn searched(&self, viewer: &Viewer, wanted: &RoomEventFilter) -> Result<Vec<RoomNid>> {
        let known = members::rooms_of(&self.context.db, viewer.user, &Membership::ALL).await?;
        let known = known.into_iter().filter(|member| !member.forgotten).map(|member| member.room);
        let known: Vec<RoomNid> = known.collect();
        if wanted.rooms.is_none() && wanted.not_rooms.is_empty() {
            return Ok(known);
        }
        let rooms = self.rooms.rooms(&known).await?;
        let rooms = rooms.iter().filter(|room| filter::wants_room(wanted, &room.room_id));
        Ok(rooms.map(|room| room.nid).collect())
    }

    /// Finds the matches below a position that the user may see and wants.
    async fn matches(
        &self,
        viewer: &Viewer,
        request: &SearchRequest,
        wanted: &SearchTerms,
        below: Position,
    ) -> Result<Matches> {
        let rows = table::find(&self.context.db, wanted, below, SCANNED_MAX).await?;
        let more = rows.len() as i64 == SCANNED_MAX;
        let below = rows.last().map(|(_, pos)| *pos).filter(|_| more);
        let ignored = self.ignored(viewer).await?;
        let mut all = Vec::new();
        for block in rows.chunks(BLOCK) {
            let nids: Vec<EventNid> = block.iter().map(|(event, _)| *event).collect();
            let page = self.shown(events::many(&self.context.db, &nids).await?).await?;
            let page = page.into_iter().filter(|shown| {
                filter::wants(&request.filter, &shown.row.event)
                    && (shown.row.state_key_nid.is_some() || !self.is_from(shown, &ignored))
            });
            let page = self.visible(viewer, page.collect()).await?;
            let ranks: HashMap<EventNid, f64> = page
                .iter()
                .filter_map(|shown| Some((shown.row.nid, rank(shown, wanted)?)))
                .collect();
            all.extend(block.iter().filter_map(|(event, pos)| {
                Some(Match { event: *event, pos: *pos, rank: *ranks.get(event)? })
            }));
        }
        Ok(Matches { all, below })
    }

    /// Takes the newest below the place where the last answer ended; the token is the position of the
    /// last.
    async fn newest(
        &self,
        viewer: &Viewer,
        request: &SearchRequest,
        wanted: &SearchTerms,
        newest: Matches,
        limit: usize,
    ) -> Result<(Vec<Match>, Option<String>)> {
        let from = match &request.from {
            Some(token) => number(token, 'p')?,
            None => Position::MAX,
        };
        let mut found = match newest.below {
            Some(below) if from <= below => self.matches(viewer, request, wanted, from).await?,
            _ => newest,
        };
        found.all.retain(|one| one.pos < from);
        found.all.truncate(limit);
        let full = found.all.last().filter(|_| found.all.len() == limit);
        let next = full.map(|last| last.pos).or(found.below);
        Ok((found.all, next.map(|pos| format!("p{pos}"))))
    }

    /// Reads the events of a page.
    async fn finds(&self, viewer: &Viewer, page: &[Match]) -> Result<Vec<Find>> {
        let nids: Vec<EventNid> = page.iter().map(|one| one.event).collect();
        let ranks: HashMap<EventNid, f64> = page.iter().map(|one| (one.event, one.rank)).collect();
        let seen = self.visible(viewer, self.read(&nids).await?).await?;
        let rooms: BTreeSet<RoomNid> = seen.iter().map(|shown| shown.row.room).collect();
        let rooms = self.rooms.rooms(&rooms.into_iter().collect::<Vec<_>>()).await?;
        let rooms: HashMap<RoomNid, Arc<Room>> =
            rooms.into_iter().map(|room| (room.nid, room)).collect();
        let finds = seen.into_iter().filter_map(|shown| {
            let room = Arc::clone(rooms.get(&shown.row.room)?);
            Some(Find { rank: *ranks.get(&shown.row.nid)?, shown, room })
        });
        Ok(finds.collect())
    }

    /// Renders the first finds, as many as fit on a page with what is shown along with them.
    async fn results(
        self: &Arc<Self>,
        viewer: &Viewer,
        request: &SearchRequest,
        finds: &[Find],
        growth: &Growth,
    ) -> Result<Results> {
        let (mut results, mut states) = (Vec::new(), BTreeMap::new());
        let mut bytes = 0;
        for some in finds.chunks(RENDERED_AT_ONCE) {
            let mut rendered = self.rendered_finds(viewer, some).await?;
            for find in some {
                let json = rendered.remove(&find.shown.row.nid);
                bytes += json.as_ref().map_or(0, |json| json.get().len());
                let mut result = json!({ "rank": find.rank, "result": json });
                if let Some(context) = self.around(viewer, request, find, &mut bytes).await? {
                    result["context"] = context;
                }
                results.push(result);
                let room_id = &find.room.room_id;
                if request.state && !states.contains_key(room_id) {
                    let mut events = self.state(viewer.clone(), room_id).await?;
                    let state = states.entry(room_id.clone()).or_insert_with(Vec::new);
                    while let Some(some) = events.next().await? {
                        let some_bytes = some.iter().map(|event| event.get().len()).sum();
                        growth.add(some_bytes).await?;
                        bytes += some_bytes;
                        state.extend(some);
                    }
                }
                let is_last = request.context.is_some() && results.len() == AROUND_FINDS_MAX;
                if is_last || bytes >= PAGE_BYTES_MAX {
                    return Ok(Results { results, states });
                }
            }
        }
        Ok(Results { results, states })
    }

    /// Renders finds, those of a room together.
    async fn rendered_finds(
        &self,
        viewer: &Viewer,
        finds: &[Find],
    ) -> Result<HashMap<EventNid, Box<RawValue>>> {
        let mut by_room: BTreeMap<RoomNid, (&Room, Vec<Shown>)> = BTreeMap::new();
        for find in finds {
            let (_, page) = by_room.entry(find.room.nid).or_insert((&find.room, Vec::new()));
            page.push(find.shown.clone());
        }
        let format = ClientFormat::WithRoom;
        let mut rendered = HashMap::with_capacity(finds.len());
        for (room, page) in by_room.into_values() {
            let jsons = self.render(viewer, room, &page, format, Bundles::All).await?;
            rendered.extend(page.iter().map(|shown| shown.row.nid).zip(jsons));
        }
        Ok(rendered)
    }

    /// Renders what was said around a find, if that is wanted, and counts its bytes.
    async fn around(
        self: &Arc<Self>,
        viewer: &Viewer,
        request: &SearchRequest,
        find: &Find,
        bytes: &mut usize,
    ) -> Result<Option<Value>> {
        let (room, format) = (&find.room, ClientFormat::WithRoom);
        let (Some((before, after, profiles)), Some(timeline_key)) =
            (request.context, find.shown.row.timeline_key)
        else {
            return Ok(None);
        };
        let everything = RoomEventFilter::default();
        let span = |direction, limit: i64, from| Span {
            from: TimelineToken(from),
            to: None,
            direction,
            limit: limit.clamp(0, AROUND_MAX),
            bytes_max: AROUND_BYTES_MAX,
            rows_max: AROUND_ROWS_MAX,
            filter: &everything,
            relations: None,
        };
        let mut sides = Vec::with_capacity(2);
        for span in [
            span(Direction::Backward, before, timeline_key - 1),
            span(Direction::Forward, after, timeline_key),
        ] {
            let (mut side, _) = self.scan(viewer, room, span).await?;
            let json = self.render_within(viewer, room, &side, format, AROUND_BYTES_MAX).await?;
            side.truncate(json.len());
            *bytes += json.iter().map(|event| event.get().len()).sum::<usize>();
            sides.push((side, json));
        }
        let (after, after_json) = sides.pop().unwrap_or_default();
        let (before, before_json) = sides.pop().unwrap_or_default();
        let oldest = before.last().and_then(|shown| shown.row.timeline_key).unwrap_or(timeline_key);
        let newest = after.last().and_then(|shown| shown.row.timeline_key).unwrap_or(timeline_key);
        let mut context = json!({
            "events_before": before_json,
            "events_after": after_json,
            "start": TimelineToken(oldest - 1).to_string(),
            "end": TimelineToken(newest).to_string(),
            "profile_info": {},
        });
        if profiles {
            let all = before.into_iter().chain([find.shown.clone()]).chain(after);
            let all: Vec<Shown> = all.collect();
            context["profile_info"] = self.sender_profiles(viewer, room, &all, bytes).await?;
        }
        Ok(Some(context))
    }

    /// Returns the names and pictures the senders of a page had in the room, and counts their bytes.
    async fn sender_profiles(
        self: &Arc<Self>,
        viewer: &Viewer,
        room: &Arc<Room>,
        page: &[Shown],
        bytes: &mut usize,
    ) -> Result<Value> {
        let mut profiles = Map::new();
        let mut members = self.senders(viewer, room, page).await?;
        while let Some(some) = members.next().await? {
            for member in some {
                let member: Value = serde_json::from_str(member.get()).unwrap_or_default();
                let mut profile = Map::new();
                for key in ["displayname", "avatar_url"] {
                    if let Some(text) = member["content"][key].as_str() {
                        *bytes += text.len();
                        profile.insert(key.to_owned(), text.into());
                    }
                }
                let user_id = member["state_key"].as_str().unwrap_or_default();
                profiles.insert(user_id.to_owned(), profile.into());
            }
        }
        Ok(profiles.into())
    }
}

/// Returns how large a part of an event the words are; `None` if it has none: an erased user's words may
/// not be found by those they are hidden from.
fn rank(shown: &Shown, wanted: &SearchTerms) -> Option<f64> {
    let (_, text) = index::text_of(&shown.row.event)?;
    let has = index::split(&text);
    Some(wanted.words.len() as f64 / has.len().max(1) as f64)
}

/// Takes those of which the words are the largest part; the token says how many were shown.
fn best(
    request: &SearchRequest,
    mut found: Matches,
    limit: usize,
) -> Result<(Vec<Match>, Option<String>)> {
    let shown = request.shown_before()?;
    // Among equals the newest stays first.
    found.all.sort_by(|one, other| other.rank.total_cmp(&one.rank));
    let page: Vec<Match> = found.all.into_iter().skip(shown).take(limit).collect();
    let next = (page.len() == limit).then(|| format!("n{}", shown + limit));
    Ok((page, next))
}

/// Reads a token: a letter and a number.
fn number(token: &str, letter: char) -> Result<i64, MatrixError> {
    let digits = token.strip_prefix(letter);
    // No token of ours has a sign.
    let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| MatrixError::invalid_param("next_batch is not a token of this search"))
}

#[cfg(test)]
mod tests;

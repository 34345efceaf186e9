//! What clients write, in either dialect, and what it says.

use std::collections::BTreeMap;

use colonnade_model::{
    MatrixError,
    ruma::{OwnedRoomId, UserId, presence::PresenceState},
};
use colonnade_views::sync::{
    Dialect, ExtensionRooms, Extensions, List, Pattern, RequiredState, RoomConfig, RoomFilters,
    SlidingRequest, ToDeviceExtension,
};
use http::request::Parts;
use serde::Deserialize;

use crate::call::query;

/// Lists of a request at most, as the proposal has it.
const LISTS_MAX: usize = 100;
/// Stretches of a list at most: clients have one or two.
const RANGES_MAX: usize = 20;
/// Rooms that are subscribed to at most: clients do so for what they show.
const SUBSCRIPTIONS_MAX: usize = 500;
/// Patterns of state of a list or a subscription at most.
const PATTERNS_MAX: usize = 200;
/// Events of a room's timeline in an answer at most.
const TIMELINE_MAX: usize = 100;
/// Bytes of the name of a connection or a list at most.
const NAME_BYTES_MAX: usize = 255;

/// The body at the unstable path.
#[derive(Deserialize)]
pub(super) struct UnstableBody {
    conn_id: Option<String>,
    txn_id: Option<String>,
    #[serde(default)]
    lists: BTreeMap<String, UnstableList>,
    #[serde(default)]
    room_subscriptions: BTreeMap<OwnedRoomId, UnstableConfig>,
    #[serde(default)]
    extensions: ExtensionsBody,
}

#[derive(Deserialize)]
struct UnstableList {
    ranges: Option<Vec<(usize, usize)>>,
    #[serde(flatten)]
    config: UnstableConfig,
    filters: Option<FiltersBody>,
}

#[derive(Deserialize)]
struct UnstableConfig {
    #[serde(default)]
    required_state: Vec<(String, String)>,
    timeline_limit: usize,
}

/// The body at the path of the accepted proposal.
#[derive(Deserialize)]
pub(super) struct V4Body {
    conn_id: Option<String>,
    pos: Option<String>,
    #[serde(default)]
    timeout: u64,
    set_presence: Option<String>,
    #[serde(default)]
    lists: BTreeMap<String, V4List>,
    #[serde(default)]
    room_subscriptions: BTreeMap<OwnedRoomId, V4Config>,
    #[serde(default)]
    extensions: ExtensionsBody,
}

#[derive(Deserialize)]
struct V4List {
    range: Option<(usize, usize)>,
    #[serde(flatten)]
    config: V4Config,
    filters: Option<FiltersBody>,
}

#[derive(Deserialize)]
struct V4Config {
    required_state: RequiredBody,
    timeline_limit: usize,
}

#[derive(Deserialize)]
struct RequiredBody {
    #[serde(default)]
    include: Vec<PatternBody>,
    #[serde(default)]
    exclude: Vec<PatternBody>,
    #[serde(default)]
    lazy_members: bool,
}

#[derive(Deserialize)]
struct PatternBody {
    r#type: Option<String>,
    state_key: Option<String>,
}

#[derive(Deserialize)]
struct FiltersBody {
    is_dm: Option<bool>,
    spaces: Option<Vec<OwnedRoomId>>,
    is_encrypted: Option<bool>,
    #[serde(alias = "is_invited")]
    is_invite: Option<bool>,
    room_types: Option<Vec<Option<String>>>,
    not_room_types: Option<Vec<Option<String>>>,
    tags: Option<Vec<String>>,
    not_tags: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
struct ExtensionsBody {
    to_device: Option<ToDeviceBody>,
    e2ee: Option<Enabled>,
    account_data: Option<RoomsBody>,
    receipts: Option<RoomsBody>,
    typing: Option<RoomsBody>,
}

#[derive(Deserialize)]
struct Enabled {
    enabled: Option<bool>,
}

#[derive(Deserialize)]
struct ToDeviceBody {
    enabled: Option<bool>,
    limit: Option<usize>,
    since: Option<String>,
}

#[derive(Deserialize)]
struct RoomsBody {
    enabled: Option<bool>,
    lists: Option<Vec<String>>,
    rooms: Option<Vec<String>>,
}

/// Says what a request at the unstable path asks for.
///
/// # Errors
/// `M_INVALID_PARAM`.
pub(super) fn unstable(
    body: UnstableBody,
    parts: &Parts,
    user: &UserId,
) -> Result<SlidingRequest, MatrixError> {
    let timeout = query(parts, "timeout");
    let timeout_ms = timeout.map_or(Ok(0), |text| text.parse());
    let timeout_ms = timeout_ms
        .map_err(|_| MatrixError::invalid_param("timeout is a number of milliseconds"))?;
    let mut lists = BTreeMap::new();
    for (name, list) in body.lists {
        let ranges = list.ranges.unwrap_or_default();
        let config = unstable_config(list.config, user)?;
        let filters = list.filters.map(filters).unwrap_or_default();
        lists.insert(name, List { ranges: Some(ranges), config, filters });
    }
    let mut subscriptions = BTreeMap::new();
    for (room, config) in body.room_subscriptions {
        subscriptions.insert(room, unstable_config(config, user)?);
    }
    checked(SlidingRequest {
        dialect: Dialect::Unstable,
        connection: body.conn_id.unwrap_or_default(),
        pos: query(parts, "pos"),
        txn_id: body.txn_id,
        timeout_ms,
        set_presence: presence(query(parts, "set_presence").as_deref())?,
        lists,
        subscriptions,
        extensions: extensions(body.extensions),
    })
}

/// Says what a request at the path of the accepted proposal asks for.
///
/// # Errors
/// `M_INVALID_PARAM`.
pub(super) fn v4(body: V4Body, user: &UserId) -> Result<SlidingRequest, MatrixError> {
    let mut lists = BTreeMap::new();
    for (name, list) in body.lists {
        let ranges = list.range.map(|range| vec![range]);
        let config = v4_config(list.config, user)?;
        let filters = list.filters.map(filters).unwrap_or_default();
        lists.insert(name, List { ranges, config, filters });
    }
    let mut subscriptions = BTreeMap::new();
    for (room, config) in body.room_subscriptions {
        subscriptions.insert(room, v4_config(config, user)?);
    }
    checked(SlidingRequest {
        dialect: Dialect::V4,
        connection: body.conn_id.unwrap_or_default(),
        pos: body.pos,
        txn_id: None,
        timeout_ms: body.timeout,
        set_presence: presence(body.set_presence.as_deref())?,
        lists,
        subscriptions,
        extensions: extensions(body.extensions),
    })
}

/// Makes sure that a request is not larger than any client's.
fn checked(request: SlidingRequest) -> Result<SlidingRequest, MatrixError> {
    let invalid = |why: String| Err(MatrixError::invalid_param(why));
    if request.lists.len() > LISTS_MAX {
        return invalid(format!("there are more than {LISTS_MAX} lists"));
    }
    if request.subscriptions.len() > SUBSCRIPTIONS_MAX {
        return invalid(format!("there are more than {SUBSCRIPTIONS_MAX} room_subscriptions"));
    }
    let names = request.lists.keys().chain([&request.connection]).chain(&request.txn_id);
    if names.into_iter().any(|name| name.len() > NAME_BYTES_MAX) {
        let why = "the name of a list, conn_id or txn_id is longer than";
        return invalid(format!("{why} {NAME_BYTES_MAX} bytes"));
    }
    for (name, list) in &request.lists {
        let ranges = list.ranges.as_deref().unwrap_or_default();
        if ranges.len() > RANGES_MAX {
            return invalid(format!("list {name} has more than {RANGES_MAX} ranges"));
        }
        if ranges.iter().any(|(first, last)| first > last) {
            return invalid(format!("a range of list {name} ends before it begins"));
        }
    }
    Ok(request)
}

fn unstable_config(body: UnstableConfig, user: &UserId) -> Result<RoomConfig, MatrixError> {
    let mut is_lazy = false;
    let any = |text: String| (text != "*").then_some(text);
    let mut include = Vec::with_capacity(body.required_state.len());
    for (event_type, state_key) in body.required_state {
        if event_type == "m.room.member" && state_key == "$LAZY" {
            is_lazy = true;
            continue;
        }
        let state_key = if state_key == "$ME" { user.to_string() } else { state_key };
        include.push(Pattern { event_type: any(event_type), state_key: any(state_key) });
    }
    config(include, Vec::new(), is_lazy, body.timeline_limit)
}

fn v4_config(body: V4Config, user: &UserId) -> Result<RoomConfig, MatrixError> {
    let patterns = |some: Vec<PatternBody>| -> Vec<Pattern> {
        let own = |key: String| if key == "$ME" { user.to_string() } else { key };
        let read = |PatternBody { r#type, state_key }| Pattern {
            event_type: r#type,
            state_key: state_key.map(own),
        };
        some.into_iter().map(read).collect()
    };
    let RequiredBody { include, exclude, lazy_members } = body.required_state;
    config(patterns(include), patterns(exclude), lazy_members, body.timeline_limit)
}

fn config(
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    is_lazy: bool,
    timeline_limit: usize,
) -> Result<RoomConfig, MatrixError> {
    if include.len() + exclude.len() > PATTERNS_MAX {
        let why = format!("a required_state has more than {PATTERNS_MAX} elements");
        return Err(MatrixError::invalid_param(why));
    }
    Ok(RoomConfig {
        timeline_limit: timeline_limit.min(TIMELINE_MAX),
        required_state: RequiredState::new(include, exclude, is_lazy),
    })
}

fn filters(body: FiltersBody) -> RoomFilters {
    RoomFilters {
        is_dm: body.is_dm,
        spaces: body.spaces,
        is_encrypted: body.is_encrypted,
        is_invite: body.is_invite,
        room_types: body.room_types,
        not_room_types: body.not_room_types,
        tags: body.tags,
        not_tags: body.not_tags,
    }
}

fn extensions(body: ExtensionsBody) -> Extensions {
    let on = |enabled: Option<bool>| enabled == Some(true);
    let rooms = |body: Option<RoomsBody>| {
        let body = body.filter(|body| on(body.enabled))?;
        Some(ExtensionRooms { lists: body.lists, rooms: body.rooms })
    };
    let to_device = body.to_device.filter(|body| on(body.enabled));
    Extensions {
        to_device: to_device.map(|body| ToDeviceExtension { limit: body.limit, since: body.since }),
        e2ee: body.e2ee.is_some_and(|body| on(body.enabled)),
        account_data: rooms(body.account_data),
        receipts: rooms(body.receipts),
        typing: rooms(body.typing),
    }
}

fn presence(text: Option<&str>) -> Result<PresenceState, MatrixError> {
    match text {
        None | Some("online") => Ok(PresenceState::Online),
        Some("unavailable") => Ok(PresenceState::Unavailable),
        Some("offline") => Ok(PresenceState::Offline),
        Some(_) => {
            let why = "set_presence is one of online, unavailable, offline";
            Err(MatrixError::invalid_param(why))
        }
    }
}

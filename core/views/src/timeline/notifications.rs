//! What a user was notified of, newest first. No row says so: an event says what it means to everybody, and a row what
//! it means to those to whom that is something else.
//!
//! Source: Matrix v1.19, client-server, `GET /notifications`.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use colonnade_model::{
    nid::{EventNid, RoomNid},
    ruma::push::Ruleset,
    stream::{Position, Stream},
};
use colonnade_rooms::{Result, RoomEvent, Rooms};
use colonnade_rules::{
    power::PowerLevels,
    push::{Evaluator, PushOutcome},
};
use colonnade_storage::{
    delivery::push,
    rooms::{heads, members, receipts},
};
use serde_json::{Value, json, value::RawValue};

use super::{Invitations, Shown, Timeline, Viewer};

/// Positions of the stream that are looked at with one statement.
const WINDOW: Position = 20_000;
/// Statements for one page: whoever is notified rarely gets a short page, or none, and where to go on.
const WINDOWS_MAX: usize = 10;

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct NotificationsRequest {
    /// Below this position; `None` from the newest on.
    pub before: Option<Position>,
    /// How many at most.
    pub limit: i64,
    /// Highlights alone.
    pub only_highlights: bool,
}

/// A part of what a user was notified of.
#[derive(Debug)]
pub struct NotificationsPage {
    /// As the specification has them.
    pub notifications: Vec<Value>,
    /// Below which position to go on; `None` at the end.
    pub next: Option<Position>,
}

impl Timeline {
    /// Returns what a user was notified of. `rules` are the user's.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn notifications(
        &self,
        viewer: &Viewer,
        rules: &Ruleset,
        request: NotificationsRequest,
    ) -> Result<NotificationsPage> {
        let NotificationsRequest { before, limit, only_highlights } = request;
        let least = if only_highlights { PushOutcome::Highlight } else { PushOutcome::Notify };
        let newest = self.context.streams.position(Stream::Events);
        let mut below = before.unwrap_or(newest + 1).min(newest + 1);
        let mut found = Vec::new();
        for _ in 0..WINDOWS_MAX {
            let from = (below - WINDOW).max(0);
            let left = limit - i64::try_from(found.len()).unwrap_or(limit);
            let db = &self.context.db;
            let some = push::notified(db, viewer.user, (from, below), least, left).await?;
            let is_full = i64::try_from(some.len()).is_ok_and(|count| count >= left);
            below = some.last().filter(|_| is_full).map_or(from, |last| last.pos);
            found.extend(some);
            if is_full || below <= 0 {
                break;
            }
        }
        let nids: Vec<EventNid> = found.iter().map(|notified| notified.event).collect();
        let page = self.visible(viewer, self.read(&nids).await?).await?;
        let notifications = self.notified(viewer, rules, page).await?;
        Ok(NotificationsPage { notifications, next: (below > 0).then_some(below) })
    }

    /// Writes of what a user was notified.
    async fn notified(
        &self,
        viewer: &Viewer,
        rules: &Ruleset,
        page: Vec<Shown>,
    ) -> Result<Vec<Value>> {
        let rooms: HashSet<RoomNid> = page.iter().map(|shown| shown.row.room).collect();
        let rooms: Vec<RoomNid> = rooms.into_iter().collect();
        let db = &self.context.db;
        let read = receipts::read_upto_in(db, &rooms, viewer.user).await?;
        let names = members::of_user_in(db, viewer.user, &rooms).await?;
        let roots: Vec<EventNid> = page.iter().filter_map(|shown| shown.row.thread).collect();
        let roots = self.rooms.events(&roots).await?;
        let events = self.render_across(viewer, &page, &Invitations::new()).await?;
        let mut contexts = RoomContexts::default();
        let mut notifications = Vec::with_capacity(page.len());
        for (shown, event) in page.iter().zip(events) {
            let row = &shown.row;
            let root = roots.iter().find(|root| Some(root.nid) == row.thread);
            let thread = root.map_or("main", |root| root.event.event_id().as_str());
            let is_read = read.iter().any(|(room, of, upto)| {
                *room == row.room
                    && row.pos.is_some_and(|pos| pos <= *upto)
                    && (of.is_empty() || of == thread)
            });
            let name = names.iter().find(|member| member.room == row.room);
            let name = name.and_then(|member| member.display_name.as_deref());
            let mut evaluator = contexts.evaluator(&self.rooms, row).await?;
            let name = name.unwrap_or(viewer.user_id.localpart());
            let outcome = evaluator.evaluate(&viewer.user_id, name, rules);
            notifications.push(notification(row, &event, outcome.actions, is_read));
        }
        Ok(notifications)
    }
}

fn notification<A: serde::Serialize>(
    row: &RoomEvent,
    event: &RawValue,
    actions: &[A],
    is_read: bool,
) -> Value {
    json!({
        "actions": actions,
        "event": event,
        // Rules have none; clients of old look for it.
        "profile_tag": "",
        "read": is_read,
        "room_id": row.event.room_id(),
        "ts": row.event.origin_server_ts().0,
    })
}

/// What the push rules ask of rooms as they are now, asked once for each.
#[derive(Default)]
pub struct RoomContexts(HashMap<RoomNid, RoomContext>);

struct RoomContext {
    joined: u64,
    levels: Option<Arc<PowerLevels>>,
}

impl RoomContexts {
    /// Makes what asks the rules about an event.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn evaluator(&mut self, rooms: &Rooms, event: &RoomEvent) -> Result<Evaluator> {
        let room = rooms.room(event.room).await?;
        let rules = &room.rules.authorization;
        let known = match self.0.entry(event.room) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let head = heads::head(&rooms.context().db, event.room).await?;
                let joined = head.map_or(0, |head| u64::try_from(head.joined).unwrap_or(0));
                let create = rooms.state_event(event.room, "m.room.create", "").await?;
                let levels = rooms.state_event(event.room, "m.room.power_levels", "").await?;
                let levels = create.and_then(|create| {
                    let levels = levels.as_ref().map(|levels| &*levels.event);
                    PowerLevels::new(&create.event, levels, rules).ok()
                });
                place.insert(RoomContext { joined, levels: levels.map(Arc::new) })
            }
        };
        let levels = known.levels.as_ref().map(|levels| levels.for_push(rules));
        Ok(Evaluator::new(&event.event, known.joined, levels))
    }
}

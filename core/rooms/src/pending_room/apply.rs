//! Adding an admitted event to the pending room: what it changes in the room, and every row that follows
//! from it. Nothing is changed before everything that can fail has succeeded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use colonnade_model::{
    nid::{EventNid, StateKeyNid, StateNid, UserNid},
    ruma::{
        OwnedServerName, ServerName, UserId,
        events::{TimelineEventType, room::member::MembershipState},
    },
};
use colonnade_rules::{
    event::{Event, relation::RelatesTo},
    push::PushOutcome,
};
use colonnade_storage::rooms::{
    client_txns::ClientTxn,
    events::EventFlags,
    members::Membership,
    persist::{Live, NewEvent, NewMember, Relation},
    state::Part,
};
use serde_json::Value;

use super::{NoState, PIECE, PendingRoom};
use crate::proposal::Sent;
use crate::{
    Error, Result,
    pending_room::{
        ingest::{Admitted, Verdict},
        resolution, summary, unread,
    },
    store::{RoomEvent, Store},
};

/// The distance between the timeline keys of live events: room for events that fill a gap later.
pub(super) const TIMELINE_KEY_STEP: i64 = 1 << 20;

/// What of the current state an event changes.
#[derive(Default)]
struct Changes {
    /// Keys outside membership, and who holds them now.
    core: Vec<(StateKeyNid, Option<EventNid>)>,
    /// Member events that were replaced, and by what.
    members: Vec<(Option<EventNid>, Option<EventNid>)>,
}

/// Members that became something, and what that does to the counts.
#[derive(Default)]
struct MemberChanges {
    rows: Vec<NewMember>,
    /// Joined members of other servers.
    servers: BTreeMap<OwnedServerName, i64>,
    /// Another server, an invitation or knock of whose user a user of this one ends.
    ends_at: Option<OwnedServerName>,
    joined: i64,
    invited: i64,
}

impl PendingRoom {
    /// Adds an admitted event.
    pub(crate) async fn add(
        &mut self,
        store: &Store,
        admitted: Admitted,
        txn: Option<ClientTxn>,
    ) -> Result<Sent> {
        let flags = match admitted.verdict {
            Verdict::Accepted if admitted.is_handed_over => EventFlags::HANDED_OVER,
            Verdict::Accepted => EventFlags::default(),
            Verdict::SoftFailed => EventFlags::SOFT_FAILED,
            Verdict::Rejected => EventFlags::REJECTED,
        };
        let flags = match admitted.missing_prevs.is_empty() {
            true => flags,
            false => flags.with(EventFlags::AFTER_GAP),
        };
        let mut room_event = self.hold(&admitted, flags);
        if admitted.verdict != Verdict::Accepted {
            let mut row = row(&admitted, flags, txn);
            if admitted.verdict == Verdict::SoftFailed {
                // It counts once what it redacts is there.
                row.redacts = admitted.event.redacts().map(ToString::to_string);
            }
            self.remember(room_event, row);
            return Ok(sent(&admitted));
        }
        self.add_accepted(store, &admitted, &mut room_event, txn).await?;
        Ok(sent(&admitted))
    }

    /// Keeps the state after an admitted event, if it is new, and returns the event as one of the room that
    /// clients do not see yet.
    pub(super) fn hold(&mut self, admitted: &Admitted, flags: EventFlags) -> RoomEvent {
        if let Some(new) = &admitted.new_state {
            self.add_state(new);
        }
        RoomEvent {
            nid: admitted.nid,
            room: self.room.nid,
            event: Arc::clone(&admitted.event),
            sender: admitted.sender,
            event_type: admitted.event_type,
            state_key_nid: admitted.state_key_nid,
            flags,
            state_before: admitted.state_before,
            state_after: Some(admitted.state_after),
            timeline_key: None,
            pos: None,
            thread: None,
            outcome: PushOutcome::Nothing,
        }
    }

    async fn add_accepted(
        &mut self,
        store: &Store,
        admitted: &Admitted,
        room_event: &mut RoomEvent,
        txn: Option<ClientTxn>,
    ) -> Result<()> {
        // The event must be found by what follows.
        self.added.fresh_ids.insert(admitted.event.event_id().to_owned(), room_event.nid);
        self.added.fresh.insert(room_event.nid, Arc::new(room_event.clone()));
        let mut extremities = self.tip.extremities.clone();
        extremities.retain(|nid| !admitted.enters && !admitted.prevs.contains(nid));
        extremities.push(admitted.nid);
        let current = match extremities.len() {
            1 => admitted.state_after,
            _ => self.state_after_all(store, &extremities).await?,
        };
        let changes = self.changes(store, admitted, current).await?;
        let members = self.member_changes(store, &changes.members).await?;
        let relation = self.relation(store, &admitted.event).await?;
        let redacted = self.redacted(store, &admitted.event, admitted.state_before).await?;
        let joined = self.tip.joined + members.joined;
        if !members.rows.is_empty() {
            self.tip.custom_rules = None;
        }
        if !members.rows.is_empty() || !changes.core.is_empty() {
            self.tip.policy = None;
        }
        let meaning = unread::evaluate(self, store, admitted, joined).await?;
        let mut row = row(admitted, room_event.flags, txn);
        row.redacts = admitted.event.redacts().map(|id| id.to_string());
        let summary = self.summarise(store, &changes.core, joined).await?;

        room_event.thread = relation.as_ref().and_then(|(_, thread)| *thread);
        room_event.timeline_key = Some(self.tip.last_timeline_key + TIMELINE_KEY_STEP);
        room_event.outcome = meaning.outcome;
        self.tip.last_timeline_key += TIMELINE_KEY_STEP;
        self.tip.notif_seq += i64::from(meaning.outcome.notifies());
        self.tip.unthreaded_seq +=
            i64::from(meaning.outcome.notifies() && room_event.thread.is_none());
        self.tip.highlight_seq += i64::from(meaning.outcome.highlights());
        row.relation = relation.map(|(relation, _)| relation);
        row.live = Some(Live {
            timeline_key: room_event.timeline_key,
            outcome: meaning.outcome,
            notif_seq: self.tip.notif_seq,
            unthreaded_seq: self.tip.unthreaded_seq,
            highlight_seq: self.tip.highlight_seq,
            thread: room_event.thread,
            state: (self.tip.state != Some(current)).then_some(current),
            members: members.rows,
            servers: members.servers.into_iter().collect(),
            ends_at: members.ends_at,
            stripped: None,
            user_outcomes: meaning.user_outcomes,
        });
        self.tip.state = Some(current);
        self.tip.extremities = extremities;
        self.tip.depth = self.tip.depth.max(row.depth);
        self.tip.joined = joined;
        self.tip.invited += members.invited;
        if let Some(summary) = summary {
            self.added.closed_to_guests |= self.tip.summary.guest_access && !summary.guest_access;
            self.tip.summary = summary;
            self.added.summary_changed = true;
        }
        self.remember_with(store, room_event.clone(), row, redacted).await
    }

    pub(super) fn remember(&mut self, room_event: RoomEvent, row: NewEvent) {
        let event_id = room_event.event.event_id().to_owned();
        if let Some(txn) = &row.txn {
            let sent = Sent { event_id: event_id.clone(), nid: room_event.nid };
            self.added.txns.insert(txn.clone(), sent);
        }
        self.added.fresh_ids.insert(event_id, room_event.nid);
        self.added.fresh.insert(room_event.nid, Arc::new(room_event));
        self.added.events.push(row);
    }

    /// Returns the state after all of these events together.
    pub(crate) async fn state_after_all(
        &mut self,
        store: &Store,
        nids: &[EventNid],
    ) -> Result<StateNid> {
        let states = self.states_after(store, nids).await?;
        self.resolved(store, states).await
    }

    /// Returns the states after events.
    pub(super) async fn states_after(
        &self,
        store: &Store,
        nids: &[EventNid],
    ) -> Result<Vec<StateNid>> {
        let events = self.events_of(store, nids).await?;
        Ok(events.into_iter().filter_map(|event| event.state_after).collect())
    }

    /// Returns the state that several states make.
    pub(super) async fn resolved(
        &mut self,
        store: &Store,
        mut states: Vec<StateNid>,
    ) -> Result<StateNid> {
        states.sort_unstable();
        states.dedup();
        match states[..] {
            [] => Err(Error::internal("find the state of a room", NoState)),
            [one] => Ok(one),
            _ => {
                let resolved = resolution::resolve(self, store, &states).await?;
                if let Some(new) = &resolved.new_state {
                    self.add_state(new);
                }
                Ok(resolved.state)
            }
        }
    }

    /// Finds what changes in the current state.
    async fn changes(
        &self,
        store: &Store,
        admitted: &Admitted,
        current: StateNid,
    ) -> Result<Changes> {
        let mut changes = Changes::default();
        if self.tip.state == admitted.state_before && current == admitted.state_after {
            let Some(new) = &admitted.new_state else { return Ok(changes) };
            for delta in &new.deltas {
                match *admitted.event.event_type() {
                    TimelineEventType::RoomMember => {
                        changes.members.push((delta.before, delta.after));
                    }
                    _ => changes.core.push((delta.state_key_nid, delta.after)),
                }
            }
            return Ok(changes);
        }
        let states = store.states();
        let Some(before) = self.tip.state else {
            for entry in states.list_with(current, Part::Core, &self.trie).await? {
                changes.core.push((entry.state_key_nid, Some(entry.event)));
            }
            for entry in states.list_with(current, Part::Member, &self.trie).await? {
                changes.members.push((None, Some(entry.event)));
            }
            return Ok(changes);
        };
        for delta in states.diff_with(before, current, Part::Core, &self.trie).await? {
            changes.core.push((delta.state_key_nid, delta.after));
        }
        for delta in states.diff_with(before, current, Part::Member, &self.trie).await? {
            changes.members.push((delta.before, delta.after));
        }
        Ok(changes)
    }

    async fn member_changes(
        &self,
        store: &Store,
        changes: &[(Option<EventNid>, Option<EventNid>)],
    ) -> Result<MemberChanges> {
        let mut result = MemberChanges::default();
        let ours = &store.context.server_name;
        let mut count = |event: &RoomEvent, by: i64| match event.event.membership() {
            Some(MembershipState::Join) => {
                result.joined += by;
                let user = event.event.state_key().and_then(|user| UserId::parse(user).ok());
                if let Some(user) = user.filter(|user| user.server_name() != ours) {
                    *result.servers.entry(user.server_name().to_owned()).or_default() += by;
                }
            }
            Some(MembershipState::Invite) => result.invited += by,
            _ => {}
        };
        let mut rows = Vec::with_capacity(changes.len());
        let mut events: HashMap<EventNid, Arc<RoomEvent>> = HashMap::new();
        for (number, (before, after)) in changes.iter().enumerate() {
            if number % PIECE == 0 {
                let piece = &changes[number..changes.len().min(number + PIECE)];
                let nids = piece.iter().flat_map(|(before, after)| [*before, *after]).flatten();
                let nids: Vec<EventNid> = nids.collect();
                let together = self.events_together(store, &nids).await?;
                events = together.into_iter().map(|event| (event.nid, event)).collect();
            }
            let (mut last, mut waited) = (None, false);
            if let Some(before) = before {
                let event = Arc::clone(&events[before]);
                count(&event, -1);
                waited = matches!(
                    event.event.membership(),
                    Some(MembershipState::Invite | MembershipState::Knock)
                );
                last = Some((event, Membership::Leave));
            }
            if let Some(after) = after {
                let event = Arc::clone(&events[after]);
                count(&event, 1);
                let membership = event.event.membership();
                // The rules let no other membership pass.
                let kind = membership.as_ref().and_then(Membership::of);
                last = Some((event, kind.unwrap_or(Membership::Leave)));
            }
            if let Some((event, membership)) = last {
                if waited && matches!(membership, Membership::Leave | Membership::Ban) {
                    result.ends_at = ends_at(&event.event, ours);
                }
                rows.extend(member_row(store, &event, membership).await?);
            }
        }
        result.rows = rows;
        result.servers.retain(|_, by| *by != 0);
        Ok(result)
    }

    /// Returns what the room shows, if that changes.
    async fn summarise(
        &self,
        store: &Store,
        changes: &[(StateKeyNid, Option<EventNid>)],
        joined: i64,
    ) -> Result<Option<colonnade_storage::rooms::summaries::Summary>> {
        let mut summary = self.tip.summary.clone();
        let state_key_nids: Vec<StateKeyNid> =
            changes.iter().map(|(state_key_nid, _)| *state_key_nid).collect();
        let names = store.context.interned.state_keys(&state_key_nids).await?;
        for (name, (_, after)) in names.iter().zip(changes) {
            if name.state_key.is_empty() && summary::shows(&name.event_type) {
                let event = match after {
                    Some(nid) => Some(self.event(store, *nid).await?),
                    None => None,
                };
                let event = event.as_ref().map(|event| &*event.event);
                summary::apply(&mut summary, &name.event_type, event);
            }
        }
        summary.joined = joined;
        Ok((summary != self.tip.summary).then_some(summary))
    }

    /// Returns what the event relates to, if that is known, and the thread that puts it in.
    pub(super) async fn relation(
        &self,
        store: &Store,
        event: &colonnade_rules::event::Event,
    ) -> Result<Option<(Relation, Option<EventNid>)>> {
        let Some(relates_to) = RelatesTo::of(event) else { return Ok(None) };
        let Some(parent) = self.find(store, &relates_to.event_id).await? else { return Ok(None) };
        if parent.room != self.room.nid {
            return Ok(None);
        }
        let is_reply = relates_to.rel_type == "m.thread";
        // A relation that breaks the rules is ignored: no thread starts at what relates to another event.
        if is_reply && RelatesTo::of(&parent.event).is_some() {
            return Ok(None);
        }
        // A reaction to an event in a thread is in that thread too.
        let thread = if is_reply { Some(parent.nid) } else { parent.thread };
        let relation =
            Relation { parent: parent.nid, rel_type: relates_to.rel_type, key: relates_to.key };
        Ok(Some((relation, thread)))
    }
}

pub(super) fn sent(admitted: &Admitted) -> Sent {
    Sent { event_id: admitted.event.event_id().to_owned(), nid: admitted.nid }
}

/// Makes the row of an event that clients do not see.
pub(super) fn row(admitted: &Admitted, flags: EventFlags, txn: Option<ClientTxn>) -> NewEvent {
    let event = &admitted.event;
    NewEvent {
        nid: admitted.nid,
        event_id: event.event_id().to_string(),
        event_type: admitted.event_type,
        sender: admitted.sender,
        state_key_nid: admitted.state_key_nid,
        depth: i64::try_from(event.depth()).unwrap_or(i64::MAX),
        origin_ts: i64::try_from(u64::from(event.origin_server_ts().0)).unwrap_or(i64::MAX),
        received_ts: admitted.received_ts,
        flags,
        state_before: admitted.state_before,
        state_after: Some(admitted.state_after),
        prevs: admitted.prevs.clone(),
        missing_prevs: admitted.missing_prevs.clone(),
        was_outlier: admitted.was_outlier,
        history_key: None,
        auths: admitted.auths.clone(),
        json: event.shared_json(),
        txn,
        relation: None,
        redacts: None,
        redaction: None,
        live: None,
    }
}

pub(super) async fn member_row(
    store: &Store,
    member: &RoomEvent,
    membership: Membership,
) -> Result<Option<NewMember>> {
    let state_key = member.event.state_key().unwrap_or_default();
    let Ok(user) = UserId::parse(state_key) else { return Ok(None) };
    let user: UserNid = store.context.interned.user(&user).await?;
    let content: HashMap<String, Value> = member.event.content_as().unwrap_or_default();
    let text = |key: &str| content.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(Some(NewMember {
        user,
        membership,
        event: member.nid,
        sender: member.sender,
        display_name: text("displayname").map(|name| name.replace('\0', "")),
        avatar_url: text("avatar_url").map(|url| url.replace('\0', "")),
    }))
}

/// Returns the server of a user of another one about whom a user of this one says something.
fn ends_at(event: &Event, ours: &ServerName) -> Option<OwnedServerName> {
    let user = event.state_key().and_then(|user| UserId::parse(user).ok())?;
    let is_told = user.server_name() != ours && event.sender().server_name() == ours;
    is_told.then(|| user.server_name().to_owned())
}

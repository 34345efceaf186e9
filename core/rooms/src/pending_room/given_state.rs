//! States that another server says: of a room one enters, before an event whose history is missing here, and
//! of a room of which nothing is known but one's own membership.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use colonnade_model::{
    MatrixError,
    nid::{EventNid, StateKeyNid, StateNid},
    ruma::{OwnedServerName, UserId},
};
use colonnade_rules::{push::PushOutcome, trie::Entry};
use colonnade_storage::rooms::{
    events::EventFlags, members::Membership, persist::Live, state::Part,
};
use serde_json::Value;

use super::{
    PIECE, PendingRoom,
    apply::{member_row, row, sent},
    ingest::Admitted,
};
use crate::{Error, Result, proposal::Sent, store::RoomEvent, store::Store};

/// Events that are shown of a room whose senders' servers are noted: who wants to leave asks one of them.
const SERVERS_MAX: usize = 10;

impl PendingRoom {
    /// Makes the state that consists of these events, or the one after an event if this is the one before it.
    /// Rejected ones are left out.
    ///
    /// # Errors
    /// When the database fails, or lacks one of them.
    pub(crate) async fn given_state(
        &mut self,
        store: &Store,
        events: &[EventNid],
        then: Option<EventNid>,
    ) -> Result<StateNid> {
        let (mut core, mut member) = (BTreeMap::new(), BTreeMap::new());
        for piece in events.chunks(PIECE).chain(then.as_ref().map(std::slice::from_ref)) {
            for event in self.events_together(store, piece).await? {
                let usable = event.room == self.room.nid && !event.flags.has(EventFlags::REJECTED);
                let Some(state_key_nid) = event.state_key_nid.filter(|_| usable) else { continue };
                match Part::of(&event.event.event_type().to_string()) {
                    Part::Core => core.insert(state_key_nid, event.nid),
                    Part::Member => member.insert(state_key_nid, event.nid),
                };
            }
        }
        let entries = |part: BTreeMap<StateKeyNid, EventNid>| {
            let entry = |(state_key_nid, event)| Entry { state_key_nid, event };
            part.into_iter().map(entry).collect::<Vec<_>>()
        };
        let (core, member) = (entries(core), entries(member));
        let context = &store.context;
        // A row holds at least two hundred entries, and each part begins one.
        let rows = (core.len() + member.len()) / 100 + 4;
        let below = self.tip.state.unwrap_or(StateNid(0));
        let first = context.nids.states(&context.db, rows, below).await?;
        let mut ids = (first.0..).map(StateNid);
        let mut next = || ids.next().unwrap_or(first);
        let made = store.states().build(core, member, &mut next)?;
        debug_assert!(made.rows.len() <= rows, "more rows than ids");
        if made.rows.is_empty() {
            return Err(MatrixError::not_found("a state without events").into());
        }
        if let Some(equal) = store.states().find_equal(self.room.nid, &made.state).await? {
            return Ok(equal);
        }
        self.add_state(&made);
        Ok(made.nid)
    }

    /// Adds a membership of a user of this server in a room that is not known here. It is all that is known
    /// of the room, and no part of its timeline.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn add_out_of_band(
        &mut self,
        store: &Store,
        admitted: Admitted,
        stripped: String,
    ) -> Result<Sent> {
        let membership = admitted.event.membership().and_then(|state| Membership::of(&state));
        let Some(membership) = membership else {
            return Err(Error::internal("take a membership", NoMembership));
        };
        let held = self.hold(&admitted, EventFlags::OUTLIER);
        let room_event = RoomEvent { state_before: None, state_after: None, ..held };
        let member = member_row(store, &room_event, membership).await?;
        let user = member.as_ref().map(|member| member.user);
        let sender = admitted.event.sender().server_name().to_owned();
        let mut servers = servers_of(&stripped);
        servers.insert(sender);
        servers.remove(&store.context.server_name);
        let shown = (membership == Membership::Invite || membership == Membership::Knock)
            .then(|| user.map(|user| (user, stripped)))
            .flatten();
        let mut row = row(&admitted, EventFlags::OUTLIER, None);
        (row.state_before, row.state_after) = (None, None);
        row.live = Some(Live {
            timeline_key: None,
            outcome: PushOutcome::Nothing,
            notif_seq: self.tip.notif_seq,
            unthreaded_seq: self.tip.unthreaded_seq,
            highlight_seq: self.tip.highlight_seq,
            thread: None,
            state: Some(admitted.state_after),
            members: member.into_iter().collect(),
            // Noted as servers of the room that have no members that are known.
            servers: servers.into_iter().map(|server| (server, 0)).collect(),
            ends_at: None,
            stripped: shown,
            user_outcomes: Vec::new(),
        });
        self.tip.state = Some(admitted.state_after);
        self.tip.extremities = vec![admitted.nid];
        self.tip.depth = self.tip.depth.max(row.depth);
        self.tip.joined = 0;
        self.tip.invited = i64::from(membership == Membership::Invite);
        self.remember(room_event, row);
        Ok(sent(&admitted))
    }

    /// Returns events, committed or not, in no particular order.
    pub(super) async fn events_together(
        &self,
        store: &Store,
        nids: &[EventNid],
    ) -> Result<Vec<Arc<RoomEvent>>> {
        let (fresh, stored): (Vec<EventNid>, Vec<EventNid>) =
            nids.iter().partition(|nid| self.is_fresh(**nid));
        let mut events = store.events(&stored).await?;
        events.extend(self.events_of(store, &fresh).await?);
        Ok(events)
    }
}

/// Returns the servers whose users made what is shown of a room: the first of them.
fn servers_of(stripped: &str) -> BTreeSet<OwnedServerName> {
    let shown: Vec<Value> = serde_json::from_str(stripped).unwrap_or_default();
    let senders = shown.iter().filter_map(|event| UserId::parse(event["sender"].as_str()?).ok());
    senders.map(|sender| sender.server_name().to_owned()).take(SERVERS_MAX).collect()
}

/// A membership event has no membership this server knows.
#[derive(Debug, thiserror::Error)]
#[error("an event without a membership")]
struct NoMembership;

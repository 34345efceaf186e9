//! Adding events to a pending room: those of our own users, which are made here, and those others made.

use std::{collections::BTreeMap, sync::Arc};

use colonnade_model::{
    MatrixError,
    nid::{EventNid, StateNid},
    ruma::{
        CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, UInt,
        room_version_rules::RoomVersionRules,
    },
};
use colonnade_rules::{
    auth::{StateKey, state_keys_to_check},
    event::{Draft, Event, Reference, depth_after},
};
use colonnade_storage::rooms::client_txns::ClientTxn;
use serde_json::value::to_raw_value;

use super::{
    PendingRoom,
    ingest::{self, Verdict},
};
use crate::{Error, Result};
use crate::{
    incoming::{Incoming, PolicyCheck, StateBefore},
    proposal::{CHANGED_MEANWHILE, Proposal, Sent, draft_error},
    remote::policy_servers::wanted,
    store::{Room, RoomEvent, Store},
};

/// Extremities a new event follows at most; what is left is followed by the next one. The
/// specification allows 20; fewer keep state resolution small.
const PREVS_MAX: usize = 10;

impl PendingRoom {
    /// Adds an event of a user of this server, allowed by the current state.
    ///
    /// A state event that changes nothing is not sent again: the current one is the answer.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when it is not allowed, `M_BAD_JSON` and `M_TOO_LARGE` when it cannot be.
    pub(crate) async fn propose(&mut self, store: &Store, proposal: Proposal) -> Result<Sent> {
        let keys = self.keys_to_check(&proposal)?;
        let prevs = self.prevs();
        let state_before = match prevs.len() == self.tip.extremities.len() {
            true => self.tip.state,
            false => Some(self.state_after_all(store, &prevs).await?),
        };
        let allowing = self.look_up(store, state_before, &keys).await?;
        self.require_unchanged(store, state_before, &proposal).await?;
        if let Some(same) = self.same_state(store, state_before, &proposal).await? {
            return Ok(same);
        }
        if let Some((event_id, json)) = proposal.signed {
            return self.add_signed(store, event_id, json, proposal.txn).await;
        }
        let (kind, state_key) = (&proposal.event_type, proposal.state_key.as_deref());
        if self.wants_policy(store, kind, state_key).await? {
            return Err(wanted().into());
        }
        let draft = self.draft(store, &proposal, &prevs, &allowing).await?;
        let event = sign(store, draft, &self.room)?;
        let admitted = ingest::local(self, store, event, prevs, state_before, &allowing).await?;
        self.add(store, admitted, proposal.txn).await
    }

    /// Adds an event of a user of this server that was made of a proposal and then signed by the room's policy
    /// server. It may follow what was current then.
    async fn add_signed(
        &mut self,
        store: &Store,
        event_id: OwnedEventId,
        json: String,
        txn: Option<ClientTxn>,
    ) -> Result<Sent> {
        let event = Event::from_stored(json.into_bytes(), event_id, &self.room.rules, false);
        let event = event.map_err(|error| Error::internal("read a signed event", error))?;
        let place = (&StateBefore::Followed, PolicyCheck::Asked);
        let admitted = ingest::received(self, store, event, place, None).await?;
        match admitted.verdict {
            Verdict::Accepted => self.add(store, admitted, txn).await,
            _ => Err(MatrixError::forbidden("the room changed meanwhile; try again").into()),
        }
    }

    /// Fills in an event that follows these and is allowed by those.
    async fn draft(
        &self,
        store: &Store,
        proposal: &Proposal,
        prevs: &[EventNid],
        allowing: &BTreeMap<StateKey, Arc<RoomEvent>>,
    ) -> Result<Draft> {
        let rules = &self.room.rules;
        let previous = self.events_of(store, prevs).await?;
        let now = UInt::try_from(store.context.now_ms()).unwrap_or_default();
        Ok(Draft {
            room_id: Some(self.room.room_id.clone()),
            sender: proposal.sender.clone(),
            event_type: proposal.event_type.clone(),
            state_key: proposal.state_key.clone(),
            content: proposal.content.clone(),
            prev_events: references(previous.iter(), rules)?,
            auth_events: references(allowing.values(), rules)?,
            depth: depth_after(previous.iter().map(|event| event.event.depth())),
            origin_server_ts: MilliSecondsSinceUnixEpoch(now),
            redacts: proposal.redacts.clone(),
            opaque_id: Draft::opaque_id(rules, &*store.context.random),
        })
    }

    /// Makes the event that a user of another server would send now, for that server to complete.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when it would not be allowed.
    pub(crate) async fn template(
        &mut self,
        store: &Store,
        proposal: Proposal,
    ) -> Result<CanonicalJsonObject> {
        let prevs = self.prevs();
        let state_before = Some(self.state_after_all(store, &prevs).await?);
        let keys = self.keys_to_check(&proposal)?;
        let allowing = self.look_up(store, state_before, &keys).await?;
        let draft = self.draft(store, &proposal, &prevs, &allowing).await?;
        // Signed for a look at what the rules say of it; what is signed stays here.
        let event = sign(store, draft.clone(), &self.room)?;
        ingest::allowed(self, &event, &allowing)?;
        let template = draft.template(&store.context.server_name, &self.room.rules);
        Ok(template.map_err(draft_error)?)
    }

    /// Returns the keys of the state that decides about a proposal.
    fn keys_to_check(&self, proposal: &Proposal) -> Result<Vec<StateKey>> {
        let bad = |why: &dyn std::fmt::Display| MatrixError::bad_json(why.to_string());
        let raw = to_raw_value(&proposal.content).map_err(|error| bad(&error))?;
        let keys = state_keys_to_check(
            &proposal.event_type,
            &proposal.sender,
            proposal.state_key.as_deref(),
            &raw,
            &self.room.rules.authorization,
        );
        Ok(keys.map_err(|rejection| bad(&rejection.why))?)
    }

    /// Adds the create event of a new room, which was made before its id was known.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when no room can begin with it.
    pub(crate) async fn begin(&mut self, store: &Store, create: Event) -> Result<Sent> {
        let nothing = BTreeMap::new();
        let admitted = ingest::local(self, store, create, Vec::new(), None, &nothing).await?;
        self.add(store, admitted, None).await
    }

    /// Adds an event that exists already, as a peer sends it. What allows it must be known, and what it
    /// follows too, unless the state before it is given.
    ///
    /// # Errors
    /// When something it refers to is not known, or the database fails. A rejected or soft-failed
    /// event is stored and no error.
    pub(crate) async fn receive(&mut self, store: &Store, incoming: Incoming) -> Result<Sent> {
        let Incoming { event, before, policy } = incoming;
        let known = self.find_own(store, event.event_id()).await?;
        if let Some(known) = &known
            && !known.waits_outside()
        {
            return Ok(Sent { event_id: event.event_id().to_owned(), nid: known.nid });
        }
        let outlier = known.map(|known| known.nid);
        if let StateBefore::OutOfBand(stripped) = before {
            let admitted = ingest::out_of_band(self, store, event, outlier).await?;
            return self.add_out_of_band(store, admitted, stripped).await;
        }
        // Whoever enters a room knows nothing of it; the server he comes in over asked.
        let policy = match before {
            StateBefore::Entered(_) => PolicyCheck::NotDue,
            _ => policy,
        };
        let admitted = ingest::received(self, store, event, (&before, policy), outlier).await?;
        self.add(store, admitted, None).await
    }

    /// Returns the extremities that the next event follows.
    pub(super) fn prevs(&self) -> Vec<EventNid> {
        let mut prevs = self.tip.extremities.clone();
        prevs.sort_unstable();
        prevs.split_off(prevs.len().saturating_sub(PREVS_MAX))
    }

    /// Refuses a proposal that was made from something else than what stands there.
    async fn require_unchanged(
        &self,
        store: &Store,
        state: Option<StateNid>,
        proposal: &Proposal,
    ) -> Result<()> {
        let (Some(over), Some(state_key)) = (&proposal.over, &proposal.state_key) else {
            return Ok(());
        };
        let key: StateKey = (proposal.event_type.to_string().into(), state_key.clone());
        let current = self.look_up(store, state, std::slice::from_ref(&key)).await?;
        if over.is(current.get(&key)) {
            return Ok(());
        }
        let why = "somebody else changed this at the same time; try again";
        Err(MatrixError::unknown(why).with_status(CHANGED_MEANWHILE).into())
    }

    /// Returns the current event if the proposal would only repeat it.
    async fn same_state(
        &self,
        store: &Store,
        state: Option<StateNid>,
        proposal: &Proposal,
    ) -> Result<Option<Sent>> {
        let Some(state_key) = &proposal.state_key else { return Ok(None) };
        let key: StateKey = (proposal.event_type.to_string().into(), state_key.clone());
        let current = self.look_up(store, state, std::slice::from_ref(&key)).await?;
        let content = to_raw_value(&proposal.content)
            .map_err(|why| MatrixError::bad_json(why.to_string()))?;
        let same = current.get(&key).filter(|current| {
            current.event.sender() == proposal.sender
                && current.event.content().get() == content.get()
        });
        Ok(same.map(|same| Sent { event_id: same.event.event_id().to_owned(), nid: same.nid }))
    }
}

/// Names events as a new one does.
fn references<'e>(
    events: impl Iterator<Item = &'e Arc<RoomEvent>>,
    rules: &RoomVersionRules,
) -> Result<Vec<Reference>> {
    let named = events.map(|event| event.event.reference(rules));
    let named: std::result::Result<_, _> = named.collect();
    named.map_err(|error| Error::internal("name an event", error))
}

/// Signs a draft with this server's key.
pub(crate) fn sign(store: &Store, draft: Draft, room: &Room) -> Result<Event> {
    let context = &store.context;
    let key = context.signing_key.current();
    let signed = draft.sign(&context.server_name, &*key, &room.rules);
    Ok(signed.map_err(draft_error)?)
}

//! The one door into a room: every event, sent here or received, is checked here, and only what
//! comes out as [`Admitted`] can be written.
//!
//! An event of our own users is checked by the state it was made for; if that does not allow it,
//! there is no event. A received event is checked three times (Matrix v1.19, server-server,
//! "Checks performed on receipt of a PDU"): by its auth events and by the state before it, each of
//! which rejects; and by the current state, which soft-fails, as does the room's policy server. Rejected and
//! soft-failed events are stored and shown to nobody; only a soft-failed one counts in the state after it.

use std::{collections::BTreeMap, sync::Arc};

use colonnade_model::{
    MatrixError,
    nid::{EventNid, StateKeyNid, StateNid, TypeNid, UserNid},
    ruma::{EventId, OwnedEventId, events::StateEventType},
};
use colonnade_rules::{
    auth::{Rejection, StateKey, check_by_auth_events, check_by_state, state_keys_to_check},
    event::Event,
    trie::{NewState, StateChange},
};
use colonnade_storage::rooms::state::Part;

use super::{PendingRoom, redactions};
use crate::store::{RoomEvent, Store};
use crate::{
    Result,
    incoming::{PolicyCheck, StateBefore},
};

/// What the checks said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Allowed.
    Accepted,
    /// Allowed where it stands, but no longer by the current state, or not recommended by the room's policy
    /// server; or a redaction that redacts nothing.
    SoftFailed,
    /// Not allowed.
    Rejected,
}

/// An event that was checked, with everything needed to write it.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) nid: EventNid,
    pub(crate) event: Arc<Event>,
    pub(crate) sender: UserNid,
    pub(crate) event_type: TypeNid,
    pub(crate) state_key_nid: Option<StateKeyNid>,
    pub(crate) prevs: Vec<EventNid>,
    /// What it follows that is not part of the room here.
    pub(crate) missing_prevs: Vec<OwnedEventId>,
    /// It was stored as an outlier before.
    pub(crate) was_outlier: bool,
    /// The state before it is all that is known of the room.
    pub(crate) enters: bool,
    /// Its server handed it over, for this one to tell the others.
    pub(crate) is_handed_over: bool,
    pub(crate) auths: Vec<EventNid>,
    pub(crate) state_before: Option<StateNid>,
    pub(crate) state_after: StateNid,
    /// The state after it, if that is a new one.
    pub(crate) new_state: Option<NewState>,
    pub(crate) verdict: Verdict,
    pub(crate) received_ts: i64,
}

/// The events that allow another, by key.
type Allowing = BTreeMap<StateKey, Arc<RoomEvent>>;

/// Checks an event of one of our users, made for `state_before`.
///
/// # Errors
/// `M_FORBIDDEN` when it is not allowed.
pub(crate) async fn local(
    pending: &PendingRoom,
    store: &Store,
    event: Event,
    prevs: Vec<EventNid>,
    state_before: Option<StateNid>,
    allowing: &Allowing,
) -> Result<Admitted> {
    allowed(pending, &event, allowing)?;
    let auths = allowing.values().map(|event| event.nid).collect();
    let place = Place { prevs, auths, state_before, ..Place::default() };
    admit(pending, store, event, place, Verdict::Accepted).await
}

/// Checks whether an event is allowed by those that it says allow it.
///
/// # Errors
/// `M_FORBIDDEN`.
pub(crate) fn allowed(
    pending: &PendingRoom,
    event: &Event,
    allowing: &Allowing,
) -> Result<(), MatrixError> {
    let forbidden = |rejection: Rejection| MatrixError::forbidden(rejection.why);
    let rules = &pending.room.rules.authorization;
    let by_id = |id: &EventId| {
        let found = allowing.values().find(|found| found.event.event_id() == id);
        found.map(|found| Arc::clone(&found.event))
    };
    check_by_auth_events(event, rules, by_id).map_err(forbidden)?;
    check_by_state(event, rules, |kind, key| held(allowing, kind, key)).map_err(forbidden)
}

/// Where an event stands in the graph.
#[derive(Default)]
struct Place {
    prevs: Vec<EventNid>,
    missing_prevs: Vec<OwnedEventId>,
    auths: Vec<EventNid>,
    state_before: Option<StateNid>,
    enters: bool,
    is_handed_over: bool,
    /// Its id here, if it is stored as an outlier.
    outlier: Option<EventNid>,
}

/// Checks an event that somebody else made; `outlier` is its id here, if it is stored as one.
///
/// # Errors
/// `M_NOT_FOUND` when what allows it is not known here, or what it follows is not and the state before it is
/// not given; or the database fails.
pub(crate) async fn received(
    pending: &mut PendingRoom,
    store: &Store,
    event: Event,
    (before, policy): (&StateBefore, PolicyCheck),
    outlier: Option<EventNid>,
) -> Result<Admitted> {
    let (prevs, missing_prevs) = followed(pending, store, event.prev_events()).await?;
    let auth_events = known(pending, store, event.auth_events()).await?;
    let state_before = state_before(pending, store, before, &prevs, &missing_prevs).await?;
    let mut allowing = auth_events.clone();
    allowing.extend(create_event(pending, store).await?);
    let verdict = match allowed_by(pending, &event, &allowing) {
        false => Verdict::Rejected,
        true => {
            let current = match before {
                StateBefore::Entered(_) => Some(state_before),
                _ => pending.tip.state,
            };
            match check_by_states(pending, store, &event, state_before, current).await? {
                Verdict::Accepted
                    if !redactions::counts(pending, store, &event, state_before).await? =>
                {
                    Verdict::SoftFailed
                }
                Verdict::Accepted if !pending.recommends(store, &event, policy).await? => {
                    Verdict::SoftFailed
                }
                verdict => verdict,
            }
        }
    };
    let auths = auth_events.iter().map(|event| event.nid).collect();
    let enters = matches!(before, StateBefore::Entered(_));
    let state_before = Some(state_before);
    let is_handed_over = matches!(before, StateBefore::HandedOver);
    let place =
        Place { prevs, missing_prevs, auths, state_before, enters, is_handed_over, outlier };
    admit(pending, store, event, place, verdict).await
}

/// Tells whether a received event is allowed by the events that it says allow it, and the create event.
pub(super) fn allowed_by(
    pending: &PendingRoom,
    event: &Event,
    allowing: &[Arc<RoomEvent>],
) -> bool {
    if allowing.iter().any(|allowing| allowing.room != pending.room.nid) {
        tracing::debug!(event_id = %event.event_id(), "events of another room cannot allow it");
        return false;
    }
    if event.is_overlong() {
        tracing::debug!(event_id = %event.event_id(), "a type or state key that is too long");
        return false;
    }
    let rules = &pending.room.rules.authorization;
    let by_id = |id: &EventId| {
        let found = allowing.iter().find(|found| found.event.event_id() == id);
        found.map(|found| Arc::clone(&found.event))
    };
    let by_key: Allowing = allowing
        .iter()
        .filter_map(|allowing| {
            let state_key = allowing.event.state_key()?.to_owned();
            let kind = allowing.event.event_type().to_string().into();
            Some(((kind, state_key), Arc::clone(allowing)))
        })
        .collect();
    let checked = check_by_auth_events(event, rules, by_id)
        .and_then(|()| check_by_state(event, rules, |kind, key| held(&by_key, kind, key)));
    if let Err(rejection) = &checked {
        tracing::debug!(event_id = %event.event_id(), %rejection, "rejected by auth events");
    }
    checked.is_ok()
}

/// Finds the state before a received event, which follows these.
async fn state_before(
    pending: &mut PendingRoom,
    store: &Store,
    before: &StateBefore,
    prevs: &[EventNid],
    missing_prevs: &[OwnedEventId],
) -> Result<StateNid> {
    match before {
        StateBefore::Given(events) | StateBefore::Entered(events) => {
            pending.given_state(store, events, None).await
        }
        StateBefore::Between(given) => {
            let mut states = pending.states_after(store, prevs).await?;
            for (before, event) in given {
                states.push(pending.given_state(store, before, Some(*event)).await?);
            }
            pending.resolved(store, states).await
        }
        _ if missing_prevs.is_empty() => pending.state_after_all(store, prevs).await,
        _ => Err(unknown(&missing_prevs[0]).into()),
    }
}

/// Checks an event of the past by its auth events and by the state before it, which follows from what it
/// follows as far as that is known, or else is given or the current one.
///
/// # Errors
/// `M_NOT_FOUND` when what allows it is not known here, or the database fails.
pub(crate) async fn of_history(
    pending: &mut PendingRoom,
    store: &Store,
    event: Event,
    before: StateBefore,
    outlier: Option<EventNid>,
) -> Result<Admitted> {
    if event.prev_events().is_empty() {
        // The beginning of the room, which everything rests on that is known of it.
        return admit(
            pending,
            store,
            event,
            Place { outlier, ..Place::default() },
            Verdict::Accepted,
        )
        .await;
    }
    let (_, missing) = followed(pending, store, event.prev_events()).await?;
    let before = match (before, missing.is_empty()) {
        (StateBefore::Given(state), _) => StateBefore::Given(state),
        (_, true) => StateBefore::Followed,
        (_, false) => {
            let current = pending.tip.state;
            let current = match current {
                Some(state) => store.state_nids(state).await?,
                None => Vec::new(),
            };
            StateBefore::Given(current)
        }
    };
    received(pending, store, event, (&before, PolicyCheck::NotDue), outlier).await
}

/// Takes a membership of a user of this server in a room of which nothing else is known: nothing can be
/// checked here, and the membership is all of the room's state.
///
/// # Errors
/// When the database fails.
pub(crate) async fn out_of_band(
    pending: &PendingRoom,
    store: &Store,
    event: Event,
    outlier: Option<EventNid>,
) -> Result<Admitted> {
    admit(pending, store, event, Place { outlier, ..Place::default() }, Verdict::Accepted).await
}

/// Checks a received event by the state before it and by the current state.
async fn check_by_states(
    pending: &PendingRoom,
    store: &Store,
    event: &Event,
    before: StateNid,
    current: Option<StateNid>,
) -> Result<Verdict> {
    let rules = &pending.room.rules.authorization;
    let keys = state_keys_to_check(
        event.event_type(),
        event.sender(),
        event.state_key(),
        event.content(),
        rules,
    );
    // A malformed one was rejected by its auth events already.
    let Ok(keys) = keys else { return Ok(Verdict::Rejected) };
    let states = [(Some(before), Verdict::Rejected), (current, Verdict::SoftFailed)];
    for (state, verdict) in states {
        let allowing = pending.look_up(store, state, &keys).await?;
        let checked = check_by_state(event, rules, |kind, key| held(&allowing, kind, key));
        if let Err(rejection) = checked {
            tracing::debug!(event_id = %event.event_id(), %rejection, ?verdict, "not allowed");
            return Ok(verdict);
        }
    }
    Ok(Verdict::Accepted)
}

/// Names the event, and makes the state after it.
async fn admit(
    pending: &PendingRoom,
    store: &Store,
    event: Event,
    place: Place,
    verdict: Verdict,
) -> Result<Admitted> {
    let Place { prevs, missing_prevs, auths, state_before, enters, is_handed_over, outlier } =
        place;
    let context = &store.context;
    let sender = context.interned.user(event.sender()).await?;
    let type_name = event.event_type().to_string();
    let event_type = context.interned.event_type(&type_name).await?;
    let state_key_nid = match event.state_key() {
        Some(state_key) => Some(context.interned.state_key_nid(&type_name, state_key).await?),
        None => None,
    };
    let newest = prevs.iter().chain(&auths).max().copied();
    let nid = match outlier {
        Some(nid) => nid,
        None => context.nids.events(&context.db, 1, newest.unwrap_or(EventNid(0))).await?,
    };
    let mut new_state = None;
    if let (Some(state_key_nid), true) = (state_key_nid, verdict != Verdict::Rejected) {
        let mut change = StateChange::default();
        match Part::of(&type_name) {
            Part::Core => change.core.push((state_key_nid, Some(nid))),
            Part::Member => change.member.push((state_key_nid, Some(nid))),
        }
        let below = state_before.unwrap_or(StateNid(0));
        let own = context.nids.states(&context.db, 1, below).await?;
        let made = store.states().change(state_before, &change, own, &pending.trie).await?;
        new_state = Some(made);
    }
    let state_after = new_state.as_ref().map(|new| new.nid).or(state_before);
    let nowhere = || MatrixError::forbidden("a room begins with its create event");
    let event = event.with_rejected(verdict == Verdict::Rejected);
    Ok(Admitted {
        nid,
        sender,
        event_type,
        state_key_nid,
        prevs,
        missing_prevs,
        was_outlier: outlier.is_some(),
        enters,
        is_handed_over,
        auths,
        state_before,
        state_after: state_after.ok_or_else(nowhere)?,
        new_state,
        verdict,
        received_ts: context.now_ms(),
        event: Arc::new(event),
    })
}

pub(super) fn held(
    allowing: &Allowing,
    kind: &StateEventType,
    state_key: &str,
) -> Option<Arc<Event>> {
    let found = allowing.get(&(kind.clone(), state_key.to_owned()));
    found.map(|found| Arc::clone(&found.event))
}

async fn known(
    pending: &PendingRoom,
    store: &Store,
    ids: &[OwnedEventId],
) -> Result<Vec<Arc<RoomEvent>>> {
    let mut events = Vec::with_capacity(ids.len());
    for id in ids {
        events.push(pending.find(store, id).await?.ok_or_else(|| unknown(id))?);
    }
    Ok(events)
}

/// Returns which of the events are part of the room here, and which are not.
async fn followed(
    pending: &PendingRoom,
    store: &Store,
    ids: &[OwnedEventId],
) -> Result<(Vec<EventNid>, Vec<OwnedEventId>)> {
    let (mut prevs, mut missing) = (Vec::with_capacity(ids.len()), Vec::new());
    for id in ids {
        let found = pending.find(store, id).await?.filter(|found| found.room == pending.room.nid);
        match found.filter(|found| found.state_after.is_some()) {
            Some(found) => prevs.push(found.nid),
            None => missing.push(id.clone()),
        }
    }
    Ok((prevs, missing))
}

fn unknown(id: &EventId) -> MatrixError {
    MatrixError::not_found(format!("{id} is not known in this room"))
}

/// Returns the room's create event where the room id stands for it, so that it is not among the
/// auth events.
async fn create_event(pending: &PendingRoom, store: &Store) -> Result<Option<Arc<RoomEvent>>> {
    match create_id(pending) {
        Some(id) => pending.find(store, &id).await,
        None => Ok(None),
    }
}

/// Returns the id of the create event that a room is named by, of which nobody says that it allows him.
pub(crate) fn create_id(pending: &PendingRoom) -> Option<OwnedEventId> {
    let named_by_it = pending.room.rules.authorization.room_create_event_id_as_room_id;
    let id = format!("${}", pending.room.room_id.strip_sigil());
    named_by_it.then(|| EventId::parse(id).ok()).flatten()
}

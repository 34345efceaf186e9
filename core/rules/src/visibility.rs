//! Who may see an event, by the history visibility of its room (Matrix v1.19, client-server,
//! §Room history visibility).
//!
//! Other reasons not to serve an event (a client may not ask about the room at all, ignored
//! senders, soft failure) are the caller's.

use colonnade_model::{ruma::events::room::member::MembershipState, stream::Position};
use serde::Deserialize;

use crate::event::Event;

#[cfg(test)]
mod tests;

/// The history visibility of a room at some state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Visibility {
    /// Anybody may see what happens.
    WorldReadable,
    /// Members may see everything, also from before they joined. What holds when nothing else
    /// is said, or nothing that can be understood.
    #[default]
    Shared,
    /// Members may see what happened since they were invited.
    Invited,
    /// Members may see what happened since they joined.
    Joined,
}

impl Visibility {
    /// Reads the room's `m.room.history_visibility` event, if it has one.
    pub fn of(event: Option<&Event>) -> Self {
        #[derive(Deserialize)]
        struct Content {
            history_visibility: String,
        }
        let content = event.and_then(|event| event.content_as::<Content>().ok());
        match content.as_ref().map(|content| content.history_visibility.as_str()) {
            Some("world_readable") => Self::WorldReadable,
            Some("invited") => Self::Invited,
            Some("joined") => Self::Joined,
            _ => Self::Shared,
        }
    }
}

/// A value just before and just after an event. The two differ only if the event is what changes
/// it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Around<T> {
    /// By the state before the event.
    pub before: T,
    /// By the state after the event.
    pub after: T,
}

impl<T: Clone> Around<T> {
    /// The value at an event that does not change it.
    pub fn same(value: T) -> Self {
        Self { before: value.clone(), after: value }
    }
}

/// All that decides whether a user may see an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sight {
    /// The room's history visibility.
    pub visibility: Around<Visibility>,
    /// The user's membership; `None` if they had no member event.
    pub membership: Around<Option<MembershipState>>,
    /// Whether the user joined at any point after the event was sent; true for whoever is in the
    /// room now.
    pub joined_later: bool,
}

/// Tells whether a user may see an event.
///
/// An event that changes the visibility, or the user's own membership, is seen by whoever would
/// see it under either value.
pub fn may_see(sight: &Sight) -> bool {
    let Sight { visibility, membership, joined_later } = sight;
    let mut any = false;
    for visibility in [visibility.before, visibility.after] {
        for membership in [&membership.before, &membership.after] {
            any |= allows(visibility, membership.as_ref(), *joined_later);
        }
    }
    any
}

/// Tells whether a user who may see an event may know the state it happened in, too: who else was
/// there, what the room was called. Whoever was invited and never came may not, though the visibility
/// shows him what was said.
pub fn may_see_state(sight: &Sight) -> bool {
    let Sight { visibility, membership, joined_later } = sight;
    let came = *joined_later || [&membership.before, &membership.after].contains(&&JOINED);
    let open = [visibility.before, visibility.after].contains(&Visibility::WorldReadable);
    may_see(sight) && (came || open)
}

const JOINED: Option<MembershipState> = Some(MembershipState::Join);

/// Something that held from a position of the events stream on, until something else did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Since<T> {
    /// The position of the event that brought it.
    pub pos: Position,
    /// What held.
    pub value: T,
}

/// Returns the stretches of positions in which a user sees every event, both ends included, ascending
/// and apart from each other. What [`may_see`] says of an event by the states around it, this says of
/// all events at once: by what the visibility and the user's membership were from which position on,
/// oldest first. Before the first of them nothing is known, and nothing is seen. `joined_upto` is up
/// to where the user joined later; none for whoever never did.
pub fn stretches(
    visibilities: &[Since<Visibility>],
    memberships: &[Since<MembershipState>],
    joined_upto: Option<Position>,
) -> Vec<(Position, Position)> {
    let mut seen = Vec::new();
    for (visibility, first, last) in spans(visibilities) {
        match (visibility, joined_upto) {
            (Visibility::WorldReadable, _) => seen.push((first, last)),
            (Visibility::Shared, Some(upto)) => seen.push((first, last.min(upto))),
            _ => {}
        }
        for (membership, came, went) in spans(memberships) {
            if allows(*visibility, Some(membership), false) {
                seen.push((first.max(came), last.min(went)));
            }
        }
    }
    seen.retain(|(first, last)| first <= last);
    seen.sort_unstable();
    let mut apart: Vec<(Position, Position)> = Vec::with_capacity(seen.len());
    for (first, last) in seen {
        match apart.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => apart.push((first, last)),
        }
    }
    apart
}

/// Returns from where to where each of them held. The event that ends one is still judged by it, too.
fn spans<T>(since: &[Since<T>]) -> impl Iterator<Item = (&T, Position, Position)> {
    since.iter().enumerate().map(|(at, one)| {
        let last = since.get(at + 1).map_or(Position::MAX, |next| next.pos);
        (&one.value, one.pos, last)
    })
}

/// Steps as the specification numbers them.
fn allows(
    visibility: Visibility,
    membership: Option<&MembershipState>,
    joined_later: bool,
) -> bool {
    // 1. World readable.
    visibility == Visibility::WorldReadable
        // 2. A member at the event.
        || membership == Some(&MembershipState::Join)
        // 3. A member later, if that is enough.
        || visibility == Visibility::Shared && joined_later
        // 4. Invited at the event, if that is enough.
        || visibility == Visibility::Invited && membership == Some(&MembershipState::Invite)
    // 5. Nobody else.
}

/// Keeps of a page what the user may see. `sight` says what decides about an item; it is asked
/// once per item, in order, so it may remember the last state it looked at.
pub fn retain_visible<T>(page: &mut Vec<T>, mut sight: impl FnMut(&T) -> Sight) {
    page.retain(|item| may_see(&sight(item)));
}

//! How a room presents itself to those who see little of it: stripped state, heroes, a name.

use std::cmp::Reverse;

use colonnade_model::ruma::{
    OwnedUserId, UserId,
    events::{StateEventType, room::member::MembershipState},
};

#[cfg(test)]
mod tests;

/// The state that those invited to a room, or knocking on it, are shown; beside it their own
/// member event and its sender's (Matrix v1.19, client-server, §Stripped state).
pub const STRIPPED_STATE: [StateEventType; 7] = [
    StateEventType::RoomCreate,
    StateEventType::RoomName,
    StateEventType::RoomAvatar,
    StateEventType::RoomTopic,
    StateEventType::RoomJoinRules,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomEncryption,
];

/// The number of heroes a room shows (Matrix v1.19, client-server, `GET /sync`, `m.heroes`).
pub const HEROES_MAX: usize = 5;

/// A member of a room as a candidate for a hero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Who.
    pub user: OwnedUserId,
    /// Their current membership.
    pub membership: MembershipState,
    /// The stream position of their member event.
    pub position: i64,
}

/// Picks the members a room without a name is named after: the first joined or invited ones in
/// stream order; if there are none, the first of those who left or were banned. Never the viewer.
pub fn heroes(viewer: &UserId, members: impl IntoIterator<Item = Candidate>) -> Vec<OwnedUserId> {
    let mut present = Vec::new();
    let mut gone = Vec::new();
    for member in members {
        if member.user == viewer {
            continue;
        }
        match member.membership {
            MembershipState::Join | MembershipState::Invite => present.push(member),
            MembershipState::Leave | MembershipState::Ban => gone.push(member),
            _ => {}
        }
    }
    let mut heroes = if present.is_empty() { gone } else { present };
    heroes.sort_by(|one, two| (one.position, &one.user).cmp(&(two.position, &two.user)));
    heroes.truncate(HEROES_MAX);
    heroes.into_iter().map(|hero| hero.user).collect()
}

/// What a room's display name is made of, for one viewer.
#[derive(Clone, Debug, Default)]
pub struct Naming<'a> {
    /// `name` of `m.room.name`.
    pub name: Option<&'a str>,
    /// `alias` of `m.room.canonical_alias`.
    pub alias: Option<&'a str>,
    /// The display names of the [`heroes`].
    pub heroes: &'a [String],
    /// Joined and invited members, the viewer among them.
    pub members: u64,
}

/// Calculates the name of a room (Matrix v1.19, client-server, §Calculating the display name for
/// a room), for notifications; clients do it themselves, in their language.
pub fn display_name(room: &Naming<'_>) -> String {
    let given = |name: &Option<&str>| {
        name.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
    };
    // Steps 1 and 2.
    if let Some(name) = given(&room.name).or_else(|| given(&room.alias)) {
        return name;
    }
    // Step 3. The heroes do not include the viewer, the count does.
    let others = room.members.saturating_sub(1);
    let shown = room.heroes.len() as u64;
    let mut names = room.heroes.to_vec();
    names.sort_by_key(|name| Reverse(name.to_lowercase()));
    names.reverse();
    let joined = match names.split_last() {
        None => return "Empty Room".to_owned(),
        Some((last, [])) if others <= shown => last.clone(),
        Some((last, rest)) if others <= shown => format!("{} and {last}", rest.join(", ")),
        Some(_) => format!("{} and {} others", names.join(", "), others - shown),
    };
    if others == 0 { format!("Empty Room (was {joined})") } else { joined }
}

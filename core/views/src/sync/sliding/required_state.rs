//! Which state of a room a client wants to have.

/// The type of member events.
const MEMBER: &str = "m.room.member";

/// Some state, by type and state key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// The type; any if `None`.
    pub event_type: Option<String>,
    /// The state key; any if `None`.
    pub state_key: Option<String>,
}

impl Pattern {
    fn fits(&self, event_type: &str, state_key: &str) -> bool {
        self.event_type.as_deref().is_none_or(|own| own == event_type)
            && self.state_key.as_deref().is_none_or(|own| own == state_key)
    }
}

/// State that is wanted, but for some of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

impl Rule {
    fn wants(&self, event_type: &str, state_key: &str) -> bool {
        let fits = |pattern: &Pattern| pattern.fits(event_type, state_key);
        self.include.iter().any(fits) && !self.exclude.iter().any(fits)
    }
}

/// Which state is wanted: what any of some rules wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequiredState {
    rules: Vec<Rule>,
    /// The member events of who speaks, and of who comes and goes.
    is_lazy: bool,
}

impl RequiredState {
    /// Wants what one of `include` fits, and none of `exclude`.
    pub fn new(mut include: Vec<Pattern>, mut exclude: Vec<Pattern>, is_lazy: bool) -> Self {
        for patterns in [&mut include, &mut exclude] {
            patterns.sort_unstable();
            patterns.dedup();
        }
        let rules = if include.is_empty() { Vec::new() } else { vec![Rule { include, exclude }] };
        Self { rules, is_lazy }
    }

    /// Wants what another one wants, too.
    pub(super) fn join(&mut self, other: &Self) {
        self.rules.extend(other.rules.iter().cloned());
        self.rules.sort_unstable();
        self.rules.dedup();
        self.is_lazy |= other.is_lazy;
    }

    /// Tells whether members are wanted as they speak.
    pub(super) fn is_lazy(&self) -> bool {
        self.is_lazy
    }

    /// Tells whether some state is wanted.
    pub(super) fn wants(&self, event_type: &str, state_key: &str) -> bool {
        self.rules.iter().any(|rule| rule.wants(event_type, state_key))
    }

    /// Tells whether it wants more than can be named.
    pub(super) fn has_wildcard(&self) -> Wildcards {
        let patterns = self.rules.iter().flat_map(|rule| &rule.include);
        let mut found = Wildcards::default();
        for pattern in patterns {
            let of_member = pattern.event_type.as_deref() == Some(MEMBER);
            match (&pattern.event_type, &pattern.state_key) {
                (Some(_), Some(_)) => {}
                (Some(_), None) if of_member => found.members = true,
                (Some(_), None) => found.others = true,
                (None, _) => (found.members, found.others) = (true, true),
            }
        }
        found
    }

    /// Returns the state that it names, type and state key.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, &str)> {
        let patterns = self.rules.iter().flat_map(|rule| &rule.include);
        patterns.filter_map(|one| Some((one.event_type.as_deref()?, one.state_key.as_deref()?)))
    }
}

/// Of what a client wants more than it can name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wildcards {
    pub(super) members: bool,
    pub(super) others: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(event_type: Option<&str>, state_key: Option<&str>) -> Pattern {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Pattern { event_type: owned(event_type), state_key: owned(state_key) }
    }

    #[test]
    fn what_is_left_out_by_one_rule_another_may_want() {
        let all = pattern(None, None);
        let create = pattern(Some("m.room.create"), Some(""));
        let mut wanted = RequiredState::new(vec![all], vec![create.clone()], false);
        assert!(wanted.wants("m.room.name", "") && !wanted.wants("m.room.create", ""));
        wanted.join(&RequiredState::new(vec![create], Vec::new(), true));
        assert!(wanted.wants("m.room.create", "") && wanted.is_lazy());
        let twice = wanted.clone();
        wanted.join(&twice);
        assert_eq!(wanted, twice);
    }

    #[test]
    fn wildcards_are_told_from_names() {
        let of = |patterns| RequiredState::new(patterns, Vec::new(), false);
        let wildcards = |members, others| Wildcards { members, others };
        let name = pattern(Some("m.room.name"), Some(""));
        let own = pattern(None, Some("@a:b"));
        let members = pattern(Some(MEMBER), None);
        let children = pattern(Some("m.space.child"), None);
        for (patterns, expected) in [
            (vec![], wildcards(false, false)),
            (vec![name.clone()], wildcards(false, false)),
            (vec![own], wildcards(true, true)),
            (vec![members], wildcards(true, false)),
            (vec![name, children], wildcards(false, true)),
        ] {
            assert_eq!(of(patterns.clone()).has_wildcard(), expected, "{patterns:?}");
        }
    }
}
